"""Parents: the processes that workers of both arms are forked from, or spawned beside, replaced now and then.

Forks of one parent share the places of its memory and its hash seed, so an arm meets many of both. Arms of
one Python share their parent, and what differs between them is their code alone.
"""

import random
from collections.abc import Callable, Mapping
from pathlib import Path

from nncore_bench.campaign.launcher import Launcher, WorkerError
from nncore_bench.gate.pairs import Arm

PAIRS_PER_PARENT = 4
HASH_SEEDS = 2**32
StartParent = Callable[[str, Mapping[str, str]], Launcher]


def start_parent(python: str, environment: Mapping[str, str]) -> Launcher:
    """Return the process of a Python that has imported torch, and no code that is measured."""
    return Launcher(of_any_code=True, python=python, more=environment)


class Parents:
    """Keep a parent of each arm's Python; `pythons` are those of base and candidate.

    `more` is set in the environment of all of them.
    """

    def __init__(
        self,
        pythons: tuple[str, str],
        coins: random.Random,
        start: StartParent = start_parent,
        more: Mapping[str, str] | None = None,
    ) -> None:
        self._pythons = pythons
        self._more = more or {}
        self._coins = coins
        self._start = start
        self._parents: dict[str, tuple[Launcher, int]] = {}
        self._most = 2 * PAIRS_PER_PARENT // len(set(pythons))

    def launch(self, arm: int, device: str, path: Path, cores: tuple[int, ...]) -> Arm:
        """Return a worker of an arm for a device, of the code in a folder, on cores; raises WorkerError.

        On CUDA it may use every core, see `Launcher.start`.
        """
        python = self._pythons[arm]
        try:
            return self._parent(python).start(device, str(path), cores)
        except (WorkerError, OSError) as error:
            raise WorkerError(f"{error} (with {python})") from None

    def torch(self, arm: int) -> str:
        """Return the version of torch in an arm's Python; raises WorkerError."""
        return str(self._parent(self._pythons[arm]).hello.facts["torch"])

    def _parent(self, python: str) -> Launcher:
        """Return the parent of a Python for one more launch, a fresh one now and then."""
        parent, forks = self._parents.pop(python, (None, 0))
        if parent is not None and forks >= self._most:
            parent.close()
            parent, forks = None, 0
        if parent is None:
            seed = str(self._coins.randrange(HASH_SEEDS))
            parent = self._start(python, {**self._more, "PYTHONHASHSEED": seed})
        self._parents[python] = (parent, forks + 1)
        return parent

    def close(self) -> None:
        """End the parents and every worker of them."""
        for parent, _ in self._parents.values():
            parent.close()
        self._parents.clear()
