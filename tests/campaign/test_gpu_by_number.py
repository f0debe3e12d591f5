"""Which GPU is measured: the one that was asked for, and its facts are those that torch means by it."""

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_nvml import library, refuse
from test_shared_gpu import CUDA_CASE, FakeLauncher, OneGpu, recorded

from nncore_bench.campaign.plan import Plan
from nncore_bench.campaign.session import Suite
from nncore_bench.errors import UserError
from nncore_bench.gate import gate
from nncore_bench.machine.gpu import chosen_gpu, gpu_facts_by_uuid
from nncore_bench.options import Options
from nncore_bench.worker import messages


def test_the_facts_are_those_of_the_gpu_whose_uuid_torch_reports() -> None:
    """CUDA puts the fastest first; how that one was before the run nobody has looked at."""
    facts = {"gpu": "Made-up GPU 0", "gpu_uuid": "GPU-aaaa-1", "gpu_busy_before": 0}
    found = gpu_facts_by_uuid(facts, "cccc-3", library())
    assert (found["gpu"], found["gpu_uuid"], found["gpu_busy_before"]) == (
        *("Made-up GPU 2", "GPU-cccc-3", "unknown"),
    )
    assert gpu_facts_by_uuid(facts, "aaaa-1", library()) == {}
    assert gpu_facts_by_uuid(facts, "", library()) == {}
    assert gpu_facts_by_uuid(facts, "dddd-4", library()) == {}  # as of a slice
    assert gpu_facts_by_uuid(facts, "cccc-3", library(nvmlInit=refuse)) == {}


@pytest.mark.parametrize(
    ("number", "visible", "shown"),
    [(None, "2,3", None), (1, None, "1"), (0, "2,3", "2"), (1, "2, 3", "3"), (2, "2,3", "-1"), (0, "", "")],
)
def test_a_gpu_by_number_is_that_number_of_those_that_are_visible(
    number: int | None, visible: str | None, shown: str | None
) -> None:
    """One that is not there leaves none to be seen."""
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert chosen_gpu(number, environment) == ({} if shown is None else {"CUDA_VISIBLE_DEVICES": shown})


@pytest.mark.parametrize(
    ("text", "devices", "kinds", "number"),
    [
        ("cpu,cuda", ("cpu", "cuda"), ("cpu", "cuda"), None),
        ("cuda:0,cuda", ("cuda",), ("cuda",), None),
        ("cpu,cuda:1", ("cpu", "cuda:1"), ("cpu", "cuda"), 1),
    ],
)
def test_a_gpu_may_be_asked_for_by_number(
    text: str, devices: Sequence[str], kinds: Sequence[str], number: int | None
) -> None:
    """Cases name it cuda, as the code that is measured does; the options on record name its number."""
    options = Options.build({"step_devices": text})
    assert (options.devices, options.kinds_of_device, options.gpu_number) == (devices, kinds, number)
    assert options.as_record()["devices"] == list(devices)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cuda:x", "'cuda:x' is not one of cpu, cuda (or cuda:1 and the like)"),
        ("cpu:1", "'cpu:1' is not one of"),
        ("cuda:", "'cuda:' is not one of"),
        ("cuda,cuda:1", "cuda and cuda:1 are two GPUs, but a run measures one"),
    ],
)
def test_a_run_measures_one_gpu(text: str, said: str) -> None:
    """Two would be told by their names alone, while a report compares one with the CPU."""
    with pytest.raises(UserError) as error:
        Options.build({"step_devices": text})
    assert str(error.value).startswith(f"--step-devices: {said}")


def test_a_number_without_a_gpu_is_refused_before_anything_is_measured() -> None:
    """Also beside the CPU: it was asked for by its number. Plain cuda is looked for, and left out."""
    launcher: Any = SimpleNamespace(hello=messages.Hello(2, cuda=False, facts={}))
    for text in ("cuda:7", "cpu,cuda:7"):
        with pytest.raises(UserError, match="'cuda:7' was asked for and no CUDA device was found"):
            Suite(Options.build({"step_devices": text}), launcher).refuse_what_cannot_be()
    suite = Suite(Options.build({"step_devices": "cpu,cuda"}), launcher)
    suite.refuse_what_cannot_be()
    assert {suite.skip_reason(c) for c in suite.cases if c.device == "cuda"} == {"no CUDA device was found"}


@pytest.mark.machine
def test_a_run_on_a_gpu_by_number_shows_its_workers_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What is on record as visible is that one, and the options say which it is."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    run = recorded(OneGpu(), monkeypatch, tmp_path, devices="cpu,cuda:1").run
    assert run.machine["cuda_visible_devices"] == "6"
    assert run.options["devices"] == ["cpu", "cuda:1"]
    suite = Suite(Options.build({"step_devices": "cuda:1"}))
    try:
        assert suite.launcher._policy["CUDA_VISIBLE_DEVICES"] == "6"
    finally:
        suite.close()


def test_a_run_records_the_facts_of_the_gpu_that_its_first_worker_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Torch says 1234, and the library had said 9999 of the first on the bus."""
    other = {"gpu": "The GPU of torch", "gpu_uuid": "GPU-1234"}
    seen: list[tuple[str, str]] = []

    def told(facts: dict[str, Any], uuid: str) -> dict[str, Any]:
        seen.append((facts["gpu_uuid"], uuid))
        return other

    monkeypatch.setattr("nncore_bench.campaign.recorder.gpu_facts_by_uuid", told)
    recorder = recorded(OneGpu(), monkeypatch, tmp_path, gpu_uuid="GPU-9999")
    assert seen == [("GPU-9999", "1234")]
    assert recorder.run.machine["gpu"] == "The GPU of torch"
    assert recorder._environment["CUDA_VISIBLE_DEVICES"] == "GPU-1234"  # by which clocks are read


def test_what_checked_a_case_does_not_hold_the_gpu_while_it_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As advice does before its campaign."""
    bench = OneGpu()
    suite = Suite(Options.build({"step_devices": "cuda"}), FakeLauncher(bench))  # type: ignore[arg-type]
    assert not suite.check(CUDA_CASE)
    assert bench.on_gpu == 1
    held: list[int] = []
    recorder = SimpleNamespace(record=lambda *_: held.append(bench.on_gpu))
    monkeypatch.setattr("nncore_bench.campaign.session.Recorder", lambda *_: recorder)
    suite.measure([(CUDA_CASE, "step")], Plan(1, 1.0, 0.5), bench.progress)
    assert held == [0]


@pytest.mark.parametrize("mode", ["exclusive process", "exclusive thread", "default", "unknown"])
def test_a_gate_is_refused_a_gpu_that_lets_one_process_in(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """Its two arms have it open together."""
    monkeypatch.setattr(Suite, "skip_reason", lambda *_: "")
    monkeypatch.setattr(gate, "gpu_facts", lambda _: {"gpu_compute_mode": mode})
    raw = {"step_devices": "cuda", "step_batch_sizes": "32", "step_hidden": "128", "step_threads": "1"}
    asked: Any = SimpleNamespace(options=Options.build(raw), cases=None)
    if mode.startswith("exclusive"):
        with pytest.raises(UserError, match="lets one process in at a time"):
            gate.chosen_cases(asked)
    else:
        assert [case.device for case in gate.chosen_cases(asked)] == ["cuda"]
