"""Watch the training steps of this process: `with Watch(model, optimizer) as watch: ...`."""

import atexit
import random
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

from nncore_bench.watch.phases import WAITING, phase

if TYPE_CHECKING:
    from nncore_bench.watch.process import Watcher

Batch = TypeVar("Batch")


class Watch:
    """Watch training steps within a `with` block, and print at its end where their time went.

    A step ends with that of an optimizer. `trained` are the models and optimizers to watch; without any they
    are found. `with phase("augment"):` names parts of a step, and `steps` the waiting for batches. `skip`
    steps come first, which are not watched; `steps` ends watching after so many watched ones. What was
    marked goes to a new folder in `results`.

    Watching follows the same plan as `nncore-bench run`: windows of `length` steps with seams, with idle ones
    and with none in random turn, so that it tells what it costs; an error in it ends it, and nothing else.

    Raises:
        UserError: a ValueError with one sentence if `results` cannot be written, or if one of `trained` is
            neither a model nor an optimizer.

    """

    def __init__(
        self,
        *trained: object,
        name: str | None = None,
        skip: int = 10,
        steps: int | None = None,
        length: int = 10,
        results: str | Path = "results",
    ) -> None:
        from nncore_bench.watch.windows import Plan  # noqa: PLC0415 - see __enter__

        self._trained, self._results = trained, Path(results)
        self._name = name or Path(sys.argv[0]).name or "this process"
        self._plan = Plan(skip, steps, length, seed=random.SystemRandom().randrange(2**32))
        self._watcher: Watcher | None = None
        self.folder: Path | None = None

    def __enter__(self) -> Self:
        """Begin to watch."""
        # torch takes seconds to import, and every command imports this package.
        from nncore_bench.machine.facts import host_name  # noqa: PLC0415
        from nncore_bench.runs import new_folder  # noqa: PLC0415
        from nncore_bench.watch.marks import Facts, Marks, prepare  # noqa: PLC0415
        from nncore_bench.watch.process import Watcher, refuse_others  # noqa: PLC0415

        refuse_others(self._trained)
        short = f"{self._plan.seed:08x}"
        self.folder = new_folder(self._results, host_name(), now=datetime.now(UTC), short_id=short)
        prepare(self.folder, name=self._name, plan=asdict(self._plan))
        self._watcher = Watcher(Marks(self.folder), Facts(self.folder), self._plan, self._trained)
        self._watcher.begin()
        atexit.register(self.__exit__)
        return self

    def __exit__(self, *_: object) -> None:
        """End, and print what was seen on standard error."""
        if self._watcher is None or self.folder is None:
            return
        from nncore_bench.report.watched import watched_report  # noqa: PLC0415
        from nncore_bench.watch.marks import trim_marks  # noqa: PLC0415

        self._watcher.leave()
        self._watcher = None
        atexit.unregister(self.__exit__)
        trim_marks(self.folder)
        sys.stderr.write(f"\n{watched_report(self.folder).text}")

    def steps(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """Yield the batches of a loop; waiting for them is a phase of its own, whatever they come from."""
        iterator = iter(batches)
        while True:
            with phase(WAITING):
                try:
                    batch = next(iterator)
                except StopIteration:
                    return
            yield batch
