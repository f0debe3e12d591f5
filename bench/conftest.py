"""The edge towards pytest: options in, a campaign before the first test, our tables last on the screen."""

import os
import random
import shlex
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from nncore_bench import options as step_options
from nncore_bench.cases import Case, case_id, dataset_of
from nncore_bench.handover import HandOver
from nncore_bench.measure.plan import Plan
from nncore_bench.measure.workers import WorkerError
from nncore_bench.options import OptionError, Options
from nncore_bench.progress import ProgressLine, Silence
from nncore_bench.runs import BENCHMARK_FILE, OUR_KEY, Run, RunError, found_run, plain_json, replace_file
from nncore_bench.suite import Suite, own_part

SUITE = pytest.StashKey[Suite]()
STATS = pytest.StashKey[list[Any]]()
REPORT = pytest.StashKey[Any]()
BASELINE = pytest.StashKey[Any]()  # a Source, whose module imports pandas
SCREEN = pytest.StashKey[Any]()  # a Comparison, likewise
PARAMETERS = ("phase", "subject", "device", "threads", "precision", "variant", "batch_size", "hidden")
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
        help="fail the session where the screen finds a case suspect",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Read the options and refuse, in one sentence and before anything is measured, what cannot be done."""
    if config.getoption("help") or config.getoption("version"):
        return
    refuse_meaningless_options(config)
    if config.getoption("benchmark_columns") is None:
        config.option.benchmark_columns = COLUMNS
    config.stash[STATS] = []
    try:
        suite = Suite(Options.build({name: config.getoption(name) for name in step_options.destinations()}))
        config.stash[SUITE] = suite
        read_baseline(config, suite.options.results)
        if measures(config):
            suite.get_ready()
        if not config.getoption("collectonly"):
            suite.refuse_what_cannot_be()
    except (OptionError, WorkerError, RunError) as error:
        raise pytest.UsageError(str(error)) from None


def read_baseline(config: pytest.Config, results: Path) -> None:
    """Read the stored run to screen against; raises OptionError or RunError where there is none to read."""
    typed = config.getoption("step_baseline")
    if typed is None:
        if config.getoption("step_fail_on_suspect"):
            raise OptionError("--step-fail-on-suspect: nothing is suspect without --step-baseline=RUN")
        return
    from nncore_bench.report import read_source  # noqa: PLC0415 - pandas takes a second to import

    try:
        config.stash[BASELINE] = read_source(found_run(Path(typed), results))
    except RunError as error:
        raise OptionError(f"--step-baseline: {error}") from None


def refuse_meaningless_options(config: pytest.Config) -> None:
    """Raise UsageError for the options of pytest-benchmark that cannot mean anything here."""
    typed = [*config.getini("addopts"), *shlex.split(os.environ.get("PYTEST_ADDOPTS", ""))]
    typed += [argument for argument in config.invocation_params.args if isinstance(argument, str)]
    for flag, reason in REFUSED.items():
        if any(word.startswith(flag) for word in typed):
            raise pytest.UsageError(f"{flag}: {reason} (leave the option out)")


def measures(config: pytest.Config) -> bool:
    """Return whether this session is to measure: not when it only collects, or benchmarks are off."""
    disabled = config.getoption("benchmark_disable") and not config.getoption("benchmark_enable")
    skipped = config.getoption("benchmark_skip") and not config.getoption("benchmark_only")
    distributed = config.getoption("dist", "no") != "no" or "PYTEST_XDIST_WORKER" in os.environ
    only_shown = any(config.getoption(name) for name in ("collectonly", "setuponly", "setupplan"))
    return not (only_shown or disabled or skipped or distributed)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give every test its cell of the grid and its phase."""
    if "recorded" not in metafunc.fixturenames:
        return
    cells = metafunc.config.stash[SUITE].cells
    metafunc.parametrize(
        PARAMETERS,
        [tuple(case.parameters(phase).values()) for case, phase in cells],
        ids=[case_id(phase, case) for case, phase in cells],
    )


