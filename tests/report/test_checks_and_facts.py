"""Checks and machine: how far a run can be trusted, and what it was made with."""

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
    line,
    record_of,
    run_of,
    table_of,
    told,
)

from nncore_bench.compare.compare import setting_lines
from nncore_bench.estimate.results import rows_of
from nncore_bench.estimate.source import Source
from nncore_bench.report.report import Report, notice_lines, render
from nncore_bench.runs import Campaign, Code


@pytest.fixture
def cpu_report() -> Report:
    """Return the report of one CPU case of known laps, in two launches that agree."""
    return told(run_of([record_of(CPU_CASE)]), blocks_of(launches=[1.0, 1.0]))


def test_the_checks_show_what_the_laps_cost(cpu_report: Report) -> None:
    """650 of 660 µs lie within the phases, and the clock adds nothing here."""
    shown = line(cpu_report, "quality")
    assert shown["phases/step"] == f"{650 / 660:.3f}"
    assert (shown["lap overhead µs"], shown["launches"], shown["rounds"], shown["steady"]) == (
        "0.0",
        "2",
        "4",
        "yes",
    )


def test_what_the_clock_reads_cost_is_told_as_a_share_of_the_step() -> None:
    """Plain steps of 640 and 680 µs beside lapped ones of 660 µs: 3.1 % more, and 2.9 % less."""
    blocks = [
        block_of(kind, laps=STEP_LAPS | {"step": step}, case=number)
        for number, step in enumerate([640_000, 680_000])
        for kind in ("laps", "plain")
    ]
    run = run_of([record_of(CPU_CASE), record_of(replace(CPU_CASE, batch_size=64))])
    assert any("change the step by -2.9 to 3.1 %;" in remark for remark in told(run, blocks).remarks)


def test_what_events_cost_is_told_where_it_is_taken_off() -> None:
    """Plain steps of 600 µs beside 660 with events: 10 % of one CUDA case; 0.2 % of the other is left in."""
    blocks = []
    for number, step in enumerate([600_000, 659_000]):
        laps = STEP_LAPS | {"step": step}
        for kind in ("laps", "plain"):
            block = block_of(kind, laps=laps, case=number)
            spans = block.host if kind == "laps" else None
            blocks.append(replace(block, device=spans))
    run = run_of([record_of(CUDA_CASE), record_of(replace(CUDA_CASE, batch_size=64))])
    told_of = [remark for remark in told(run, blocks).remarks if remark.startswith("Recording events")]
    assert len(told_of) == 1
    assert "of 1 of 2 CUDA cases longer by 10 to 10 %, which is taken off their phases" in told_of[0]


def test_a_sum_that_is_off_is_listed() -> None:
    """By more than 3 % and by more than 5 µs: 650 of 600 µs is."""
    laps = STEP_LAPS | OTHER_LAPS | {"step": 600_000}
    blocks = [block_of("laps", laps=laps), block_of("plain", laps=laps)]
    remarks = told(run_of([record_of(CPU_CASE)]), blocks).remarks
    assert (
        "Off: the phases of cpu-t1-float32-eager-b32-h128 add up to 1.0833 times its step (50 µs),"
        " by the smallest laps of neighbouring blocks." in remarks
    )


def test_a_few_microseconds_off_are_not_listed() -> None:
    """A step of 50 µs may miss by 4."""
    laps = dict.fromkeys(STEP_LAPS, 10000) | {"unattributed": 0, "step": 46_000}
    blocks = [block_of("laps", laps=laps), block_of("plain", laps=laps)]
    report = told(run_of([record_of(CPU_CASE, phases=("step",))]), blocks)
    assert line(report, "quality")["phases/step"] == f"{50 / 46:.3f}"
    assert not [remark for remark in report.remarks if remark.startswith("Off")]


def test_a_case_that_did_not_settle_is_named() -> None:
    """Its times may be too high."""
    report = told(run_of([record_of(CPU_CASE, steady=False)]), blocks_of())
    assert any("Not steady" in remark and CPU_CASE.key in remark for remark in report.remarks)
    assert line(report, "quality")["steady"] == "no"


def test_steps_that_were_disturbed_are_named_with_a_next_step() -> None:
    """Above a fifth more than an undisturbed step the line begins, and the worst case stands first."""
    run = run_of([record_of(CPU_CASE), record_of(replace(CPU_CASE, batch_size=64))])
    rows = rows_of(run, [*blocks_of(0), *blocks_of(1)])

    def disturbance_lines(small: float, large: float) -> list[str]:
        ratios = {32: small, 64: large}
        disturbed = [replace(row, disturbance=ratios[row.case.batch_size]) for row in rows]
        return [
            remark for remark in render(Source(run, disturbed)).remarks if remark.startswith("Disturbance")
        ]

    assert disturbance_lines(1.2, 1.2) == []
    (told_of,) = disturbance_lines(1.25, 1.5)
    assert (
        "in 2 cases: cpu-t1-float32-eager-b64-h128 (+50 %), cpu-t1-float32-eager-b32-h128 (+25 %)." in told_of
    )
    assert "Next: " in told_of


def test_a_quota_is_shown_where_one_is_set() -> None:
    """A container may have many cores and little of their time."""
    for machine, shown in (({"cgroup_cpus": 1.5}, "1.5"), ({"cgroup_cpus": "no limit"}, None), ({}, None)):
        report = told(run_of([record_of(CPU_CASE)], machine=machine), blocks_of())
        facts = table_of(report, "machine").shown.set_index("fact")["value"].to_dict()
        assert facts.get("CPU quota, cores") == shown


