"""Records: the stored outcome, counters and profile of a case."""

from typing import Literal, TypeAlias

import msgspec

from nncore_bench.cases import BLOCK_LAPS, STEP_PHASES, BlockKind, Case, kind_of, parts_in

Status: TypeAlias = Literal["ok", "failed", "skipped"]
VARIES = "varies"
"""The figure of a check that is 1 where the steps of a block differ in their work."""

OUTSIDE = "(outside of operators)"
"""The line of a profiled phase for Python, waiting, and everything else outside of operators."""


class Notice(msgspec.Struct, frozen=True):
    """A warning as data: a cause and a next step."""

    cause: str
    next_step: str


class PhaseCounters(msgspec.Struct, frozen=True):
    """Counts of one phase of a steady step; None is unknown or does not apply, and never 0.

    - `flop`: floating-point operations, a multiply-add being 2, of the operators that torch has a formula
      for (products and convolutions); None where operators ran and none of them has one.
    - `operators`: ATen operators dispatched below autograd, views included, as the profiler sees them too.
    - `autograd_nodes`: nodes that forward and loss add to the graph, and that backward runs,
      AccumulateGrad included.
    - `allocations`, `allocated_bytes`: on the device of the case; CUDA's allocator rounds bytes up to 512.
    - `peak_bytes`: the most bytes alive at one moment, above those after zero_grad of the same step
      (parameters, state and batches): forward counts activations and temporaries, backward gradients as
      well, and zero_grad the gradients it drops. Inference counts from its own beginning.
    - `moved_bytes`: the bytes moved if every operator but views reads each of its input tensors once and
      writes each output once, whole tensors of numel x itemsize; scratch memory does not count.
    - `copies`: copies between host and device; None on the CPU.
    - `synchronisations`: times the host waits for the device, as CUDA's debug mode sees them; else None.
    - `kernel_launches`: kernels launched on CUDA; else None.
    - `collections`: explicit calls of the garbage collector; automatic collection is disabled.

    `step` is the sum of its phases (for `flop` of those known); for `peak_bytes` and `autograd_nodes` it is
    the maximum.
    """

    flop: int | None = None
    operators: int | None = None
    autograd_nodes: int | None = None
    allocations: int | None = None
    allocated_bytes: int | None = None
    peak_bytes: int | None = None
    moved_bytes: int | None = None
    copies: int | None = None
    synchronisations: int | None = None
    kernel_launches: int | None = None
    collections: int | None = None


class OperatorCount(msgspec.Struct, frozen=True):
    """The calls of one operator in one phase of a steady step, at one set of shapes and types.

    `operator` is PyTorch's name for it; `shapes` and `dtypes` describe its tensor arguments in words;
    `moved_bytes` and `flop` (None: no formula) are totals over its calls, counted as in PhaseCounters.
    """

    phase: str
    operator: str
    shapes: str
    dtypes: str
    calls: int
    moved_bytes: int
    flop: int | None = None


class CaseCounters(msgspec.Struct, frozen=True):
    """The counts of a case: its phases, `step` and `inference` by name, and sizes in bytes; None is unknown.

    `parameters` is the number of parameters, `state_bytes` the bytes of all tensors of the optimizer's state,
    Adam's step counters included, and `leaked_bytes` the growth of the live bytes on the device from the
    first to the last of several counted steps. `threads` is torch's number of threads after the step, and
    `waits` how often the host waits for the device, by phase and line of code. `positions` are the operators
    and moved bytes of the first steps of a block, where these differ. `inventory` lists every operator of the
    step and of inference.
    """

    phases: dict[str, PhaseCounters]
    parameters: int | None = None
    parameter_bytes: int | None = None
    gradient_bytes: int | None = None
    state_bytes: int | None = None
    leaked_bytes: int | None = None
    threads: int | None = None
    waits: dict[str, int] = {}
    positions: tuple[tuple[int, int], ...] = ()
    inventory: tuple[OperatorCount, ...] = ()

    @property
    def parts(self) -> list[str]:
        """The parts of the step that were counted."""
        return parts_in((*self.phases, *(one.phase for one in self.inventory)))


