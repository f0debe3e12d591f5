"""The passes after the campaign, with workers that answer at once."""

import time
from dataclasses import replace
from pathlib import Path

from made_up_runs import CPU_CASE, CUDA_CASE, record_of

from nncore_bench.campaign.launcher import WorkerError
from nncore_bench.campaign.passes import count_cases, lost_kernels, profile_cases, to_profile
from nncore_bench.companions import REFERENCE_KERNELS, SMALLEST_NETWORK
from nncore_bench.records import CaseCounters, CaseProfile, CaseRecord, DeviceActivity, PhaseCounters
from nncore_bench.variants import DEFAULT_ALLOCATOR
from nncore_bench.worker import messages

COUNTERS = CaseCounters({"forward": PhaseCounters(flop=13)})


class Counting:
    """Count what it holds; one case kills it, and another cannot be counted."""

    def __init__(self) -> None:
        self.held = CPU_CASE
        self.requests: list[messages.Request] = []

    def ask(self, request: messages.Request) -> messages.Reply:
        self.requests.append(request)
        if isinstance(request, messages.Prepare):
            assert not request.warm_up
            if request.case.batch_size == 99:
                return messages.Refused("out of memory")
            self.held = request.case
            return messages.Prepared({}, steady=True, correct={})
        if isinstance(request, messages.Forget):
            return messages.Done()
        if self.held.batch_size == 666:
            raise WorkerError("killed by signal 9")
        if self.held.batch_size == 13 or isinstance(request, messages.Profile):
            return messages.Refused("no luck")
        return messages.Counted(COUNTERS)


def silent(stage: str, done: int, total: int, seconds_left: float | None) -> None:
    """Show no progress."""


def test_what_would_be_counted_too_late_is_left_out_and_told() -> None:
    """Its times are complete."""
    counted, notices = count_cases([record_of(CPU_CASE)], lambda _: Counting(), silent, time.monotonic())
    assert counted == [record_of(CPU_CASE)]
    assert [notice.cause for notice in notices] == [
        f"{CPU_CASE.key} could not be counted (the time was over)"
    ]


def test_cases_are_counted_in_a_process_that_never_timed() -> None:
    """One new worker a device, since a dispatch mode can slow a process for good."""
    started: list[str] = []

    def start(pool: str) -> Counting:
        started.append(pool)
        return Counting()

    records = [record_of(replace(case, batch_size=n)) for case in (CPU_CASE, CUDA_CASE) for n in (1, 2)]
    counted, notices = count_cases(records, start, silent)
    assert started == ["cpu", "cuda"]
    assert [record.counters for record in counted] == [COUNTERS] * 4
    assert notices == []


def test_a_case_that_cannot_be_counted_is_a_notice_and_the_others_are_counted() -> None:
    """Refused or killed: the times stay good, and a new process goes on."""
    started: list[Counting] = []

    def start(_pool: str) -> Counting:
        started.append(Counting())
        return started[-1]

    records = [record_of(replace(CPU_CASE, batch_size=n)) for n in (13, 666, 1)]
    counted, notices = count_cases(records, start, silent)
    assert [record.counters for record in counted] == [None, None, COUNTERS]
    assert len(started) == 2
    assert "b13-h128 could not be counted (no luck)" in notices[0].cause
    assert "its worker process killed by signal 9" in notices[1].cause
    assert all(record.status == "ok" for record in counted)


def test_a_case_that_cannot_be_prepared_gets_no_other_cases_counters() -> None:
    """The worker still holds the case before it, and must not be asked to count that one."""
    worker = Counting()
    records = [record_of(replace(CPU_CASE, batch_size=n)) for n in (1, 99)]
    counted, (notice,) = count_cases(records, lambda _: worker, silent)
    assert [record.counters for record in counted] == [COUNTERS, None]
    assert "b99-h128 could not be counted (out of memory)" in notice.cause


def test_only_networks_that_went_well_are_counted() -> None:
    """Not what failed, not reference kernels, and not a case a second time under another allocator."""
    records = [
        record_of(CPU_CASE, status="failed", reason="out of memory"),
        record_of(CPU_CASE, role=REFERENCE_KERNELS),
        record_of(CPU_CASE, role=DEFAULT_ALLOCATOR),
    ]
    counted, _ = count_cases(records, lambda _: Counting(), silent)
    assert [record.counters for record in counted] == [None] * 3


