"""Ten causes planted in a copy of the code, measured by real runs, and named first when these are compared.

    pytest tests/explanation

Each cause is a change of `nncore` as a user would make it. One case is measured and profiled as by
`nncore-bench profile`, with a copy that has the change, and its run is compared with that of the unchanged
copy. Only importing torch is shared by all runs, as by the two sides of a gate.
"""

import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from tempfile import mkdtemp

import pytest

from nncore_bench.campaign.launcher import Launcher, Worker
from nncore_bench.campaign.session import measured_grid
from nncore_bench.compare.compare import compare_cases
from nncore_bench.compare.explain import Cause, Compared
from nncore_bench.estimate.source import Source
from nncore_bench.options import Options
from nncore_bench.worker.messages import Hello

pytestmark = pytest.mark.machine

ROOT = Path(__file__).parents[2]
GRID = {
    "step_devices": "cpu",
    "step_batch_sizes": "32",
    "step_hidden": "128",
    "step_budget": "3",
    "step_profile": True,
}

Edit = tuple[str, str, str]
"""A file of nncore, what is replaced in it, and by what."""


@dataclass(frozen=True)
class Code:
    """Hold a version of the code by its edits, and with how many threads and launches it is run."""

    edits: tuple[Edit, ...] = ()
    threads: int = 1
    launches: int = 6
    """With two, one that was held up leaves an interval without end, or passes for a change of its phase."""


@dataclass(frozen=True)
class Planted:
    """Hold a cause: the code before and after, and the phases and the words by which it may be named."""

    before: Code
    after: Code
    phases: str
    words: tuple[str, ...]


def edited(old: str, new: str, file: str = "step.py", threads: int = 1) -> Code:
    return Code(((file, old, new),), threads)


PLAIN = Code()
FORWARD = "self.model(inputs)"
LOSS = "self.criterion(logits, targets)\n"
CAUSES = {
    "foreach off": Planted(
        edited("Adam(model.parameters(), lr=lr)", "Adam(model.parameters(), lr=lr, foreach=True)"),
        PLAIN,
        "optimizer",
        ("a loop over tensors instead of _foreach_ operators",),
    ),
    "extra clone": Planted(
        PLAIN, edited(FORWARD, "self.model(inputs.clone())"), "forward", ("+1 aten::clone",)
    ),
    ".item() in the loop": Planted(
        PLAIN,
        edited(LOSS, f"{LOSS}        loss.item()\n"),
        "loss",
        ("+1 aten::_local_scalar_dense", ".item()"),
    ),
    "float64 input": Planted(
        PLAIN,
        Code(
            (
                ("data.py", ".float().div(16)", ".double().div(16)"),
                ("model.py", "self.fc1(inputs)", "self.fc1(inputs.float())"),
            )
        ),
        "forward",
        ("aten::_to_copy", "another type"),
    ),
    "wider hidden layer": Planted(
        PLAIN,
        edited("super().__init__()", "super().__init__()\n        hidden_size *= 2", "model.py"),
        "case",
        ("parameters", "101,770 → 203,530"),
    ),
    "set_to_none=False": Planted(
        PLAIN,
        edited(".zero_grad()", ".zero_grad(set_to_none=False)"),
        "zero_grad backward",
        ("gradients are", "kept"),
    ),
    "threads halved": Planted(
        Code(threads=2),
        edited("logits: Tensor = self", "torch.set_num_threads(1)\n        logits: Tensor = self", threads=2),
        "case",
        ("threads", "2 → 1"),
    ),
    "slow loader": Planted(
        PLAIN,
        Code(
            (
                (
                    "data.py",
                    "return iter(loader)",
                    "return (__import__('time').sleep(0.002) or batch for batch in loader)",
                ),
            ),
        ),
        "data",
        ("loading, Python or sleeping",),
    ),
    "an extra operator": Planted(
        PLAIN, edited(FORWARD, "torch.sin(self.model(inputs))"), "forward", ("+1 aten::sin",)
    ),
    "garbage collection forced": Planted(
        PLAIN,
        edited(
            "self.torch_optimizer.step()", "self.torch_optimizer.step()\n        __import__('gc').collect()"
        ),
        "optimizer",
        ("garbage collections", "0 → 1"),
    ),
}


class LauncherOf:
    """A launcher whose workers measure the code of a folder; what imported torch stays for the next."""

    def __init__(self, code: Path, usual: Launcher, other: Launcher) -> None:
        self.code, self.usual, self.other = code, usual, other

    @property
    def hello(self) -> Hello:
        return self.usual.hello

    def fork(self) -> Worker:
        return self.usual.fork(str(self.code))

    def beside(self) -> "LauncherOf":
        return LauncherOf(self.code, self.other, self.usual)

    def memory_bytes(self) -> int | None:
        return self.usual.memory_bytes()

    def close(self) -> None:
        """Leave the launchers to the next run; the last one has ended its workers."""


class Workshop:
    """Where code is edited and run, each only once."""

    def __init__(self, folder: Path, usual: Launcher, other: Launcher) -> None:
        self.folder, self.launchers = folder, (usual, other)
        self.source_of = cache(self._source_of)

    def _source_of(self, code: Code) -> Source:
        """Return a run of some code."""
        copy = Path(mkdtemp(dir=self.folder))
        shutil.copytree(ROOT / "nncore", copy / "nncore", ignore=shutil.ignore_patterns("__pycache__"))
        for file, old, new in code.edits:
            source = copy / "nncore" / file
            assert old in source.read_text(), f"{file} has changed: {old!r} is not in it"
            source.write_text(source.read_text().replace(old, new, 1))
        how = {"step_threads": f"{code.threads}", "step_launches": f"{code.launches}"}
        options = Options.build({**GRID, **how, "step_results": str(copy / "results")})
        return measured_grid(options, lambda *_: None, LauncherOf(copy, *self.launchers))  # type: ignore[arg-type]

    def explained(self, planted: Planted) -> Compared:
        return self._compared(planted, self.source_of)

    def explained_anew(self, planted: Planted) -> Compared:
        """Measure both once more."""
        return self._compared(planted, self._source_of)

    @staticmethod
    def _compared(planted: Planted, source_of: Callable[[Code], Source]) -> Compared:
        (result,) = compare_cases(source_of(planted.before), source_of(planted.after)).results
        return result


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    of_any_code = partial(Launcher, of_any_code=True)
    with closing(of_any_code()) as usual, closing(of_any_code({})) as other:
        yield Workshop(tmp_path_factory.mktemp("planted"), usual, other)


def says(cause: Cause, planted: Planted) -> bool:
    told = f"{cause.what} {cause.change} {cause.meaning}"
    return cause.phase in planted.phases.split() and all(words in told for words in planted.words)


@pytest.mark.parametrize("name", CAUSES)
def test_a_planted_cause_is_named_first(workshop: Workshop, name: str) -> None:
    """Before everything else that differs between the two runs.

    A neighbour that slows one of the two runs comes before an `.item()` of 0.2 µs, but not in two tries.
    """
    planted = CAUSES[name]
    result = workshop.explained(planted)
    if not (result.causes and says(result.causes[0], planted)):
        result = workshop.explained_anew(planted)
    assert result.causes, "nothing was found"
    assert says(result.causes[0], planted), result.causes


def test_the_same_code_twice_has_no_exact_change(workshop: Workshop) -> None:
    """Whatever its times do."""
    again = edited("# what loss.backward() calls", "# the same, said in other words")
    result = workshop.explained(Planted(PLAIN, again, "", ()))
    assert not [cause for cause in result.causes if cause.exact]
