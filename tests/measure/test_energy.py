"""Energy: counters that go up at a known power, beside steps of a known length."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from made_up_runs import CPU_CASE, CUDA_CASE, blocks_of, cuda_blocks_of, record_of, run_of, table_of, told
from test_gpu_facts import library, refuse

from nncore_bench.cases import Case
from nncore_bench.measure import messages
from nncore_bench.measure.blocks import LEAST_ITERATIONS
from nncore_bench.measure.energy import (
    GPU,
    NO_GPU,
    NO_PACKAGE,
    PACKAGE,
    WINDOW_S,
    WINDOWS,
    Meter,
    measure_energy,
    package_meter,
)
from nncore_bench.measure.gpu import energy_counter
from nncore_bench.measure.workers import Asked, WorkerError
from nncore_bench.records import CaseRecord, Energy
from nncore_bench.verdict import rows_of

STEP_S = 0.002
WATTS = {PACKAGE: 40.0, GPU: 300.0}
IDLE = 0.25
"""What is drawn at rest, as a share."""

STEPS_PER_BLOCK = {"plain": 9}
RANGE_UJ = 1_000_000


@dataclass
class Machine:
    """Let time pass by steps and rests; everything draws the same power in all steps, less at rest."""

    seconds: float = 0.0
    rested: float = 0.0
    asked: list[Case] = field(default_factory=list)
    held: bool = True
    trouble: str = ""
    step_s: float = STEP_S

    def close(self) -> None:
        """Nothing runs here."""

    def ask(self, request: messages.Request, timeout: float = 0.0) -> messages.Reply:
        assert timeout > 0
        if isinstance(request, messages.Prepare):
            self.held = True
            return messages.Prepared({}, steady=True, correct={})
        assert isinstance(request, messages.Measure)
        if self.trouble == "death":
            raise WorkerError("killed by signal 9")
        if self.trouble:
            return messages.Refused(self.trouble)
        if not self.held:
            return messages.Refused(f"case {request.number} {messages.NOT_HELD}")
        self.seconds += (request.iterations + 1) * self.step_s
        return messages.Measured(b"", None, 0)

    def rest(self, seconds: float) -> None:
        self.seconds += seconds
        self.rested += seconds

    def meter(self, name: str) -> Meter:
        return lambda: WATTS[name] * (self.seconds - (1 - IDLE) * self.rested)


def silent(stage: str, done: int, total: int, seconds_left: float | None) -> None:
    """Show no progress."""


def measured(
    machine: Machine, record: CaseRecord, meters: Mapping[str, Meter]
) -> tuple[Energy | None, list[str]]:
    (found,), notices = measure_energy(
        [record], {}, lambda _: machine, meters, silent, lambda: machine.seconds, machine.rest
    )
    return found.energy, [notice.cause for notice in notices]


def ready(case: Case) -> CaseRecord:
    return record_of(case, steps_per_block=STEPS_PER_BLOCK)


@pytest.mark.parametrize(("case", "watts"), [(CPU_CASE, 40.0), (CUDA_CASE, 340.0)])
def test_a_step_takes_power_times_its_length(case: Case, watts: float) -> None:
    """In windows of a second at least; on a GPU what its processor takes counts, too."""
    machine = Machine(held=False)
    energy, notices = measured(machine, ready(case), {name: machine.meter(name) for name in WATTS})
    assert not notices
    assert energy is not None
    assert len(energy.seconds) == WINDOWS
    assert min(energy.seconds) >= WINDOW_S
    run = run_of([record_of(case, energy=energy)])
    blocks = blocks_of() if case.device == "cpu" else cuda_blocks_of()
    (row,) = [row for row in rows_of(run, blocks) if row.phase == "step"]
    assert row.energy_j == pytest.approx(watts * STEP_S)
    assert row.power_w == pytest.approx(watts)
    assert row.energy_low_j == pytest.approx(watts * STEP_S)
    assert row.energy_of == ("package" if case.device == "cpu" else "package+GPU")
    shown = table_of(told(run, blocks), "energy").shown.iloc[0]
    assert float(shown["W"]) == watts
    assert float(shown["mJ per sample"].split()[0]) == pytest.approx(
        1000 * watts * STEP_S / case.batch_size, rel=1e-2
    )


@pytest.mark.parametrize(("case", "watts"), [(CPU_CASE, 10.0), (CUDA_CASE, 85.0)])
def test_what_idles_stands_beside_the_power_of_the_steps(case: Case, watts: float) -> None:
    """A quarter of it, of the same meters; what a GPU's sensor misses is told of GPUs alone."""
    machine = Machine()
    energy, _ = measured(machine, ready(case), {name: machine.meter(name) for name in WATTS})
    blocks = blocks_of() if case.device == "cpu" else cuda_blocks_of()
    table = table_of(told(run_of([record_of(case, energy=energy)]), blocks), "energy")
    assert float(table.shown["idle W"][0]) == pytest.approx(watts)
    assert table.raw["idle_w"][0] == pytest.approx(watts)
    assert ("2312.02741" in table.caption) == (case.device != "cpu")
    old = Energy((10, 10), (1.0, 1.0), {PACKAGE: (40.0, 40.0)})
    report = told(run_of([record_of(CPU_CASE, energy=old)]), blocks_of())
    assert list(table_of(report, "energy").shown["idle W"]) == ["n/a"]


