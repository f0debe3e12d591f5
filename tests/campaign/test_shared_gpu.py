"""A GPU that others use, that lets one process in at a time, or whose memory is short."""

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from made_up_campaign import Bench, FakeWorker, records

from nncore_bench.campaign.conductor import Conductor
from nncore_bench.campaign.launcher import COMPILING_TIMEOUT_S, REQUEST_TIMEOUT_S, WorkerError, patience
from nncore_bench.campaign.plan import Plan
from nncore_bench.campaign.recorder import Recorder, too_little_memory
from nncore_bench.cases import PHASES, Case
from nncore_bench.machine.notices import notices_before
from nncore_bench.options import Options
from nncore_bench.records import CaseRecord
from nncore_bench.worker import messages
from nncore_bench.worker.device_memory import CONTEXT_BYTES, give_back_cached, seen_gpu
from nncore_bench.worker.server import Worker

CUDA_CASE = Case("simplenn", "digits", "cuda", "-", "float32", "eager", 32, 32)
GB = 10**9


def cuda_and_cpu() -> list[CaseRecord]:
    return [CaseRecord(CUDA_CASE, PHASES), *records(1)]


class OneGpu(Bench):
    """A machine with one GPU, of whose memory each worker takes a gigabyte."""

    def __init__(self, gigabytes: float = 80.0) -> None:
        super().__init__()
        self.gigabytes = gigabytes
        self.on_gpu = self.most_on_gpu = 0

    def start(self, device: str) -> FakeWorker:
        super().start(device)
        return Sharing(self, device)


class Sharing(FakeWorker):
    """A worker that has the GPU open for as long as it lives, and tells how its memory stands."""

    bench: OneGpu

    def __init__(self, bench: OneGpu, device: str) -> None:
        super().__init__(bench)
        self.takes, self.closed = int(device == "cuda"), False
        bench.on_gpu += self.takes
        bench.most_on_gpu = max(bench.most_on_gpu, bench.on_gpu)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self.bench.on_gpu -= self.takes
        self.closed = True

    def ask(self, request: messages.Request) -> messages.Reply:
        if isinstance(request, messages.Look):
            free = int((self.bench.gigabytes - self.bench.on_gpu) * GB)
            return messages.Seen("1234", free, int(self.bench.gigabytes * GB), GB)
        return super().ask(request)


def conducted(bench: OneGpu, *, one_at_a_time: bool = False) -> Conductor:
    plan = Plan(4, 1000.0, 0.5, least_rounds=8)
    conductor = Conductor(
        cuda_and_cpu(),
        plan,
        bench.start,
        bench.save,
        bench.progress,
        now=bench.now,
        one_at_a_time=one_at_a_time,
    )
    conductor.run()
    assert {b.launch for blocks in bench.rounds.values() for b in blocks if b.case == 0} == set(range(4))
    return conductor


def test_launches_on_a_gpu_that_lets_one_process_in_come_one_after_another() -> None:
    """All four of them, and the notice names the mode and not the memory."""
    bench = OneGpu()
    (notice,) = too_little_memory(conducted(bench, one_at_a_time=True))
    assert bench.most_on_gpu == 1
    assert "one process in at a time" in notice.cause
    assert "nvidia-smi -c DEFAULT" in notice.next_step


def test_launches_share_a_gpu_that_lets_them() -> None:
    """As they do wherever the mode is the default one."""
    bench = OneGpu()
    assert too_little_memory(conducted(bench)) == []
    assert bench.most_on_gpu == 4


@pytest.mark.parametrize(
    ("gigabytes", "beside"), [(5.2, 4), (4.1, 3), (3.3, 3), (3.1, 2), (2.1, 1), (1.0, 1)]
)
def test_launches_share_a_gpu_while_its_memory_holds_another_and_a_fifth_more(
    gigabytes: float, beside: int
) -> None:
    """Each takes a gigabyte of it; the host's memory would have sufficed for all."""
    bench = OneGpu(gigabytes)
    conductor = conducted(bench)
    assert bench.most_on_gpu == conductor.alongside == beside
    assert [n.cause.startswith("the GPU's memory sufficed") for n in too_little_memory(conductor)] == (
        [True] * (beside < 4)
    )


