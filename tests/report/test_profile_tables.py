"""Tables of profiles: operators, accounts and devices, from made-up profiles with known sums."""

from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec.structs
import pytest
from made_up_runs import (
    CPU_CASE,
    CUDA_CASE,
    blocks_of,
    cuda_blocks_of,
    line,
    names_of,
    record_of,
    run_of,
    table_of,
    told,
)

from nncore_bench.cases import Case
from nncore_bench.companions import SMALLEST_NETWORK
from nncore_bench.records import Account, CaseProfile, DeviceActivity, ProfiledOperator
from nncore_bench.report.report import Report

if TYPE_CHECKING:
    import pandas as pd

MICRO = 1e-6


def operator(phase: str, name: str, host_us: float, share: float, **more: object) -> ProfiledOperator:
    usual = {"module": "", "made_by": "", "shapes": "", "dtypes": "", "calls": 1.0, "dispatched": True}
    return ProfiledOperator(phase, name, **(usual | more), host_s=host_us * MICRO, share=share)  # type: ignore[arg-type]


OPERATORS = (
    operator("forward", "aten::addmm", 120, 0.6, module="fc1", calls=2.0),
    operator("forward", "aten::relu", 20, 0.1, module="relu"),
    operator("forward", "(outside of operators)", 60, 0.3, calls=0.0, dispatched=False),
    operator("backward", "aten::mm", 90, 1.0, module="fc1", made_by="aten::addmm"),
)
ACCOUNT = Account("step", 0, 0, 0, 0, 600 * MICRO, 400 * MICRO)
PROFILE = CaseProfile(
    CPU_CASE, 8, 995 * MICRO, (ACCOUNT,), OPERATORS, median_step_s=995 * MICRO, trace="traces/a.json.gz"
)
SMALLEST = CaseProfile(
    replace(CPU_CASE, batch_size=1, hidden=8), 8, 1e-4, (ACCOUNT,),
    (
        operator("forward", "aten::addmm", 10, 0.5, calls=2.0),
        operator("backward", "aten::mm", 5, 1.0, made_by="aten::addmm"),
    ),
    role=SMALLEST_NETWORK,
)  # fmt: skip


def report_of(*profiles: CaseProfile, case: Case = CPU_CASE) -> Report:
    blocks = blocks_of() if case.device == "cpu" else cuda_blocks_of()
    return told(run_of([record_of(case)], profiles=profiles), blocks)


def test_operators_are_ranked_by_their_own_time_and_all_are_in_the_csv() -> None:
    """With the module, and for the backward pass the forward operator that made them."""
    report = report_of(PROFILE, SMALLEST)
    assert line(report, "operators") == {
        "phase": "forward",
        "operator": "aten::addmm",
        "of": "fc1",
        "shapes": "",
        "calls/step": "2",
        "host µs": "120",
        "% of phase": "60",
    }
    assert line(report, "operators", 1)["of"] == "fc1, addmm's backward"
    assert line(report, "operators", 2) | {"operator": "(outside of operators)", "calls/step": ""} == line(
        report, "operators", 2
    )
    raw = table_of(report, "operators").raw
    assert len(raw) == len(OPERATORS)  # the smallest network is no case of the user's
    assert raw["host_s"].sum() == pytest.approx(290 * MICRO)


def test_an_account_on_the_cpu_is_kernels_dispatch_and_python() -> None:
    """Of 1000 µs addmm takes 110 more than in the smallest network, mm 85, relu 15 above the median cost."""
    shown = line(report_of(PROFILE, SMALLEST), "accounting")
    assert (shown["kernels %"], shown["dispatch %"], shown["Python %"]) == ("21", "39", "40")
    assert shown["operators"] == "4"
    assert shown["profiler"] == "+51 %"  # 995 µs against 660


def test_without_the_smallest_network_the_account_is_told_by_category() -> None:
    """Rather than guessed."""
    shown = line(report_of(PROFILE), "accounting")
    assert "kernels %" not in shown
    assert (shown["operator %"], shown["Python %"]) == ("60", "40")


ACTIVITY = DeviceActivity(0.33, 0.01, 40.0, 39.0, 1e-4, 2e-6, 9e-6, 0.4)
PLAIN_US = 1320
"""The made-up step on CUDA."""


def on_device(busy_us: float, copy_share: float = 0.01, profiled_us: float = 3000) -> CaseProfile:
    """Return a profile in which the device is at work for so long, in a step that the profiler makes long."""
    account = Account("step", busy_us * MICRO, 0, 0, 0, 0, (profiled_us - busy_us) * MICRO)
    busy = busy_us / profiled_us
    activity = msgspec.structs.replace(ACTIVITY, busy_share=busy, copy_share=copy_share)
    return CaseProfile(
        CUDA_CASE, 8, profiled_us * MICRO, (account,), (), device=activity, median_step_s=200 * MICRO
    )