def test_a_case_that_cannot_be_profiled_is_a_notice() -> None:
    """The times are complete without its operators; a worker that is gone is one, too."""
    profiles, notices = profile_cases(
        [record_of(CPU_CASE)],
        {("cpu", 0): Counting()},
        lambda _: Counting(),
        Path("nowhere"),
        silent,
        every=False,
    )
    assert profiles == []
    assert "could not be profiled (no luck)" in notices[0].cause


class Profiling:
    """Profile whatever it is asked for; one case kills it."""

    def __init__(self) -> None:
        self.fed: list[bool] = []

    def ask(self, request: messages.Request) -> messages.Reply:
        assert isinstance(request, messages.Profile)
        if request.case.batch_size == 666:
            raise WorkerError("was killed by signal 9")
        self.fed.append(request.fed)
        return messages.Profiled(CaseProfile(request.case, 1, 1.0, (), ()))


def test_a_worker_that_dies_costs_the_case_that_it_profiled_alone() -> None:
    """A new one is started for those after it."""
    started: list[Profiling] = []

    def start(_pool: str) -> Profiling:
        started.append(Profiling())
        return started[-1]

    records = [record_of(replace(CPU_CASE, batch_size=n)) for n in (1, 666, 2)]
    profiles, notices = profile_cases(
        records, {("cpu", 0): Profiling()}, start, Path("nowhere"), silent, every=True
    )
    assert [profile.case.batch_size for profile in profiles] == [1, 2]
    assert len(started) == 1
    assert "666" in notices[0].cause


def test_what_is_not_fed_is_not_fed_under_the_profiler() -> None:
    """Where fetching a batch of 65,536 would make hundreds of thousands of operators."""
    worker = Profiling()
    records = [
        record_of(CPU_CASE),
        record_of(replace(CPU_CASE, batch_size=65536), phases=("step", "forward")),
    ]
    profile_cases(records, {("cpu", 0): worker}, lambda _: worker, Path("nowhere"), silent, every=True)
    assert worker.fed == [True, False]


def test_kernels_that_the_profiler_lost_are_told() -> None:
    """Three of 17 steps of 45; a kernel that came with a graph has no launch that could be counted."""
    counted = record_of(CUDA_CASE, counters=CaseCounters({"step": PhaseCounters(kernel_launches=45)}))

    def said(kernels: int, in_graphs: int = 0, record: CaseRecord = counted) -> str:
        activity = DeviceActivity(0.5, 0, kernels / 17, 0, 0, 0, 0, 0, graph_kernels=in_graphs / 17)
        return lost_kernels(CaseProfile(CUDA_CASE, 17, 1.0, (), (), device=activity), record)

    assert said(17 * 45) == ""
    assert said(17 * 45 - 3) == "the profiler saw 762 kernels in 17 steps, counted 45 launches a step"
    assert said(17 * 60, in_graphs=17 * 15) == ""
    assert said(17 * 60, record=record_of(CUDA_CASE)) == ""


class LosesKernels:
    """Profile a step of two launches, of which the records of some kernels are lost."""

    def ask(self, request: messages.Request) -> messages.Reply:
        assert isinstance(request, messages.Profile)
        activity = DeviceActivity(0.5, 0, 1.5, 0, 0, 0, 0, 0)
        return messages.Profiled(CaseProfile(request.case, 2, 1.0, (), (), device=activity))


def test_a_profile_of_fewer_kernels_than_launches_disagrees() -> None:
    """As one of other operators does."""
    record = record_of(CUDA_CASE, counters=CaseCounters({"step": PhaseCounters(kernel_launches=2)}))
    workers = {("cuda", 0): LosesKernels()}
    (profile,), _ = profile_cases(
        [record], workers, lambda _: LosesKernels(), Path("nowhere"), silent, every=True
    )
    assert profile.disagreement == "the profiler saw 3 kernels in 2 steps, counted 2 launches a step"


def test_every_case_or_one_of_each_device_is_profiled_and_the_smallest_network_beside() -> None:
    """Nearest to batch 128 and width 128 where one is enough; what failed is left out."""
    sizes = [replace(CPU_CASE, batch_size=n) for n in (1, 128, 999)]
    smallest = replace(CPU_CASE, batch_size=1, hidden=8)
    records = [
        *(record_of(case) for case in sizes),
        record_of(CPU_CASE, status="failed", reason="out of memory"),
        record_of(smallest, role=SMALLEST_NETWORK),
        record_of(replace(smallest, threads=2), role=SMALLEST_NETWORK),
    ]
    assert to_profile(records, every=False) == [1, 4]
    assert to_profile(records, every=True) == [0, 1, 2, 4]
