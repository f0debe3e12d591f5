"""Tables show what the laps say, in units that stand in their headings, and nothing that was not measured."""

from dataclasses import replace
from io import StringIO

import pandas as pd
import pytest
from made_up_runs import (
    CPU_CASE,
    CUDA_CASE,
    OTHER_LAPS,
    STEP_LAPS,
    block_of,
    blocks_of,
    cases_of,
    cuda_blocks_of,
    line,
    names_of,
    record_of,
    run_of,
    table_of,
    told,
)

from nncore_bench.companions import SMALLEST, SMALLEST_NETWORK
from nncore_bench.estimate.source import Source
from nncore_bench.records import (
    Account,
    CaseCounters,
    CaseProfile,
    DeviceActivity,
    PhaseCounters,
    ProfiledOperator,
)
from nncore_bench.report.report import Report, render


@pytest.fixture
def cpu_report() -> Report:
    """Return the report of one CPU case of known laps, in two launches that agree."""
    return told(run_of([record_of(CPU_CASE)]), blocks_of(launches=[1.0, 1.0]))


@pytest.fixture
def both_report() -> Report:
    """Return the report of a CPU case and a CUDA case that takes twice as long."""
    run = run_of([record_of(CPU_CASE), record_of(CUDA_CASE)])
    return told(run, [*blocks_of(0, launches=[1.0, 1.01]), *cuda_blocks_of(1, launches=[1.0, 1.01])])


def test_the_phases_of_a_known_step_are_its_laps(cpu_report: Report) -> None:
    """In microseconds, as the headings say."""
    assert line(cpu_report, "phases") == {
        "batch": "32",
        "hidden": "128",
        "step µs": "660.0 ± 0.1",
        "zero_grad µs": "20.0",
        "forward µs": "130",
        "loss µs": "30.0",
        "backward µs": "190",
        "optimizer µs": "280",
        "data µs": "40.0",
        "inference µs": "100",
    }


def test_the_shares_of_a_known_step_add_up_to_100_percent(cpu_report: Report) -> None:
    """What lies between the laps is one of them; feeding is a share of its own loop."""
    shares = line(cpu_report, "shares")
    assert shares["backward %"] == f"{100 * 190 / 660:.0f}"
    assert shares["unattributed %"] == f"{100 * 10 / 660:.1f}"
    assert shares["data % of loop"] == f"{100 * 40 / 700:.1f}"
    raw = table_of(cpu_report, "shares").raw.iloc[0]
    parts = ["zero_grad", "forward", "loss", "backward", "optimizer", "unattributed"]
    assert sum(raw[part] for part in parts) == pytest.approx(1)


def test_throughput_is_samples_per_second_of_the_median_step(cpu_report: Report) -> None:
    """32 samples every 660 µs are 48,485 a second."""
    assert line(cpu_report, "throughput_cpu") == {"batch": "32", "hidden 128: samples/s": "48,500 (+0 %)"}


@pytest.mark.parametrize(
    ("lap_ns", "symbol", "shown"),
    [
        (20_000, "µs", 20.0),
        (200_000, "µs", 200.0),
        (2_000_000, "ms", 2.0),
        (20_000_000, "ms", 20.0),
        (2_000_000_000, "s", 2.0),
    ],
)
def test_a_busy_wait_is_printed_as_long_as_it_was(lap_ns: int, symbol: str, shown: float) -> None:
    """20 µs, 200 µs, 2 ms and 20 ms: in the table, in the CSV, and in the throughput."""
    laps = STEP_LAPS | OTHER_LAPS | {"step": lap_ns}
    blocks = [block_of("plain", laps=laps, launch=launch) for launch in range(2)]
    report = told(run_of([record_of(CPU_CASE, phases=("step",))]), blocks)
    cell = line(report, "phases")[f"step {symbol}"]
    assert float(cell.split(" ± ")[0]) == pytest.approx(shown, rel=1e-3)
    csv = pd.read_csv(StringIO(table_of(report, "phases").csv()))
    assert csv.loc[0, "time_s"] == pytest.approx(lap_ns * 1e-9)
    samples = line(report, "throughput_cpu")["hidden 128: samples/s"].split()[0]
    assert float(samples.replace(",", "")) == pytest.approx(32 / (lap_ns * 1e-9), rel=5e-3)


def test_a_noisy_throughput_loses_the_digits_that_noise_takes() -> None:
    """Launches of 100 and 101 µs: 318,000 samples/s, and by Student's t over two launches 6 % off at most."""
    blocks = [
        block_of("plain", laps=STEP_LAPS | OTHER_LAPS | {"step": step}, launch=launch)
        for launch, step in enumerate((100_000, 101_000))
    ]
    report = told(run_of([record_of(CPU_CASE, phases=("step",))]), blocks)
    assert line(report, "throughput_cpu")["hidden 128: samples/s"] == "320,000 (+0 %)"