@pytest.mark.parametrize(
    ("busy_us", "copy_share", "bound", "busy"),
    [
        (0.79 * PLAIN_US, 0.01, "host", "79"),
        (0.95 * PLAIN_US, 0.01, "device", "95"),
        (0.95 * PLAIN_US, 0.3, "copy", "95"),
    ],
)
def test_a_device_is_told_by_what_bounds_the_plain_step(
    busy_us: float, copy_share: float, bound: str, busy: str
) -> None:
    """Not the profiled step, which is more than twice as long here: the device is idle for most of that."""
    report = report_of(on_device(busy_us, copy_share), case=CUDA_CASE)
    shown = line(report, "device")
    assert (shown["bound"], shown["kernels/step"], shown["gap p95 µs"]) == (bound, "40", "9.00")
    assert (shown["busy % of plain step"], int(shown["busy % profiled"])) == (
        busy, round(100 * busy_us / 3000),
    )  # fmt: skip
    raw = table_of(report, "device").raw
    assert "bound" in raw
    assert raw["busy_share_of_plain_step"].iloc[0] == pytest.approx(busy_us / PLAIN_US)
    assert not any("Impossible" in remark for remark in report.remarks)


def test_a_device_at_work_for_longer_than_the_step_is_an_error_to_be_found() -> None:
    """112 % are shown as they are, and said."""
    report = report_of(on_device(1.12 * PLAIN_US), case=CUDA_CASE)
    assert line(report, "device")["busy % of plain step"] == "112"
    (said,) = [remark for remark in report.remarks if "Impossible" in remark]
    assert f"at work for 112 % of the plain step of {CUDA_CASE.key}" in said


def test_what_bounds_a_step_that_was_not_timed_is_unknown() -> None:
    """Its profile alone does not tell: the step within it is another one."""
    run = run_of([record_of(CUDA_CASE, phases=("forward",))], profiles=(on_device(0.95 * PLAIN_US),))
    shown = line(told(run, cuda_blocks_of()), "device")
    assert (shown["bound"], shown["busy % of plain step"]) == ("unknown", "n/a")


def test_what_the_profiler_costs_on_a_device_is_told_by_the_wall_clock() -> None:
    """3000 µs against 1320; the host's laps of 200 µs end long before the device has done the step."""
    report = report_of(on_device(0.95 * PLAIN_US), case=CUDA_CASE)
    assert line(report, "accounting")["profiler"] == "+127 %"
    assert any("makes the step 2.3 times as long" in remark for remark in report.remarks)


def test_without_a_profile_there_is_no_table_of_one() -> None:
    """And no line about it."""
    report = report_of()
    assert not {"operators", "accounting", "device"} & set(names_of(report))
    assert not any("profiler" in remark for remark in report.remarks)


def test_how_far_a_profile_can_be_trusted_is_said_in_a_line() -> None:
    """What it adds, how its account sums, and whether it saw what was counted."""
    report = report_of(PROFILE, SMALLEST)
    (said,) = [remark for remark in report.remarks if "The profiler" in remark]
    assert "makes the step 1.5 times as long" in said
    assert "miss the step by the worker's clock by 0.5 % at most" in said
    assert "counted in 1 of 1" in said
    other = CaseProfile(
        CPU_CASE, 8, 1e-3, (ACCOUNT,), OPERATORS, disagreement="forward: the profiler saw nothing"
    )
    assert any("Disagreement in" in remark for remark in report_of(other).remarks)


def test_no_time_of_the_profiler_is_shown_as_a_step_time() -> None:
    """995 µs under the profiler stand in no table on the screen; the CSV names the column for what it is."""
    report = report_of(PROFILE, SMALLEST)
    assert "995" not in report.full_text
    raw: pd.DataFrame = table_of(report, "accounting").raw
    assert raw["profiled_step_s"].iloc[0] == pytest.approx(995 * MICRO)


def test_a_processor_and_a_device_are_told_in_one_report() -> None:
    """By different columns; what one does not have is a dash, on the screen and in the files."""
    activity = DeviceActivity(0.33, 0.01, 40.0, 39.0, 1e-4, 2e-6, 9e-6, 0.4)
    on_device = tuple(msgspec.structs.replace(one, device_s=1e-6) for one in OPERATORS)
    cuda = CaseProfile(CUDA_CASE, 8, 1e-3, (ACCOUNT,), on_device, device=activity)
    blocks = [*blocks_of(0), *cuda_blocks_of(1)]
    records = [record_of(CPU_CASE), record_of(CUDA_CASE)]
    report = told(run_of(records, profiles=(PROFILE, SMALLEST, cuda)), blocks)
    assert "What is in the phases of cuda" in report.full_text
    assert "What is in the phases of cpu" in report.full_text
    assert {"operators", "operators_cuda", "device"} <= set(names_of(report))
    (cpu_row, cuda_row) = (line(report, "accounting", number) for number in (0, 1))
    assert (cpu_row["kernels %"], cuda_row["kernels %"]) == ("21", "-")
