"""Marks on the device: by a made-up one, whose every time is known, and that nobody waits for."""

from pathlib import Path

from fake_device import FakeDevice

from nncore_bench.watch.device import DeviceMarks
from nncore_bench.watch.fold import watched_of, windows_of
from nncore_bench.watch.marks import DEVICE_FILE, Marks, make_room, read_marks, window_mark
from nncore_bench.watch.windows import WATCHED

KERNELS = {"forward": 100_000, "backward": 200_000, "optimizer": 50_000}
NAMES = ["other", *KERNELS]


def failed(error: BaseException) -> None:
    raise error


def test_phases_have_the_times_of_their_kernels_and_the_host_never_waits(tmp_path: Path) -> None:
    device = FakeDevice(launch_ns=1_000)
    make_room(tmp_path / DEVICE_FILE, 1_000)
    marks = DeviceMarks(Marks(tmp_path, DEVICE_FILE), device)
    switched: list[str] = []
    for window in range(3):
        marks.collect()
        marks.window(window_mark(WATCHED, 0, 4 * window), 1 + device.host_ns)
        switch = marks.beside(switched.append, NAMES.index, failed)
        for _ in range(4):
            for name, kernel_ns in KERNELS.items():
                switch(name)
                device.launch(kernel_ns)
            marks.stepped(0)
            switch("other")
    assert device.waits == 0
    assert switched == [*KERNELS, "other"] * 12
    assert not list(read_marks(tmp_path, DEVICE_FILE))  # the host is far ahead
    device.synchronize()
    marks.collect()
    watched = watched_of(windows_of(read_marks(tmp_path, DEVICE_FILE), NAMES))
    assert watched.after == [0, 4, 8]
    for parts in watched.parts_ns:
        assert {name: set(parts[name]) for name in KERNELS} == {name: {ns} for name, ns in KERNELS.items()}


def test_events_are_used_again(tmp_path: Path) -> None:
    device = FakeDevice(launch_ns=1_000)
    make_room(tmp_path / DEVICE_FILE, 1_000)
    marks = DeviceMarks(Marks(tmp_path, DEVICE_FILE), device)
    made = 0

    class Counting:
        current_stream = device.current_stream

        def Event(self, *, enable_timing: bool) -> object:  # noqa: N802 - torch's own name
            nonlocal made
            made += 1
            return device.Event(enable_timing=enable_timing)

    marks = DeviceMarks(Marks(tmp_path, DEVICE_FILE), Counting())
    for window in range(5):
        marks.window(window_mark(WATCHED, 0, window), 1 + device.host_ns)
        for _ in range(7):
            marks.record(1)
        device.synchronize()
        marks.collect()
    assert made == 7


def test_an_event_that_fails_is_told_and_the_step_goes_on(tmp_path: Path) -> None:
    class Broken:
        def Event(self, *, enable_timing: bool) -> object:  # noqa: N802 - torch's own name
            raise RuntimeError(f"no events, timing {enable_timing}")

    make_room(tmp_path / DEVICE_FILE, 1_000)
    marks = DeviceMarks(Marks(tmp_path, DEVICE_FILE), Broken())
    marks.window(window_mark(WATCHED, 0, 0), 1)
    told: list[BaseException] = []
    switched: list[str] = []
    marks.beside(switched.append, NAMES.index, told.append)("forward")
    assert (str(told[0]), switched) == ("no events, timing True", ["forward"])
