"""The self-test: the instrument measures known times on the user's own machine.

It runs the same campaign as the suite, with the same workers, blocks, estimates and tables. Its subjects are
busy-waits, delays planted in a phase, and cases entered twice.
"""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import pandas as pd

from nncore_bench.campaign.conductor import Conductor, Progress
from nncore_bench.campaign.launcher import Launcher, Worker, WorkerError
from nncore_bench.campaign.plan import Plan
from nncore_bench.campaign.session import COMPARED, own_part
from nncore_bench.cases import DOES_NOT_APPLY, SIMPLENN, STEP_PHASES, Case
from nncore_bench.companions import MIDDLE_NETWORK, REFERENCE_KERNELS, SMALLEST_NETWORK, companions_of
from nncore_bench.estimate.estimates import launch_spread
from nncore_bench.estimate.results import rows_of
from nncore_bench.estimate.rows import Row
from nncore_bench.estimate.source import Source, read_source
from nncore_bench.gate.pairs import SideError
from nncore_bench.gate.ratios import PairRatios
from nncore_bench.records import CaseCounters, CaseRecord
from nncore_bench.report.report import render, write_tables
from nncore_bench.runs import BENCHMARK_FILE, OUR_KEY, Block, Code, Run, plain_json, replace_file
from nncore_bench.selftest import checks
from nncore_bench.selftest.checks import Check
from nncore_bench.selftest.resolution import Resolution, equal_pairs, resolutions
from nncore_bench.text.format import UNITS
from nncore_bench.worker import messages

WAITS_US = (20, 200, 2_000, 20_000)
PLANTED_S = 300e-6
INPUTS, CLASSES = 784, 10
NETWORK, TWIN = SIMPLENN, f"twin:{SIMPLENN}"
PLANTED_CASE = Case(NETWORK, "digits", "cpu", 1, "float32", "eager", 32, 32)
COUNTED_SIZES = ((1, 32), (32, 128), (128, 512))
REPEATS = 20
CLOCK_READINGS = 100_000
CLOCK_SPANS, CLOCK_SPAN_NS = 60, 5_000_000
DEVICE_ITERATIONS = 20
MICRO = 1e-6


@dataclass(frozen=True)
class Effort:
    """Extent of a self-test: launches, seconds of the campaign, the sizes of the twins, and launch pairs."""

    launches: int
    budget_s: float
    twins: tuple[tuple[int, int], ...]
    pairs: int


FULL = Effort(4, 40.0, tuple((batch, hidden) for batch in (1, 32, 128) for hidden in (32, 128, 512)), 8)
QUICK = Effort(2, 12.0, ((32, 32), (32, 128), (128, 128)), 4)
NETWORKS = (SMALLEST_NETWORK, MIDDLE_NETWORK)


def cases_of(effort: Effort) -> list[Case]:
    """Return the cases: busy-waits, a delay in each phase, and pairs of twins."""
    waits = [replace(PLANTED_CASE, subject=f"busy-wait:{wait}", dataset=DOES_NOT_APPLY, batch_size=1,
                     hidden=DOES_NOT_APPLY) for wait in WAITS_US]  # fmt: skip
    planted = [replace(PLANTED_CASE, subject=f"planted:{phase}") for phase in STEP_PHASES]
    twins = [
        replace(PLANTED_CASE, subject=subject, batch_size=batch, hidden=hidden)
        for batch, hidden in effort.twins
        for subject in (NETWORK, TWIN)
    ]
    return [*waits, *planted, *twins]