def test_every_case_has_its_line_and_only_what_differs_is_a_column() -> None:
    """What all cases share stands in the title."""
    cases = cases_of(["cpu"], threads=[1, 2])
    blocks = [block for number in range(len(cases)) for block in blocks_of(number)]
    report = told(run_of(map(record_of, cases)), blocks)
    table = table_of(report, "phases")
    assert len(table.shown) == len(cases)
    assert list(table.shown.columns[:3]) == ["threads", "batch", "hidden"]
    assert table.title == "Time of each phase (simplenn, digits, cpu, float32, eager)"


def test_throughput_lays_hidden_widths_side_by_side() -> None:
    """One line for each batch size and thread count."""
    cases = cases_of(["cpu"], threads=[1, 2])
    blocks = [block for number in range(len(cases)) for block in blocks_of(number)]
    shown = table_of(told(run_of(map(record_of, cases)), blocks), "throughput_cpu").shown
    assert list(shown.columns) == ["threads", "batch", "hidden 128: samples/s", "hidden 512: samples/s"]
    assert [tuple(cells) for cells in shown[["threads", "batch"]].to_numpy()] == [
        *(("1", "32"), ("1", "128"), ("2", "32"), ("2", "128")),
    ]


def test_a_terminal_of_160_columns_holds_every_table_of_a_cpu_run() -> None:
    """With two thread counts and steps of five digits."""
    cases = cases_of(["cpu"], threads=[1, 16])
    blocks = [b for number in range(len(cases)) for b in blocks_of(number, launches=[1, 1.02], scale=40)]
    report = told(run_of(map(record_of, cases)), blocks)
    assert max(len(text) for text in report.full_text.splitlines()) <= 160


def test_nothing_is_copied_on_a_cpu_and_no_column_says_so(cpu_report: Report, both_report: Report) -> None:
    """Beside a CUDA case the cell says that it does not apply."""
    assert "copy µs" not in line(cpu_report, "phases")
    assert line(both_report, "phases")["copy µs"] == "-"


def test_a_failed_case_is_a_line_without_numbers() -> None:
    """Never a line of zeros, and its reason is told."""
    failed = record_of(replace(CPU_CASE, batch_size=1024), status="failed", reason="out of memory")
    report = told(run_of([record_of(CPU_CASE), failed]), blocks_of())
    assert set(list(line(report, "phases", 1).values())[2:]) == {"n/a"}
    assert "Failed: cpu-t1-float32-eager-b1024-h128: out of memory." in report.remarks


def test_a_case_that_failed_half_way_shows_no_times() -> None:
    """What it got through before is no result."""
    failed = record_of(CPU_CASE, status="failed", reason="the loss is not finite")
    report = told(run_of([failed]), blocks_of())
    assert line(report, "phases")["step µs"] == "n/a"
    assert report.sentences[1].startswith("Best throughput: unknown")


def test_cases_without_their_device_are_one_line_with_the_reason() -> None:
    """And no lines of a table."""
    skipped = [
        record_of(case, status="skipped", reason="no CUDA device was found") for case in cases_of(["cuda"])
    ]
    report = told(run_of([record_of(CPU_CASE), *skipped]), blocks_of())
    assert [r for r in report.remarks if "Skipped" in r] == ["Skipped: 4 cases: no CUDA device was found."]
    assert len(table_of(report, "phases").shown) == 1


def test_a_phase_that_failed_alone_is_named() -> None:
    """The others of its case keep their times."""
    blocks = [block for block in blocks_of() if block.kind != "inference"]
    report = told(run_of([record_of(CPU_CASE)]), blocks)
    assert line(report, "phases")["inference µs"] == "n/a"
    assert "Failed: cpu-t1-float32-eager-b32-h128 (inference): no round was finished." in report.remarks


def test_the_allocator_policy_is_a_fact_on_record(cpu_report: Report) -> None:
    """A plain script runs without it, and whoever compares has to know."""
    assert "MALLOC_TOP_PAD_=1" in table_of(cpu_report, "facts").markdown()


def test_an_interval_within_one_process_is_marked(cpu_report: Report) -> None:
    """It does not cover what another process would have measured."""
    alone = told(run_of([record_of(CPU_CASE)]), blocks_of(launches=[1.0]))
    assert "within one process" in table_of(alone, "phases").caption
    assert "within one process" not in table_of(cpu_report, "phases").caption


def test_cpu_against_cuda_is_a_ratio_with_its_interval(both_report: Report) -> None:
    """CUDA takes twice as long here: half as fast, and not worth it."""
    shown = line(both_report, "cpu_vs_cuda")
    assert shown["CPU threads"] == "1"
    assert shown["worth it"] == "no"
    raw = table_of(both_report, "cpu_vs_cuda").raw.iloc[0]
    assert raw["speed_up"] == pytest.approx(0.5, rel=1e-3)
    assert raw["speed_up_low"] < 0.5 < raw["speed_up_high"]


def test_the_cpu_competes_with_its_best_thread_count() -> None:
    """Which is named."""
    two = replace(CPU_CASE, threads=2)
    blocks = [
        *blocks_of(0, launches=[1.0, 1.01]),
        *blocks_of(1, launches=[1.0, 1.01], scale=0.5),
        *cuda_blocks_of(2, launches=[1.0, 1.01]),
    ]
    report = told(run_of(map(record_of, [CPU_CASE, two, CUDA_CASE])), blocks)
    shown = line(report, "cpu_vs_cuda")
    assert shown["CPU threads"] == "2"
    assert table_of(report, "cpu_vs_cuda").raw.loc[0, "speed_up"] == pytest.approx(0.25, rel=1e-3)


