"""Workloads by name: what a case's subject stands for."""

from typing import Protocol

import torch

from nncore_bench.cases import REFERENCE_KERNELS, REFERENCE_NETWORK, BlockKind, Case
from nncore_bench.worker.blocks import Workload
from nncore_bench.worker.subjects.known_answers import BusyWait, DelayedPhase
from nncore_bench.worker.subjects.probes import ReferenceKernels
from nncore_bench.worker.subjects.reference_network import ReferenceNetwork
from nncore_bench.worker.subjects.subject import FactorySubject, Subject


class CaseWorkload(Workload, Protocol):
    """A workload that a worker can prepare, check and put back to where it started."""

    device: torch.device
    kinds: tuple[BlockKind, ...]
    """The kinds of block it can run; it is warmed up by the first."""

    assumed: tuple[str, ...]
    """What it leaves out and was taken instead, in words."""

    def check(self) -> dict[str, float]:
        """Run once and return what was seen; raises IncorrectError where that is not what it should be."""

    def save(self) -> None:
        """Remember the state that every block starts from."""

    def denormals(self) -> int:
        """Count the values of the state that are denormal."""


def workload_of(case: Case) -> CaseWorkload:
    """Return the workload that a case names: `subject`, or `subject:detail`."""
    name, _, detail = case.subject.partition(":")
    match name:
        case "busy-wait":
            return BusyWait(1_000 * int(detail))
        case "planted":
            return DelayedPhase(case, detail)
        case _ if name == REFERENCE_KERNELS:
            return ReferenceKernels(case)
        case _ if name == REFERENCE_NETWORK:
            return ReferenceNetwork(case)
        case "simplenn" | "twin":
            return Subject(case)
        case _:
            return FactorySubject(case)