def case_of(item: pytest.Item) -> tuple[Case, str] | None:
    """Return the case and phase of a test of the suite, and None for any other test."""
    parameters = dict(getattr(getattr(item, "callspec", None), "params", {}))
    if "recorded" not in getattr(item, "fixturenames", ()) or not parameters:
        return None
    phase = parameters.pop("phase")
    chosen = item.config.stash[SUITE].options.dataset
    return Case(dataset=dataset_of(str(parameters["subject"]), chosen), **parameters), phase


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Measure all selected cases together before the first test runs, and screen them after the last."""
    measure_selected(session)
    result = yield
    screen(session)
    return result


def measure_selected(session: pytest.Session) -> None:
    """Measure the cases of all selected tests."""
    config = session.config
    selected = {item: cell for item in session.items if (cell := case_of(item))}
    broken = session.testsfailed and not config.option.continue_on_collection_errors
    if broken or not selected or not measures(config):
        return
    suite = config.stash[SUITE]
    for item, (case, _) in selected.items():
        if reason := suite.skip_reason(case):
            item.add_marker(pytest.mark.skip(reason=reason))
    line = ProgressLine(config.pluginmanager.getplugin("terminalreporter") or Silence())
    cases = {case for case, _ in selected.values() if not suite.skip_reason(case)}
    try:
        suite.measure(selected.values(), plan_of(config, len(cases)), line)
    except (OptionError, WorkerError) as error:
        raise pytest.UsageError(str(error)) from None
    finally:
        line.end()


def screen(session: pytest.Session) -> None:
    """Compare what was measured with the baseline; a suspect fails the session where that was asked for."""
    suite, baseline = session.config.stash[SUITE], session.config.stash.get(BASELINE, None)
    if baseline is None or suite.run is None or suite.folder is None:
        return
    from nncore_bench.report import compare_cases, write_comparison  # noqa: PLC0415 - pandas, as above

    session.config.stash[SCREEN] = comparison = compare_cases(baseline, source_of(suite.run, suite))
    write_comparison(suite.folder, comparison)
    if comparison.suspects and session.config.getoption("step_fail_on_suspect"):
        session.testsfailed += 1


def plan_of(config: pytest.Config, cases: int) -> Plan:
    """Return the plan that the suite's options and pytest-benchmark's own ask for.

    `--benchmark-max-time` is the time per case, `--benchmark-min-rounds` the rounds at least, and
    `--benchmark-precision` the target, each when given.
    """
    options = config.stash[SUITE].options
    budget, rounds, target = options.budget, 4 * options.launches, options.target
    if str(config.getoption("benchmark_max_time")) != DEFAULT_MAX_TIME:
        budget = min(budget, float(config.getoption("benchmark_max_time")) * cases)
    if config.getoption("benchmark_min_rounds") != DEFAULT_MIN_ROUNDS:
        rounds = config.getoption("benchmark_min_rounds")
    if config.getoption("benchmark_precision") is not None:
        target = config.getoption("benchmark_precision")
    return Plan(options.launches, budget, float(target), rounds, seed=random.SystemRandom().randrange(2**32))


@pytest.fixture
def recorded(  # noqa: PLR0913, PLR0917 - the parameters are the columns of the frame
    request: pytest.FixtureRequest,
    phase: str,
    subject: str,
    device: str,
    threads: int | str,
    precision: str,
    variant: str,
    batch_size: int,
    hidden: int | str,
) -> HandOver:
    """Return what a test reports, and hand pytest-benchmark the clock that replays it.

    A test names it before `benchmark`, which reads the marker when it is made.
    """
    suite = request.config.stash[SUITE]
    dataset = dataset_of(subject, suite.options.dataset)
    case = Case(subject, dataset, device, threads, precision, variant, batch_size, hidden)
    handover = suite.hand_over(case, phase, request.config.stash[STATS])
    request.node.add_marker(pytest.mark.benchmark(timer=handover.clock(), group=phase))
    return handover


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    """Add one key of ours to the file of pytest-benchmark."""
    suite = config.stash[SUITE]
    if suite.run is not None:
        output_json[OUR_KEY] = {
            **own_part(suite.run, suite.rows.values(), suite.beside),
            "tables": {table.name: table.records() for table in report_of(config, suite.run, suite).tables},
        }


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the tables into the run's folder, and `benchmark.json` where a test had something to report."""
    suite = session.config.stash.get(SUITE, None)
    if suite is None or suite.run is None or suite.folder is None:
        return
    from nncore_bench.report import write_tables  # noqa: PLC0415 - pandas takes a second to import

    write_tables(suite.folder, report_of(session.config, suite.run, suite))
    write_page(session.config, suite)
    if session.config.stash[STATS]:
        write_benchmarks(session.config, suite.folder)