def selftest(effort: Effort, progress: Progress) -> Iterator[Check | list[Resolution]]:
    """Yield every check, and at last what can be told apart; raises WorkerError without any worker."""
    with closing(Launcher()) as launcher:
        yield from checks_of(lambda: [clock_check(launcher.fork())], "clock")
        yield from checks_of(lambda: list(counter_checks(launcher.fork())), "counters")
        if launcher.hello.cuda:
            yield from checks_of(lambda: [device_check(launcher.start("cuda"))], "clock on CUDA")
        blocks: list[Block] = []
        networks = [one.case for one in companions_of([PLANTED_CASE], []) if one.role in NETWORKS]
        parts = *STEP_PHASES, "step"
        records = [CaseRecord(case, parts, block_share=COMPARED) for case in cases_of(effort)]
        records += [
            CaseRecord(case, parts, role=role, block_share=COMPARED)
            for case, role in zip(networks, NETWORKS, strict=True)
        ]
        plan = Plan(effort.launches, effort.budget_s, target=1e-9)  # rounds as the budget allows
        conductor = Conductor(
            records, plan, lambda _: launcher.fork(), lambda more, *_: blocks.extend(more), progress
        )
        campaign = conductor.run()
    code = Code(".", "unknown", dirty=False)
    cases, beside = (
        tuple(one for one in conductor.cases if bool(one.role) == role) for role in (False, True)
    )
    run = Run("selftest", "here", "", "finished", {}, code, {}, cases, beside, campaign=campaign)
    yield from campaign_checks(run, blocks)
    sizes = [replace(PLANTED_CASE, batch_size=batch, hidden=hidden) for batch, hidden in effort.twins]
    try:
        pairs = equal_pairs(sizes, effort.pairs, progress)
    except (SideError, WorkerError) as error:
        yield Check("launch pairs", passed=False, words=f"{error}")
        return
    yield told_apart(rows_of(run, blocks), pairs)


def told_apart(rows: Sequence[Row], pairs: Sequence[Mapping[Case, PairRatios]]) -> list[Resolution]:
    """Return what can be told apart, from the rows of the twins and launch pairs of the same cases."""
    steps = {row.case: row for row in rows if row.phase == "step" and row.launch_times_s}
    own = {c: row for c, row in steps.items() if c.subject == NETWORK and replace(c, subject=TWIN) in steps}
    twins = {
        case: launch_spread(
            np.log(row.launch_times_s) - np.log(steps[replace(case, subject=TWIN)].launch_times_s)
        )
        for case, row in own.items()
    }
    return resolutions(twins, {case: row.relative_deviation for case, row in own.items()}, pairs)


def checks_of(check: Callable[[], Sequence[Check]], name: str) -> Sequence[Check]:
    """Make some checks, or report a failed one if their worker process dies."""
    try:
        return check()
    except WorkerError as error:
        return [Check(name, passed=False, words=f"its worker process {error}")]


def campaign_checks(run: Run, blocks: Sequence[Block]) -> Iterator[Check]:
    """Yield the checks of the campaign; a case that failed fails the self-test."""
    for record in run.cases:
        if record.status != "ok":
            yield Check(record.case.key, passed=False, words=record.reason)
    rows = rows_of(run, blocks)
    of_case = {record.case: [b for b in blocks if b.case == n] for n, record in enumerate(run.cases)}
    yield from known_times(run, rows)
    for case, of_one in of_case.items():
        name, _, phase = case.subject.partition(":")
        if name == "planted":
            yield checks.planted_delay(phase, PLANTED_S, [block for block in of_one if block.kind == "laps"])
    networks = [of_one for case, of_one in of_case.items() if case.subject in (NETWORK, TWIN)]
    yield checks.parts_and_whole(networks)
    yield checks.observer(networks)
    pairs = [
        (of_one, of_case.get(replace(case, subject=TWIN), []))
        for case, of_one in of_case.items()
        if case.subject == NETWORK
    ]
    steps = [[checks.launches_of(blocks, "plain") for blocks in pair] for pair in pairs if all(pair)]
    yield checks.identical_twins([checks.difference(*pair) for pair in steps])


