"""Companions: the four references measured alongside the cases, in the same rounds."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from math import log2

from nncore_bench.cases import DOES_NOT_APPLY, KERNELS, STEP_PHASES, Case
from nncore_bench.records import CaseRecord
from nncore_bench.variants import DEFAULT_ALLOCATOR, EAGER

REFERENCE_KERNELS = "reference-kernels"
REFERENCE_NETWORK = "reference-network"
SMALLEST_NETWORK = "smallest-network"
MIDDLE_NETWORK = "middle-network"
SMALLEST = 8  # hidden units of the smallest network: with fewer, none may learn
REFERENCE_SIZE = 128
NETWORK_PHASES = (*STEP_PHASES, "step", "inference")


@dataclass(frozen=True)
class Companion:
    """A reference: its phases, and what is lost if it cannot be measured.

    `block_share` is the length of its blocks relative to those of the cases. `cell` is its subject, batch
    size and hidden width; None stands for one of the cases under the default allocator. `counted` says
    whether its operators are counted.
    """

    phases: tuple[str, ...]
    block_share: float
    lost: str
    cell: tuple[str, int, int | str] | None
    counted: bool = False


COMPANIONS: Mapping[str, Companion] = {
    REFERENCE_KERNELS: Companion(
        KERNELS, 0.25, "what limits them is unknown", (REFERENCE_KERNELS, 1, DOES_NOT_APPLY)
    ),
    SMALLEST_NETWORK: Companion(
        NETWORK_PHASES,
        0.25,
        "what limits them is unknown, and the drift",
        (REFERENCE_NETWORK, 1, SMALLEST),
        counted=True,
    ),
    MIDDLE_NETWORK: Companion(
        NETWORK_PHASES,
        0.5,
        "the machine's drift is unknown",
        (REFERENCE_NETWORK, REFERENCE_SIZE, REFERENCE_SIZE),
    ),
    DEFAULT_ALLOCATOR: Companion(("step",), 1.0, "what the allocator does to them is unknown", None),
}
"""The companions by role.

The reference kernels show what the machine can do; the phases of the smallest network are all dispatch, and
those of the middle one mostly computation.
"""


def companions_of(cases: Iterable[Case], twins: Iterable[Case]) -> list[CaseRecord]:
    """Return the records of the companions: those of every place where cases run, and a twin of one case.

    `twins` are the cases that may be measured under the default allocator as well; it is done for the
    reference case of those on the CPU.
    """
    places = dict.fromkeys(case.place for case in cases)
    found = [
        _record(role, Case(subject, DOES_NOT_APPLY, device, threads, precision, EAGER, batch_size, hidden))
        for device, threads, precision in places
        for role, companion in COMPANIONS.items()
        if companion.cell is not None
        for subject, batch_size, hidden in [companion.cell]
    ]
    if on_cpu := [case for case in twins if not case.on_device]:
        found.append(_record(DEFAULT_ALLOCATOR, replace(reference_case(on_cpu), variant=DEFAULT_ALLOCATOR)))
    return found


def _record(role: str, case: Case) -> CaseRecord:
    return CaseRecord(case, COMPANIONS[role].phases, role=role, block_share=COMPANIONS[role].block_share)


def reference_case(cases: Iterable[Case]) -> Case:
    """Return the case to profile: with one thread, and closest to batch 128 and width 128."""

    def distance(case: Case) -> tuple[bool, float]:
        width = case.hidden if isinstance(case.hidden, int) else REFERENCE_SIZE
        return case.threads not in (1, DOES_NOT_APPLY), sum(
            abs(log2(size / REFERENCE_SIZE)) for size in (case.batch_size, width)
        )

    return min(cases, key=distance)