def source_of(run: Run, suite: Suite) -> Any:  # noqa: ANN401 - its module takes a second to import
    """Return what was measured as it would be read back."""
    from nncore_bench.report import Source  # noqa: PLC0415 - pandas, as above
    from nncore_bench.verdict.advice import variants_in  # noqa: PLC0415 - scipy

    gains = variants_in(run.cases, suite.blocks)
    return Source(run, list(suite.rows.values()), suite.beside, suite.folder, gains)


def report_of(config: pytest.Config, run: Run, suite: Suite) -> Any:  # noqa: ANN401 - as above
    """Return the report of what was measured, which is made once."""
    if REPORT not in config.stash:
        from nncore_bench.report import render  # noqa: PLC0415 - pandas, as above

        source = source_of(run, suite)
        config.stash[REPORT] = render(run, source.rows, source.beside, source.gains)
    return config.stash[REPORT]


def write_page(config: pytest.Config, suite: Suite) -> None:
    """Write the page of the run, beside the baseline where one was given, into its folder."""
    if suite.run is None or suite.folder is None:
        return
    from nncore_bench.report.page import Material  # noqa: PLC0415 - what draws takes a second, too
    from nncore_bench.report.published import PAGE_FILE, publish  # noqa: PLC0415 - the same

    measured = source_of(suite.run, suite)
    baseline = config.stash.get(BASELINE, None)
    sources = [measured] if baseline is None else [baseline, measured]
    command = shlex.join(["pytest", *map(str, config.invocation_params.args)])
    publish(Material(sources, command), suite.folder / PAGE_FILE, ("html",))


def write_benchmarks(config: pytest.Config, folder: Path) -> None:
    """Write pytest-benchmark's own file and our key, through its public hooks."""
    hook = config.hook
    machine_info = hook.pytest_benchmark_generate_machine_info(config=config)
    hook.pytest_benchmark_update_machine_info(config=config, machine_info=machine_info)
    commit_info = hook.pytest_benchmark_generate_commit_info(config=config)
    hook.pytest_benchmark_update_commit_info(config=config, commit_info=commit_info)
    stats = config.stash[STATS]
    output = hook.pytest_benchmark_generate_json(
        config=config, benchmarks=stats, include_data=True, machine_info=machine_info, commit_info=commit_info
    )
    hook.pytest_benchmark_update_json(config=config, benchmarks=stats, output_json=output)
    replace_file(folder / BENCHMARK_FILE, plain_json(output))


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Show our tables and the three sentences, last on the screen."""
    report = config.stash.get(REPORT, None)
    if report is None:
        return
    terminalreporter.write_line(f"\nrun folder: {config.stash[SUITE].folder} (open report.html there)\n")
    terminalreporter.write_line(report.text)
    if (comparison := config.stash.get(SCREEN, None)) is not None:
        from nncore_bench.report import screen_lines  # noqa: PLC0415 - pandas, as above

        terminalreporter.section("against the baseline")
        terminalreporter.write_line("\n".join([comparison.text, *screen_lines(comparison)]))
        if comparison.suspects and config.getoption("step_fail_on_suspect"):
            terminalreporter.write_line("failed: a case is suspect, and --step-fail-on-suspect was given")


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave no process behind."""
    if (suite := config.stash.get(SUITE, None)) is not None:
        suite.close()