def known_times(run: Run, rows: Sequence[Row]) -> Iterator[Check]:
    """Yield the check of each busy-wait, as read from the table, in JSON and in CSV."""
    waits = tuple(r for r in run.cases if r.case.subject.startswith("busy-wait:") and r.status == "ok")
    own = [row for row in rows if any(row.case == record.case for record in waits)]
    steps = [row for row in own if row.phase == "step"]
    if not steps:
        return
    part = msgspec.structs.replace(run, cases=waits)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = Source(part, own)
        write_tables(folder, render(source))
        shown = shown_steps((folder / "tables" / "phases.md").read_text())
        csv = pd.read_csv(folder / "tables" / "phases.csv").query("phase == 'step'").time_s
        tests = [{"extra_info": row.as_record()} for row in own]
        file = folder / BENCHMARK_FILE
        replace_file(file, plain_json({"benchmarks": tests, OUR_KEY: own_part(source)}))
        json = [row.time_s for row in read_source(file).rows if row.phase == "step"]
    for row, in_table, in_json, in_csv in zip(steps, shown, json, csv, strict=True):
        value, rounding = in_table
        read = {"table": value, "JSON": in_json or float("nan"), "CSV": float(in_csv)}
        yield checks.known_time(int(row.case.subject.partition(":")[2]) * MICRO, read, {"table": rounding})


def shown_steps(markdown: str) -> list[tuple[float, float]]:
    """Read the times of the steps back from the printed table, each with half a unit of its last digit.

    Both are in seconds.
    """
    lines = [line.strip("|").split("|") for line in markdown.splitlines() if "|" in line]
    heading, _rule, *body = ([cell.strip() for cell in line] for line in lines)
    column = next(number for number, name in enumerate(heading) if name.startswith("step "))
    unit = next(unit.seconds for unit in UNITS if unit.symbol == heading[column].removeprefix("step "))
    shown = [cells[column].split(" ±")[0].replace(",", "") for cells in body]
    return [(float(text) * unit, 0.5 * 10.0 ** -len(text.partition(".")[2]) * unit) for text in shown]


def clock_check(worker: Worker) -> Check:
    """Check the clock of the laps."""
    reply = worker.ask(messages.ReadClock(CLOCK_READINGS, CLOCK_SPANS, CLOCK_SPAN_NS))
    if not isinstance(reply, messages.ClockRead):
        return Check("clock", passed=False, words=str(reply))
    return checks.clock(np.frombuffer(reply.between, np.int64), reply.spans_ns)


def device_check(worker: Worker) -> Check:
    """Check that a block on CUDA waits for the device: the spans on it fill the block's wall time."""
    case = replace(PLANTED_CASE, subject=REFERENCE_KERNELS, device="cuda", threads=DOES_NOT_APPLY)
    reply = worker.ask(messages.Prepare(0, case, warm_up=True))
    if isinstance(reply, messages.Prepared):
        reply = worker.ask(messages.Measure(0, "kernels", DEVICE_ITERATIONS))
    worker.close()
    block = reply.block("kernels") if isinstance(reply, messages.Measured) else None
    if block is None or block.device is None:
        return Check("clock on CUDA", passed=False, words=str(reply))
    return checks.synchronised(int(block.device[1:].sum()), block.wall_ns)


def counter_checks(worker: Worker) -> Iterator[Check]:
    """Yield the checks of the counters: FLOP by the closed form, and all counters the same every time."""
    sizes = {f"batch {batch} hidden {hidden}": (batch, hidden) for batch, hidden in COUNTED_SIZES}
    counted = {name: count(worker, size, times=1) for name, size in sizes.items()}
    flop = {name: found[0].phases["step"].flop for name, found in counted.items() if found}
    expected = {name: step_flop(*size) for name, size in sizes.items()}
    yield checks.closed_form("FLOP of a step", flop, expected)
    yield checks.same_every_time("counters of a step", count(worker, COUNTED_SIZES[0], REPEATS), REPEATS)


def step_flop(batch: int, hidden: int) -> int:
    """Return the FLOP of a step of SimpleNN: forward, and backward without the gradient of the inputs."""
    first, second = 2 * batch * INPUTS * hidden, 2 * batch * hidden * CLASSES
    return first + second + first + 2 * second


def count(worker: Worker, size: tuple[int, int], times: int) -> list[CaseCounters]:
    """Return the counters of a size from a number of repeats; none if it cannot be prepared."""
    batch, hidden = size
    case = replace(PLANTED_CASE, batch_size=batch, hidden=hidden)
    if not isinstance(worker.ask(messages.Prepare(0, case, warm_up=False)), messages.Prepared):
        return []
    replies = [worker.ask(messages.Count(0)) for _ in range(times)]
    return [reply.counters for reply in replies if isinstance(reply, messages.Counted)]
