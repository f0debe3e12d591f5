"""Look up the workload that a case's subject names."""

from typing import Protocol

import torch

from nncore_bench.cases import BlockKind, Case
from nncore_bench.companions import REFERENCE_KERNELS, REFERENCE_NETWORK
from nncore_bench.worker.blocks import Workload
from nncore_bench.worker.references.known_answers import BusyWait, DelayedPhase
from nncore_bench.worker.references.probes import ReferenceKernels
from nncore_bench.worker.references.reference_network import ReferenceNetwork
from nncore_bench.worker.subjects.own_step import own_subject
from nncore_bench.worker.subjects.subject import Subject


class CaseWorkload(Workload, Protocol):
    """A workload that a worker can prepare, check and restore."""

    device: torch.device
    kinds: tuple[BlockKind, ...]
    """The kinds of block it can run; the first one is used for warm-up."""

    assumed: tuple[str, ...]
    """Defaults used for what the subject does not specify, such as `optimizer: Adam, lr 0.001`."""

    def check(self) -> dict[str, float]:
        """Run once and return named figures of the run; raises IncorrectError if the result is wrong."""

    def begin(self) -> dict[str, float]:
        """Run what every process has to before its first block; a part of `check`."""

    def save(self) -> None:
        """Save the state that every block starts from."""

    def denormals(self) -> int:
        """Count the denormal values in the state."""


def workload_of(case: Case) -> CaseWorkload:
    """Return the workload for a case's `subject` or `subject:detail`."""
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
            return own_subject(case)