def test_what_no_meter_counts_has_no_energy() -> None:
    """A GPU's counter says nothing of the CPU; without any there is a notice with the way out."""
    machine = Machine()
    assert measured(machine, ready(CPU_CASE), {GPU: machine.meter(GPU)}) == (None, [NO_PACKAGE.cause])
    assert machine.seconds == 0
    assert measured(machine, ready(CUDA_CASE), {}) == (None, [NO_PACKAGE.cause, NO_GPU.cause])
    assert measured(machine, record_of(CUDA_CASE, status="skipped"), {}) == (None, [NO_PACKAGE.cause])
    assert measured(machine, record_of(CPU_CASE, status="failed"), {PACKAGE: machine.meter(PACKAGE)}) == (
        None,
        [],
    )


@pytest.mark.parametrize(
    ("trouble", "told"), [("no memory", "no memory"), ("death", "its worker process killed by signal 9")]
)
def test_a_case_that_cannot_go_on_is_a_notice(trouble: str, told: str) -> None:
    """And no end of the run."""
    machine = Machine(trouble=trouble)
    energy, (notice,) = measured(machine, ready(CPU_CASE), {PACKAGE: machine.meter(PACKAGE)})
    assert energy is None
    assert notice == f"the energy of {CPU_CASE.key} could not be measured ({told})"


def test_a_counter_that_vanishes_is_a_notice(tmp_path: Path) -> None:
    """As in a container whose /sys changes."""
    meter = package_meter(planted(tmp_path, package=0))
    assert meter is not None
    (tmp_path / "sys/class/powercap/intel-rapl:0/energy_uj").unlink()
    energy, (notice,) = measured(Machine(), ready(CPU_CASE), {PACKAGE: meter})
    assert energy is None
    assert "a counter stopped answering" in notice


def planted(root: Path, **readings: int) -> Path:
    """Make the files of the kernel's powercap for some domains."""
    for number, (name, microjoules) in enumerate(readings.items()):
        folder = root / f"sys/class/powercap/intel-rapl:{number}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "name").write_text(f"{name.replace('_', '-')}\n")
        (folder / "energy_uj").write_text(f"{microjoules}\n")
        (folder / "max_energy_range_uj").write_text(f"{RANGE_UJ}\n")
    return root


def test_packages_add_up_and_begin_again_at_their_range(tmp_path: Path) -> None:
    """Of two packages one wraps around; psys, which holds both, does not count."""
    meter = package_meter(planted(tmp_path, package_0=RANGE_UJ - 100_000, package_1=0, psys=0))
    assert meter is not None
    planted(tmp_path, package_0=99_999, package_1=300_000, psys=900_000)
    assert meter() == pytest.approx(0.5)
    planted(tmp_path, package_0=199_999, package_1=300_000, psys=999_000)
    assert meter() == pytest.approx(0.6)


def test_a_dead_worker_is_asked_no_more_and_a_slow_step_not_for_long() -> None:
    """Others would lose their profile to the one; four steps of the other are a window by themselves."""
    machine, meters = Machine(trouble="death"), {PACKAGE: lambda: 0.0}
    workers: dict[tuple[str, int], Asked] = {("cpu", 2): machine}
    now = lambda: machine.seconds  # noqa: E731 - a clock
    measure_energy([ready(CPU_CASE)], workers, lambda _: machine, meters, silent, now, machine.rest)
    assert not workers
    slow = Machine(step_s=2.0)
    record = record_of(CPU_CASE, steps_per_block={"plain": LEAST_ITERATIONS})
    energy, _ = measured(slow, record, {PACKAGE: slow.meter(PACKAGE)})
    assert energy is not None
    assert energy.seconds == ((LEAST_ITERATIONS + 1) * 2.0,) * WINDOWS


def test_without_counters_there_is_no_meter(tmp_path: Path) -> None:
    """No powercap, a domain of another kind, or a counter that says nothing."""
    assert package_meter(tmp_path) is None
    assert package_meter(planted(tmp_path / "a", psys=1)) is None
    (planted(tmp_path / "b", package=1) / "sys/class/powercap/intel-rapl:0/energy_uj").write_text("")
    assert package_meter(tmp_path / "b") is None


def test_the_gpu_counts_in_millijoules() -> None:
    """Of the GPU that torch would use; one that does not count has no meter."""
    counting = library(nvmlDeviceGetTotalEnergyConsumption=lambda number: 1_500_000 + number)
    with energy_counter({"CUDA_VISIBLE_DEVICES": "1"}, counting) as meter:
        assert meter is not None
        assert meter() == pytest.approx(1500.001)
        counting.nvmlDeviceGetTotalEnergyConsumption = refuse  # type: ignore[attr-defined] # as a lost GPU does
        with pytest.raises(OSError, match="Not Supported"):
            meter()
    for other in (library(), library(nvmlDeviceGetTotalEnergyConsumption=refuse), library(nvmlInit=refuse)):
        with energy_counter({}, other) as meter:
            assert meter is None


def test_an_interval_comes_from_the_windows() -> None:
    """40, 41 and 42 mJ a step: a t interval of two degrees of freedom, 4.303 standard errors."""
    record = record_of(CPU_CASE, energy=Energy((10, 10, 10), (1.0, 1.0, 1.0), {PACKAGE: (0.40, 0.41, 0.42)}))
    (row,) = [row for row in rows_of(run_of([record]), blocks_of()) if row.phase == "step"]
    assert row.energy_j == pytest.approx(0.041)
    assert row.energy_high_j == pytest.approx(0.041 + 4.3027 * 0.001 / 3**0.5, rel=1e-4)
