"""The grid: cases, their phases and kinds of block, and their names.

Imports neither torch nor pandas: a report on a laptop reads the same names as the worker that measured.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import PurePath
from typing import Literal, TypeAlias

from nncore_bench.variants import EAGER, PRECISIONS, Form, form_of, made_faster, words_of

STEP_PHASES = ("zero_grad", "forward", "loss", "backward", "optimizer")
"""The phases whose laps add up to the step, in the order in which they run."""

PHASES = ("data", "copy", *STEP_PHASES, "step", "inference")
"""The reported phases of a case: feeding, the parts of the step, the whole step, inference."""

KERNELS = ("gemm", "copy_cached", "copy_cold")
"""Reference kernels, whose known work gives the rates of this machine in this run."""

FED = ("data", "copy")
"""The phases of the loop around the step."""

UNATTRIBUTED = "unattributed"
"""The lap from the last boundary of one step to the first of the next."""

BlockKind: TypeAlias = Literal["laps", "plain", "feed", "inference", "kernels", "cold"]

BLOCK_LAPS: dict[BlockKind, tuple[str, ...]] = {
    "laps": (*STEP_PHASES, UNATTRIBUTED),
    "plain": ("step",),
    "feed": ("data", "copy", "rest"),
    "inference": ("inference",),
    "kernels": KERNELS[:2],
    "cold": KERNELS[2:],
}
"""The laps that one iteration of each kind of block records.

`laps` and `plain` run the same training steps on resident batches, with a clock read at every phase
boundary and with one a step; `feed` runs a real loop (DataLoader next, copy to the device, whole step;
its step is the `rest`); `inference` runs the model under eval mode and no_grad; `kernels` and `cold` run the
reference kernels, those that find their data in a core's own caches and the copy that does not.
"""

OTHER = "other"
"""The part of the user's own step that runs in none of its phases."""


def kind_of(phase: str) -> BlockKind:
    """Return the kind of block that a phase is measured in; the parts of a step, whatever names, in laps."""
    return next((kind for kind, laps in BLOCK_LAPS.items() if phase in laps), "laps")


def is_part(phase: str) -> bool:
    """Return whether a phase is a part of a step."""
    return phase in STEP_PHASES or phase not in (*PHASES, *KERNELS)


def parts_in(phases: Iterable[str]) -> list[str]:
    """Return the parts of a step among some phases: those of every step, then the user's own, then OTHER."""
    found = dict.fromkeys(phase for phase in phases if is_part(phase))
    own = [phase for phase in found if phase not in (*STEP_PHASES, OTHER)]
    return [phase for phase in (*STEP_PHASES, *own, OTHER) if phase in found]


def has_all_parts(phases: Collection[str]) -> bool:
    """Return whether some phases have all parts of a step, which add up to it."""
    return OTHER in phases or {*STEP_PHASES} <= {*phases}


DOES_NOT_APPLY = "-"
SIMPLENN = "simplenn"


Place: TypeAlias = tuple[str, int | str, str]
"""Device, threads and precision."""


@dataclass(frozen=True)
class Case:
    """One cell of the grid; `threads` is `-` where the device decides (CUDA)."""

    subject: str
    dataset: str
    device: str
    threads: int | str
    precision: str
    variant: str
    batch_size: int
    hidden: int | str

    @property
    def key(self) -> str:
        """The readable, stable name that node ids and tables share."""
        threads = "" if self.threads == DOES_NOT_APPLY else f"-t{self.threads}"
        hidden = "" if self.hidden == DOES_NOT_APPLY else f"-h{self.hidden}"
        usual = ((self.by_name.subject, (SIMPLENN,)), (self.dataset, ("digits", DOES_NOT_APPLY)))
        tail = "".join(f"-{safe_label(name)}" for name, defaults in usual if name not in defaults)
        return f"{self.device}{threads}-{self.precision}-{self.variant}-b{self.batch_size}{hidden}{tail}"

    @property
    def by_name(self) -> "Case":
        """The case with a subject named as it was given a name, or by file and factory without a folder."""
        name, source = named(self.subject)
        path, _, factory = source.rpartition(":")
        of_file = f"{PurePath(path).stem}:{factory}" if path.endswith(".py") else source
        return replace(self, subject=name or of_file)

    @property
    def alike(self) -> "Case":
        """The key shared by cases of one device, batch size and width, which are compared with each other."""
        return replace(self, threads=DOES_NOT_APPLY, variant=EAGER, precision=PRECISIONS[0])

    @property
    def on_device(self) -> bool:
        """Whether it runs on a device fed by the host, rather than on the host."""
        return self.device != "cpu"

    @property
    def form(self) -> Form:
        """The facts of its variant."""
        return form_of(words_of(self.variant))

    @property
    def place(self) -> Place:
        """The key shared by cases that run on the same hardware in the same way."""
        return self.device, self.threads, self.precision

    def phases(self) -> tuple[str, ...]:
        """Return the phases this case has.

        Nothing is copied on the CPU, a step that is captured whole has no parts, and variants of inference or
        feeding have these phases alone.
        """
        about = made_faster(self.variant)
        if about == "inference":
            return ("inference",)
        if self.form.captures_step:
            return ("step",)
        here = tuple(phase for phase in PHASES if phase != "copy" or self.on_device)
        return tuple(phase for phase in here if phase in FED) if about == "feeding" else here

    def parameters(self, phase: str) -> dict[str, str | int]:
        """Return the test parameters, which are also the leading columns of the frame."""
        return {"phase": phase} | {name: value for name, value in vars(self).items() if name != "dataset"}


def named(subject: str) -> tuple[str, str]:
    """Return the name and the source of a subject given as `NAME=SOURCE`; the name is empty without one."""
    name, equals, source = subject.partition("=")
    # A path may hold the sign, such as ./lr=0.1/net.py:make.
    return (name, source) if equals and "/" not in name else ("", subject)


def safe_label(label: str) -> str:
    """Replace characters that a file name cannot hold by underscores."""
    return "".join(sign if sign.isalnum() or sign in "._" else "_" for sign in label)
