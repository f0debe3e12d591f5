"""The edge to pytest: options in, a campaign before the first test, our tables last on the screen."""

import os
import shlex
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nncore_bench import options as step_options
from nncore_bench.campaign.plan import ROUNDS_OF_THE_SUITE, Plan
from nncore_bench.campaign.session import Suite, own_part
from nncore_bench.cases import Case
from nncore_bench.errors import UserError
from nncore_bench.handover import HandOver
from nncore_bench.options import Options
from nncore_bench.progress import progress_line
from nncore_bench.runs import BENCHMARK_FILE, OUR_KEY, found_run, plain_json, replace_file

if TYPE_CHECKING:
    from nncore_bench.estimate.source import Source
    from nncore_bench.page.page import Material

COLUMNS = ["min", "median", "mean", "stddev", "rounds"]
DEFAULT_MIN_ROUNDS = 5  # pytest-benchmark's own
DEFAULT_MAX_TIME = "1.0"
REFUSED = {
    "--benchmark-calibration-precision": "nothing is calibrated here, every lap is one phase of one step",
    "--benchmark-confidence": "intervals are at 95 %, over launches and rounds",
    "--benchmark-cprofile": "the steps run in worker processes, where cProfile sees nothing",
    "--benchmark-min-time": "blocks have their own length, and --step-budget sets the time in all",
    "--benchmark-timer": "the times are recorded by the workers' own clocks",
    "--benchmark-warmup": "the workers warm up until two halves agree",
}


@dataclass
class Session:
    """One pytest session: its suite, the baseline to compare with, and the statistics its tests reported."""

    suite: Suite
    baseline: "Source | None"
    command: str
    stats: list[Any] = field(default_factory=list)

    @cached_property
    def material(self) -> "Material | None":
        """The input of tables and page, or None if nothing was measured."""
        if self.suite.recorder is None:
            return None
        from nncore_bench.page.page import Material  # noqa: PLC0415 - takes a second to import

        sources = [self.suite.source] if self.baseline is None else [self.baseline, self.suite.source]
        return Material(sources, self.command)


SESSION = pytest.StashKey[Session]()
CELL = pytest.StashKey[tuple[Case, str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the `--step-…` options."""
    group = parser.getgroup("step", "nncore-bench: where the time of a training step goes")
    step_options.declare(group.addoption)
    group.addoption(
        "--step-baseline",
        metavar="RUN",
        help="screen this run against a stored one: each case is ok, suspect or not comparable",
    )
    group.addoption(
        "--step-fail-on-suspect",
        action="store_true",
        default=False,
        help="fail the session if the screen finds a suspect case",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Parse the options, and refuse bad ones in one sentence before anything is measured."""
    if config.getoption("help") or config.getoption("version"):
        return
    refuse_meaningless_options(config)
    if config.getoption("benchmark_columns") is None:
        config.option.benchmark_columns = COLUMNS
    command = shlex.join(["pytest", *map(str, config.invocation_params.args)])
    try:
        suite = Suite(Options.build(step_options.typed(config.option)))
        baseline = read_baseline(config, suite.options.results)
        config.stash[SESSION] = Session(suite, baseline, command)
        if measures(config):
            suite.get_ready()
        if not config.getoption("collectonly"):
            suite.refuse_what_cannot_be()
    except UserError as error:
        raise pytest.UsageError(str(error)) from None


def read_baseline(config: pytest.Config, results: Path) -> "Source | None":
    """Read the stored run to screen against, if one was given; raises UserError."""
    typed = config.getoption("step_baseline")
    if typed is None:
        if config.getoption("step_fail_on_suspect"):
            raise UserError("--step-fail-on-suspect: nothing is suspect without --step-baseline=RUN")
        return None
    from nncore_bench.estimate.source import read_source  # noqa: PLC0415 - pandas takes a second to import

    try:
        return read_source(found_run(Path(typed), results))
    except UserError as error:
        raise UserError(f"--step-baseline: {error}") from None


def refuse_meaningless_options(config: pytest.Config) -> None:
    """Raise UsageError for options of pytest-benchmark that have no meaning here."""
    typed = [*config.getini("addopts"), *shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))]
    typed += [argument for argument in config.invocation_params.args if isinstance(argument, str)]
    for flag, reason in REFUSED.items():
        if any(word.startswith(flag) for word in typed):
            raise pytest.UsageError(f"{flag}: {reason} (leave the option out)")