class ProfiledOperator(msgspec.Struct, frozen=True):
    """One profiled operator in one phase, per step, at one set of shapes and types.

    `host_s` is the time of its calls on the host, without other operators of this list that they call; like
    `share`, its share of the whole phase, it is time under the profiler, which slows the step. `device_s` is
    the time of the kernels, copies and fills it launched, or None without a device. `made_by` is the forward
    operator whose backward it is, by autograd's sequence numbers, and `module` the part of the network that
    called the operator or that forward. `dispatched` is true for the operators that counters count, and false
    for operators that only call others, nodes of autograd, and time outside of all operators.
    """

    phase: str
    operator: str
    module: str
    made_by: str
    shapes: str
    dtypes: str
    calls: float
    dispatched: bool
    host_s: float
    share: float
    device_s: float | None = None
    moved_bytes: float | None = None
    flop: float | None = None


class Account(msgspec.Struct, frozen=True):
    """The breakdown of a phase's wall-clock seconds under the profiler, without overlap or gap.

    Each moment counts as the first of these under way: a kernel on the device, a copy, a fill of its memory
    (memset), a call of its runtime, an operator on the host; the rest is Python and everything else.
    """

    phase: str
    kernel_s: float
    copy_s: float
    memset_s: float
    runtime_s: float
    operator_s: float
    python_s: float

    @property
    def device_s(self) -> float:
        """The time in which the device was at work."""
        return self.kernel_s + self.copy_s + self.memset_s

    @property
    def whole_s(self) -> float:
        """The sum: the wall-clock time of the phase."""
        return self.device_s + self.runtime_s + self.operator_s + self.python_s


class DeviceActivity(msgspec.Struct, frozen=True):
    """The use of a device in the profiled steps: times in seconds, numbers per step.

    `busy_share` is the share of the time in which a kernel, a copy or a fill ran; gaps are the idle times
    between them; `queue_depth` is the average number of kernels waiting when another is enqueued.
    `graph_kernels` are the kernels that came with a CUDA graph and had no launch of their own.
    """

    busy_share: float
    copy_share: float
    kernels: float
    gaps: float
    gap_total_s: float
    gap_p50_s: float
    gap_p95_s: float
    queue_depth: float
    graph_kernels: float = 0.0


class CaseProfile(msgspec.Struct, frozen=True):
    """The profile of one case; its times are never step times.

    `step_s` is the mean step under the profiler by the worker's own clock, over the `steps` of the accounts,
    and `median_step_s` the median of all profiled ones, without a wait for a device. `disagreement` says in
    words where the profiler and the counters saw different operators or kernels; it is empty if they agree.
    `page_faults` is the number in a step. A step that is replayed as a CUDA graph has no operators.
    """

    case: Case
    steps: int
    step_s: float
    accounts: tuple[Account, ...]
    operators: tuple[ProfiledOperator, ...]
    device: DeviceActivity | None = None
    median_step_s: float | None = None
    role: str = ""
    disagreement: str = ""
    page_faults: float = 0.0
    trace: str = ""

    def account(self, phase: str) -> Account | None:
        """Return the account of a phase, if it was seen."""
        return next((account for account in self.accounts if account.phase == phase), None)


class CaseRecord(msgspec.Struct, frozen=True):
    """The record of one case: its cell, the phases asked for, and how it went.

    `correct` holds what was checked before any time was believed (loss, share of gradients present, ...).
    """

    case: Case
    phases: tuple[str, ...]
    status: Status = "ok"
    reason: str = ""
    steady: bool = True
    role: str = ""
    """The role of a companion; empty for the user's cases."""

    block_share: float = 1.0
    """The length of its blocks, as a share of the usual length."""

    steps_per_block: dict[str, int] = {}
    correct: dict[str, float] = {}
    counters: CaseCounters | None = None
    thrown_out: int = 0
    """The number of blocks discarded and measured again because torch.compile recompiled within them."""

    assumed: tuple[str, ...] = ()
    """The defaults used where the subject specifies nothing, in words."""

    optimizer_code: str = ""
    """The line of code that makes the subject's optimizer for this variant; empty if it needs none."""

    parts: tuple[str, ...] = STEP_PHASES
    """The parts of its step in the order of its laps; the user's own step may have others."""

    def counted(self, phase: str) -> PhaseCounters | None:
        """Return the counters of a phase, if they are known."""
        return self.counters.phases.get(phase) if self.counters else None

    @property
    def kinds(self) -> tuple[BlockKind, ...]:
        """The kinds of block in each of its rounds; a step that is captured whole has no laps.

        Otherwise the step's laps and its plain blocks always come together: each checks the other.
        """
        wanted = {kind_of(phase) for phase in self.phases}
        if wanted & {"laps", "plain"}:
            wanted |= {"plain"} if self.case.form.captures_step else {"laps", "plain"}
        return tuple(kind for kind in BLOCK_LAPS if kind in wanted)