class FakeCuda(SimpleNamespace):
    """A GPU of 100 bytes of which the allocator holds some."""

    def __init__(self, reserved: int) -> None:
        super().__init__(reserved=reserved, emptied=0)

    def mem_get_info(self) -> tuple[int, int]:
        return 100 - self.reserved, 100

    def memory_reserved(self) -> int:
        return int(self.reserved)

    def max_memory_reserved(self) -> int:
        return 90

    def get_device_properties(self, _device: int) -> SimpleNamespace:
        return SimpleNamespace(total_memory=100, uuid="aabb-1")

    def empty_cache(self) -> None:
        self.emptied += 1


def test_a_worker_counts_its_context_and_its_peak_as_its_own() -> None:
    """The peak, since the next round comes to it again."""
    assert seen_gpu(FakeCuda(40)) == messages.Seen("aabb-1", 60, 100, 90 + CONTEXT_BYTES)


@pytest.mark.parametrize(("reserved", "emptied"), [(50, 0), (51, 1)])
def test_what_the_allocator_keeps_is_given_back_above_half_of_the_memory(reserved: int, emptied: int) -> None:
    """Below, giving it back would only cost the next case its allocations."""
    gpu = FakeCuda(reserved)
    give_back_cached(gpu)
    assert gpu.emptied == emptied


def test_memory_is_given_back_between_cases_and_never_between_blocks_of_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor for a case on the CPU."""
    given: list[int | None] = []
    worker = Worker()
    monkeypatch.setattr("nncore_bench.worker.server.give_back_cached", lambda: given.append(worker.last))
    for number, device in ((1, "cuda"), (1, "cuda"), (2, "cuda"), (3, "cpu"), (1, "cuda")):
        worker._turn_to(number, device)
    assert given == [None, 1, 3]


IN_USE = {"gpu_programs_before": 2, "gpu_busy_before": 35, "gpu_memory_used_gib": 12.3}


@pytest.mark.parametrize(
    ("facts", "cause", "step"),
    [
        (IN_USE, "2 other programs had the GPU open before the run began: it was 35 % busy", "nvidia-smi"),
        ({"gpu_programs_before": 1}, "1 other program had the GPU open", "--step-devices=cuda:1"),
        ({"gpu_busy_before": 6}, "it was 6 % busy", "nvidia-smi"),
        ({"gpu_compute_mode": "prohibited"}, "mode is prohibited", "nvidia-smi -c DEFAULT"),
        ({"gpu_mig_mode": "on"}, "divided into slices (MIG)", "of the slice"),
        ({"gpu": "unknown"}, "NVML) is missing or does not answer", "nvidia-smi works here"),
    ],
)  # fmt: skip
def test_a_gpu_that_is_not_the_runs_alone_is_one_sentence(
    facts: dict[str, Any], cause: str, step: str
) -> None:
    """With what to do, and only where a GPU is measured."""
    assert notices_before(facts, ["-"], {"cpu"}) == ()
    (notice,) = notices_before(facts, ["-"], {"cuda"})
    assert cause in notice.cause
    assert step in notice.next_step


def test_an_idle_gpu_of_ones_own_is_not_warned_of() -> None:
    """Drawing the screen keeps it a few percent busy."""
    facts: dict[str, Any] = {"gpu": "Made-up GPU", "gpu_compute_mode": "default", "gpu_mig_mode": "off"}
    facts |= {"gpu_programs_before": 0, "gpu_busy_before": 5, "gpu_memory_used_gib": 0.5}
    assert notices_before(facts, ["-"], {"cuda"}) == ()
    assert notices_before(dict.fromkeys(facts.keys() - {"gpu"}, "unknown"), ["-"], {"cuda"}) == ()


def test_only_preparing_what_is_compiled_may_take_minutes() -> None:
    """A cold search for the fastest kernels does; a hang is noticed as soon as before."""
    for variant, seconds in (
        ("eager", REQUEST_TIMEOUT_S),
        ("fused", REQUEST_TIMEOUT_S),
        ("compile-max+fused", COMPILING_TIMEOUT_S),
        ("compile", COMPILING_TIMEOUT_S),
    ):
        case = Case("simplenn", "digits", "cuda", "-", "float32", variant, 32, 32)
        assert patience(messages.Prepare(0, case, warm_up=True)) == seconds
        in_time = patience(messages.Prepare(0, case, warm_up=True), compile_by=time.monotonic() - 5)
        assert in_time == (1.0 if seconds == COMPILING_TIMEOUT_S else seconds)
    assert patience(messages.Measure(0, "plain", 4)) == REQUEST_TIMEOUT_S


class FakeLauncher:
    """Start workers of a made-up GPU, which may be refused."""

    def __init__(self, bench: OneGpu, refused: str = "") -> None:
        self.bench, self.refused = bench, refused
        self.hello = messages.Hello(2, cuda=True, facts={"code_path": "/"})

    def start(self, device: str) -> FakeWorker:
        if self.refused:
            raise WorkerError(self.refused)
        return self.bench.start(device)

    def fork(self) -> FakeWorker:
        return self.bench.start("cpu")

    def memory_bytes(self) -> None:
        return None


def recorded(
    bench: OneGpu,
    monkeypatch: pytest.MonkeyPatch,
    results: Path,
    refused: str = "",
    devices: str = "cpu,cuda",
    **facts: str | None,
) -> Recorder:
    """Return the recorder of a run on that GPU, whose library tells these facts."""
    told = {"gpu": "Made-up GPU", "gpu_uuid": "GPU-1234", **facts}
    monkeypatch.setattr(
        "nncore_bench.machine.facts.gpu_facts", lambda _: {k: v for k, v in told.items() if v}
    )
    options = Options.build({"step_results": str(results), "step_devices": devices})
    launcher = FakeLauncher(bench, refused)
    recorder = Recorder(options, cuda_and_cpu(), launcher)  # type: ignore[arg-type] # a stand-in
    recorder.record(Plan(4, 1.0, 0.5, least_rounds=4), bench.progress)
    return recorder


def test_a_run_opens_an_exclusive_gpu_in_one_process_at_a_time_from_beginning_to_end(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Opening, four launches, counting and profiling; at the end nobody has it."""
    bench = OneGpu()
    run = recorded(bench, monkeypatch, tmp_path, gpu_compute_mode="exclusive process").run
    assert (bench.most_on_gpu, bench.on_gpu, bench.alive) == (1, 0, 0)
    assert bench.started.count("cuda") >= 4
    assert {record.status for record in run.cases} == {"ok"}