def test_the_campaign_accounts_for_its_time(cpu_report: Report) -> None:
    """15 of 20 seconds within measured iterations."""
    assert any("took 20.0 s" in remark and "75 % of it" in remark for remark in cpu_report.remarks)


def test_the_machine_and_the_code_are_facts_on_record(cpu_report: Report) -> None:
    """With options, for whoever wants to repeat the run."""
    facts = table_of(cpu_report, "facts").shown.set_index("fact")["value"].to_dict()
    assert facts["commit"] == "0123abc"
    assert facts["cpu_model"] == "Made-up CPU"
    assert facts["--step-devices"] == "cpu,cuda"


@pytest.mark.parametrize("code", [Code("a", "unknown", dirty=False), Code("a", "0123abc", dirty=True)])
def test_two_runs_of_code_that_is_unknown_or_changed_may_differ_in_it(code: Code) -> None:
    """A copied tree without git has no commit, which is no proof that two are the same."""
    uncertain = run_of([record_of(CPU_CASE)], code=code)
    certain = run_of([record_of(CPU_CASE)])
    (line,) = setting_lines(uncertain, uncertain)
    assert f"the code {code.commit}" in line
    assert setting_lines(certain, certain) == []


def test_code_with_changes_is_not_its_commit() -> None:
    """And an unknown fact is n/a."""
    changed = Code("project", "0123abc", dirty=True)
    run = run_of([record_of(CPU_CASE)], machine={"cpu_mhz": None}, code=changed)
    facts = table_of(told(run, blocks_of()), "facts").shown.set_index("fact")["value"].to_dict()
    assert facts["commit"] == "0123abc (with changes)"
    assert facts["cpu_mhz"] == "n/a"


def test_markdown_and_csv_hold_the_same_cases(cpu_report: Report) -> None:
    """One for people, one for programs."""
    table = table_of(cpu_report, "phases")
    assert "| batch | hidden |" in table.markdown()
    csv = pd.read_csv(StringIO(table.csv()))
    assert csv["phase"].tolist() == list(CPU_CASE.phases())
    assert csv.loc[csv["phase"] == "backward", "time_s"].item() == pytest.approx(190e-6)
    assert csv["device_s"].isna().all()


def test_the_machine_on_the_screen_is_what_tells_it_from_others(cpu_report: Report) -> None:
    """A handful of lines, and what is not known is not made up."""
    machine = table_of(cpu_report, "machine")
    facts = machine.shown.set_index("fact")["value"].to_dict()
    assert machine.on_screen
    assert facts["CPU"] == "Made-up CPU"
    assert facts["GPU"] == "n/a"


def test_what_a_plain_script_would_compute_in_tf32_is_told() -> None:
    """Of the cases that said so in their check, by name."""
    record = record_of(CUDA_CASE, correct={"loss": 2.3, "plain_tf32": 1.0})
    [remark] = notice_lines(run_of([record, record_of(CPU_CASE, correct={"loss": 2.3})]))
    assert remark.startswith(f"Notice: {CUDA_CASE.key}: float32 throughout, where a plain script would")
    assert "--step-precisions=tf32" in remark
    assert CPU_CASE.key not in remark


def test_denormal_values_are_told_with_what_to_do() -> None:
    """Steps on them can be many times slower, and nothing else would say why."""
    record = record_of(CPU_CASE, correct={"loss": 2.3, "denormals": 12.0})
    remarks = " ".join(told(run_of([record]), blocks_of()).remarks)
    assert f"{CPU_CASE.key}: some parameters or optimizer state are denormal" in remarks
    assert "set_flush_denormal" in remarks


def test_many_cases_that_failed_alike_are_counted_and_not_listed() -> None:
    """A run that was stopped before its first round has 24 of them."""
    sizes = [2**n for n in range(9)]
    cases = cases_of(["cpu"], sizes=sizes)
    remarks = " ".join(told(run_of(map(record_of, cases)), []).remarks)
    assert "Failed: 18 cases: no round was finished." in remarks


@pytest.mark.parametrize(("target", "said"), [(0.5, "of every case"), (0.001, "of 0 of 1 cases")])
def test_whether_the_target_was_reached_is_told(target: float, said: str) -> None:
    """Launches of 660 and 667 µs: Student's t of one degree of freedom times their deviation of 0.7 %."""
    campaign = Campaign(20.0, 15.0, 1.0, 4.0, 8, 8, target)
    run = run_of([record_of(CPU_CASE)], campaign=campaign)
    remarks = " ".join(told(run, blocks_of(launches=[1.0, 1.01])).remarks)
    assert f"was reached for the step {said}" in remarks
    if target < 0.01:
        assert "known to ± 9.4 % (--step-launches and --step-budget buy more)" in remarks


def test_wide_intervals_are_said_with_what_helps() -> None:
    """Launches of 660 and 680 µs."""
    run = run_of([record_of(CPU_CASE)], campaign=Campaign(20.0, 15.0, 1.0, 4.0, 8, 8, 0.01))
    remarks = " ".join(told(run, blocks_of(launches=[1.0, 1.03])).remarks)
    assert (
        "known to ± 30 % (a quieter hour helps: cases of this run are known better to each other" in remarks
    )