def measures(config: pytest.Config) -> bool:
    """Return whether to measure: not if only collecting, distributed, or with benchmarks off."""
    disabled = config.getoption("benchmark_disable") and not config.getoption("benchmark_enable")
    skipped = config.getoption("benchmark_skip") and not config.getoption("benchmark_only")
    distributed = config.getoption("dist", "no") != "no" or "PYTEST_XDIST_WORKER" in os.environ
    only_shown = any(config.getoption(name) for name in ("collectonly", "setuponly", "setupplan"))
    return not (only_shown or disabled or skipped or distributed)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrize every test over the cases and phases of the grid."""
    if "recorded" not in metafunc.fixturenames:
        return
    cells = metafunc.config.stash[SESSION].suite.cells
    metafunc.parametrize(
        list(cells[0][0].parameters("")),
        [tuple(case.parameters(phase).values()) for case, phase in cells],
        ids=[f"{phase}-{case.key}" for case, phase in cells],
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Store each test's case and phase in its stash; its parameters are for files and `-k` only."""
    for item in items:
        if "recorded" in getattr(item, "fixturenames", ()) and hasattr(item, "callspec"):
            item.stash[CELL] = config.stash[SESSION].suite.cells[item.callspec.indices["phase"]]


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Measure all selected cases together before the first test, and screen them after the last."""
    measure_selected(session)
    result = yield
    screen(session)
    return result


def measure_selected(session: pytest.Session) -> None:
    """Measure the cases of all selected tests, and mark those that cannot run as skipped."""
    config = session.config
    selected = {item: item.stash[CELL] for item in session.items if CELL in item.stash}
    broken = session.testsfailed and not config.option.continue_on_collection_errors
    if broken or not selected or not measures(config):
        return
    suite = config.stash[SESSION].suite
    for item, (case, _) in selected.items():
        if reason := suite.skip_reason(case):
            item.add_marker(pytest.mark.skip(reason=reason))
    cases = {case for case, _ in selected.values() if not suite.skip_reason(case)}
    try:
        with progress_line(config.pluginmanager.getplugin("terminalreporter")) as line:
            suite.measure(selected.values(), plan_of(config, suite.options, len(cases)), line)
    except UserError as error:
        raise pytest.UsageError(str(error)) from None


def screen(session: pytest.Session) -> None:
    """Compare the results with the baseline; with --step-fail-on-suspect a suspect fails the session."""
    own = session.config.stash[SESSION]
    if own.baseline is None or own.material is None or own.material.comparison is None:
        return
    from nncore_bench.compare.compare import write_comparison  # noqa: PLC0415 - pandas, as above

    write_comparison(own.suite.folder, own.material.comparison)
    if own.material.comparison.suspects and session.config.getoption("step_fail_on_suspect"):
        session.testsfailed += 1


def plan_of(config: pytest.Config, options: Options, cases: int) -> Plan:
    """Return the plan from the suite's options and pytest-benchmark's own.

    If given, `--benchmark-max-time` is the time per case, `--benchmark-min-rounds` the least number of
    rounds, and `--benchmark-precision` the target.
    """
    plan = Plan.of(options, ROUNDS_OF_THE_SUITE)
    if str(config.getoption("benchmark_max_time")) != DEFAULT_MAX_TIME:
        seconds = float(config.getoption("benchmark_max_time")) * cases
        plan = replace(plan, budget_s=min(plan.budget_s, seconds))
    if config.getoption("benchmark_min_rounds") != DEFAULT_MIN_ROUNDS:
        plan = replace(plan, least_rounds=config.getoption("benchmark_min_rounds"))
    if config.getoption("benchmark_precision") is not None:
        plan = replace(plan, target=float(config.getoption("benchmark_precision")))
    return plan


@pytest.fixture
def recorded(request: pytest.FixtureRequest) -> HandOver:
    """Return what a test reports, and give pytest-benchmark the clock that replays it.

    Must come before the fixture `benchmark`, which reads the marker during its setup.
    """
    own = request.config.stash[SESSION]
    case, phase = request.node.stash[CELL]
    handover = own.suite.hand_over(case, phase, own.stats)
    request.node.add_marker(pytest.mark.benchmark(timer=handover.clock(), group=phase))
    return handover


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Add our key to pytest-benchmark's file."""
    if (material := config.stash[SESSION].material) is not None:
        tables = {table.name: table.records() for table in material.report.tables}
        output_json[OUR_KEY] = {**own_part(material.sources[-1]), "tables": tables}


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write tables and page into the run's folder, and `benchmark.json` if a test was timed."""
    own = session.config.stash.get(SESSION, None)
    if own is None or own.material is None:
        return
    from nncore_bench.page.publish import PAGE_FILE, publish  # noqa: PLC0415 - the same
    from nncore_bench.report.report import write_tables  # noqa: PLC0415 - pandas takes a second to import

    folder = own.suite.folder
    write_tables(folder, own.material.report)
    publish(own.material, folder / PAGE_FILE, ("html",))
    if own.stats:
        write_benchmarks(session.config, own.stats, folder)


def write_benchmarks(config: pytest.Config, stats: list[Any], folder: Path) -> None:
    """Write pytest-benchmark's file with our key, through its public hooks."""
    hook = config.hook
    machine_info = hook.pytest_benchmark_generate_machine_info(config=config)
    hook.pytest_benchmark_update_machine_info(config=config, machine_info=machine_info)
    commit_info = hook.pytest_benchmark_generate_commit_info(config=config)
    hook.pytest_benchmark_update_commit_info(config=config, commit_info=commit_info)
    output = hook.pytest_benchmark_generate_json(
        config=config, benchmarks=stats, include_data=True, machine_info=machine_info, commit_info=commit_info
    )
    hook.pytest_benchmark_update_json(config=config, benchmarks=stats, output_json=output)
    replace_file(folder / BENCHMARK_FILE, plain_json(output))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print our tables and the three sentences last."""
    own = config.stash.get(SESSION, None)
    if own is None or own.material is None:
        return
    terminalreporter.write_line(f"\nrun folder: {own.suite.folder} (open report.html there)\n")
    terminalreporter.write_line(own.material.report.text)
    if (comparison := own.material.comparison) is not None:
        from nncore_bench.compare.compare import screen_lines  # noqa: PLC0415 - pandas, as above

        terminalreporter.section("against the baseline")
        terminalreporter.write_line("\n".join([comparison.text, *screen_lines(comparison)]))
        if comparison.suspects and config.getoption("step_fail_on_suspect"):
            terminalreporter.write_line("failed: a case is suspect, and --step-fail-on-suspect was given")


def pytest_unconfigure(config: pytest.Config) -> None:
    """End all worker processes."""
    if (own := config.stash.get(SESSION, None)) is not None:
        own.suite.close()
