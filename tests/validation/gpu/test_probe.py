"""The probe runs through with stand-ins for CUDA on a CPU, and loses no more than what fails."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import probe as probe_module
import pytest
import readings_of_device
import readings_of_steps
import torch
from made_up_probe import made_up_probe
from probe import probe, readings
from readings_in_processes import in_python

NVML = SimpleNamespace(
    NVML_CLOCK_SM=1,
    nvmlInit=lambda: None,
    nvmlDeviceGetHandleByIndex=lambda number: number,
    nvmlDeviceGetMemoryInfo=lambda _gpu: SimpleNamespace(used=2**20),
    nvmlDeviceGetClockInfo=lambda _gpu, _kind: int(time.perf_counter() * 1000),
    nvmlDeviceGetPowerUsage=lambda _gpu: 70_000,
    nvmlDeviceGetUUID=lambda _gpu: "GPU-1",
    nvmlDeviceGetComputeMode=lambda _gpu: 0,
)


class Event:
    """Stand in for an event: it keeps the host's time, in milliseconds as CUDA does."""

    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing
        self.ms = 0.0

    def record(self, _stream: object = None) -> None:
        self.ms = time.perf_counter() * 1000

    def elapsed_time(self, later: "Event") -> float:
        return later.ms - self.ms


class Graph:
    """Stand in for a graph that computes nothing."""

    def replay(self) -> None:
        """Do nothing."""


@pytest.fixture
def on_a_cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put stand-ins where the readings use CUDA, and have them read less."""
    stream = SimpleNamespace(wait_stream=lambda _other: None)
    cuda = {
        "synchronize": lambda: None,
        "Event": Event,
        "CUDAGraph": Graph,
        "graph": lambda _graph: nullcontext(),
        "stream": lambda _stream: nullcontext(),
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "_sleep": lambda _cycles: None,
        "get_device_properties": lambda _number: SimpleNamespace(name="Made-up GPU", uuid="1"),
    }
    for name, stand_in in cuda.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    monkeypatch.setitem(sys.modules, "pynvml", NVML)
    for module in (readings_of_device, readings_of_steps):
        monkeypatch.setattr(module, "DEVICE", "cpu")
    less: dict[Any, dict[str, Any]] = {
        readings_of_device: {
            "BATCHES": (1, 32),
            "SIDES": (64,),
            "COPIED_MIB": (1,),
            "LOADED": 64,
            "LOAD_S": 0.05,
            "IDLE_S": 0.0,
        },
        readings_of_steps: {
            "SIZES": ((32, 128),),
            "FORMS": {name: {} for name in readings_of_steps.FORMS},
            "WARM_UP": 1,
            "TRIED": 2,
            "FEWEST": 2,
            "REPEAT_S": 0.001,
            "REPEATS": 2,
            "PROFILED": 2,
        },
    }
    for module, constants in less.items():
        for name, value in constants.items():
            monkeypatch.setattr(module, name, value)
    yield
    torch.set_float32_matmul_precision("highest")


NOT_ON_A_CPU = ("start_up", "forked", "failed_capture", "compiled")
NAMES = [name for name, _ in readings()]


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NOT_ON_A_CPU])
@pytest.mark.filterwarnings("ignore:CUDA is not available, disabling CUDA profiling")
@pytest.mark.usefixtures("on_a_cpu")
def test_a_reading_has_the_figures_that_the_made_up_one_has(name: str) -> None:
    found, made_up = json.loads(json.dumps(dict(readings())[name]())), made_up_probe()[name]
    shared = found.keys() & made_up.keys()
    assert shared or name == "ceilings"  # whose names have the sizes in them
    for figure in shared:
        if isinstance(made_up[figure], dict):
            assert found[figure].keys() >= made_up[figure].keys()


def test_the_made_up_probe_has_every_reading() -> None:
    assert list(made_up_probe()) == NAMES


def test_a_reading_that_fails_says_so_and_the_rest_goes_on(tmp_path: Path) -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("no such event")

    file = tmp_path / "probe.json"
    probe(iter([("events", broken), ("waits", lambda: {"item_us": 9.0})]), file)
    found = json.loads(file.read_text())
    assert found["events"] == {"error": "RuntimeError: no such event"}
    assert found["waits"] == {"item_us": 9.0}


def test_nothing_is_compiled_after_the_first_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe_module, "COMPILING_BEFORE_S", 0.0)
    file = tmp_path / "probe.json"
    probe(iter([("compiled", lambda: {"default": 1.0})]), file)
    assert json.loads(file.read_text())["compiled"] == {"left_out": "no time left"}


def test_a_program_of_its_own_is_read_or_says_how_it_ended() -> None:
    assert in_python("print('noise'); print('{\"works\": true}')") == {"works": True}
    assert in_python("raise SystemExit('out')")["error"] == "exit code 1: out\n"