def test_without_cuda_there_is_no_table_of_it(cpu_report: Report) -> None:
    """Nothing is extrapolated."""
    assert "cpu_vs_cuda" not in names_of(cpu_report)
    assert "enqueue" not in names_of(cpu_report)


def test_what_the_host_enqueues_has_a_table_of_its_own(both_report: Report) -> None:
    """Only for devices, and half as long here as the spans."""
    lines = {shown["phase"]: shown for shown in table_of(both_report, "enqueue").shown.to_dict("records")}
    assert lines["backward"]["host µs"] == "191"
    assert (lines["backward"]["kernels µs"], lines["backward"]["launches"]) == ("n/a", "n/a")
    assert table_of(both_report, "phases").raw.set_index(["device", "phase"]).loc[
        ("cuda", "backward"), "time_s"
    ] == pytest.approx(382e-6, rel=1e-3)


LAUNCHES = {"forward": 5, "backward": 12}
KERNELS_US = {"forward": 39, "backward": 191}


def device_report(kernel_us: float | None) -> Report:
    """Return the report of a CUDA case of 17 launches, beside a smallest step of 132 µs and 12 launches.

    It was profiled, with so much work of the device a step, unless that is None.
    """
    counted = {phase: PhaseCounters(kernel_launches=number) for phase, number in LAUNCHES.items()}
    step = PhaseCounters(kernel_launches=sum(LAUNCHES.values()))
    smallest = record_of(
        replace(CUDA_CASE, batch_size=1, hidden=SMALLEST),
        role=SMALLEST_NETWORK,
        phases=("step",),
        counters=CaseCounters({"step": PhaseCounters(kernel_launches=12)}),
    )
    operators = tuple(
        ProfiledOperator(phase, "aten::mm", "", "", "", "", 1.0, dispatched=True, host_s=1e-6, share=0.1,
                         device_s=time_us * 1e-6)
        for phase, time_us in KERNELS_US.items()
    )  # fmt: skip
    account = Account("step", (kernel_us or 0) * 1e-6, 0, 0, 0, 0, 1e-3)
    activity = DeviceActivity(0.1, 0.0, 17.0, 1.0, 0.0, 0.0, 0.0, 0.0)
    profile = CaseProfile(CUDA_CASE, 8, 3e-3, (account,), operators, device=activity)
    run = run_of(
        [record_of(CUDA_CASE, counters=CaseCounters({**counted, "step": step}))],
        companions=(smallest,),
        profiles=() if kernel_us is None else (profile,),
    )
    blocks = [*cuda_blocks_of(0), *(replace(b, case=1, wall_ns=b.wall_ns // 10) for b in cuda_blocks_of(1))]
    return render(Source.of(run, blocks, None))


def test_launches_and_the_time_of_kernels_stand_beside_host_and_span() -> None:
    """Backward: 190 µs of the host, a span of 380, in which kernels run for 191."""
    table = table_of(device_report(1188), "enqueue")
    lines = {shown["phase"]: shown for shown in table.shown.to_dict("records")}
    assert {name: lines["backward"][f"{name} µs"] for name in ("host", "time", "kernels")} == {
        "host": "190", "time": "380", "kernels": "191",
    }  # fmt: skip
    assert (lines["backward"]["busy %"], lines["backward"]["launches"]) == ("50", "12")
    assert (lines["forward"]["busy %"], lines["forward"]["launches"]) == ("15", "5")
    assert (lines["step"]["busy %"], lines["step"]["launches"], lines["step"]["bound"]) == (
        "90",
        "17",
        "device",
    )
    assert table.raw.set_index("phase")["kernel_s"]["step"] == pytest.approx(1188e-6)


def test_the_step_is_told_in_times_of_what_its_launches_take() -> None:
    """132 µs of 12 launches are 11 µs each, 17 of them 187 µs, and 1320 µs are 7.1 times that."""
    report = device_report(None)
    assert line(report, "phases")["x floor"] == "7.1"
    assert line(report, "phases")["launches"] == "17"
    assert line(report, "ceilings")["launch µs"] == "11.0"
    (floor,) = table_of(report, "phases").raw.set_index("phase")["launch_floor_s"].dropna()
    assert floor == pytest.approx(187e-6, rel=1e-3)


def test_which_of_host_and_device_waits_is_left_open_without_a_profile() -> None:
    """A full queue makes the host wait, and then its time comes near that of the step as well."""
    known, unknown = (table_of(device_report(time_us), "enqueue").caption for time_us in (1188, None))
    assert "the device for the host where busy is below 80 %" in known
    assert "it may be either" in unknown
    assert "it may be either" not in known


def test_a_run_without_a_device_has_no_column_of_launches(cpu_report: Report) -> None:
    """Its tables are as they were."""
    assert not {"launches", "x floor"} & set(table_of(cpu_report, "phases").shown.columns)