def test_a_run_shares_a_gpu_of_default_mode_among_its_launches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And gives it back at its end: another campaign may follow."""
    bench = OneGpu()
    recorded(bench, monkeypatch, tmp_path, gpu_compute_mode="default")
    assert bench.most_on_gpu >= 4
    assert (bench.on_gpu, bench.alive) == (0, 0)


def test_a_gpu_that_cannot_be_had_fails_its_cases_with_the_reason_and_those_of_the_cpu_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As where its compute mode is prohibited or no byte of it is free."""
    run = recorded(OneGpu(), monkeypatch, tmp_path, "out of memory: CUDA error: out of memory").run
    assert [record.status for record in run.cases] == ["failed", "ok"]
    assert run.cases[0].reason == "out of memory: CUDA error: out of memory"


def test_a_gpu_without_its_library_is_measured_and_unknown(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A driver without NVML: one notice, and the times of both devices."""
    run = recorded(OneGpu(), monkeypatch, tmp_path, gpu=None, gpu_uuid=None).run
    assert {record.status for record in run.cases} == {"ok"}
    assert run.machine["gpu"] == "unknown"
    assert sum("(NVML) is missing" in notice.cause for notice in run.notices) == 1


def test_a_context_that_cannot_be_made_is_refused_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the process that tried is not said to be of no use where memory was short."""
    for error, said in (
        (
            torch.AcceleratorError("CUDA error: out of memory\nCompile with ..."),
            "out of memory: CUDA error: out of",
        ),
        (
            torch.AcceleratorError("CUDA error: CUDA-capable device(s) is/are busy or unavailable\nSearch"),
            "unavailable (another process holds the GPU for itself, or its compute mode is prohibited",
        ),
    ):

        def raised(error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(torch.cuda, "mem_get_info", raised)
        reply = Worker().answer(messages.Look())
        assert isinstance(reply, messages.Refused if "out of memory" in said else messages.Ended)
        assert said in reply.reason
        assert "\n" not in reply.reason
