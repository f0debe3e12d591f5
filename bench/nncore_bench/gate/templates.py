"""Template processes that import torch once; workers of both sides are forked from them, or spawned.

They are replaced now and then, so that a side meets many memory layouts and hash seeds: forks share those of
their template. Sides of one Python share their template and differ in their code alone.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nncore_bench.campaign.launcher import Asked, Launcher, WorkerError

PAIRS_PER_TEMPLATE = 4
HASH_SEEDS = 2**32
StartTemplate = Callable[[str, Mapping[str, str]], Launcher]


def start_template(python: str, environment: Mapping[str, str]) -> Launcher:
    """Start a Python that imports torch, but none of the measured code."""
    return Launcher(of_any_code=True, python=python, more=environment)


@dataclass
class Templates:
    """A template process for each side's Python; `pythons` are those of base and candidate.

    `more` is set in the environment of all of them.
    """

    pythons: tuple[str, str]
    coins: random.Random
    start: StartTemplate = start_template
    more: Mapping[str, str] | None = None

    def __post_init__(self) -> None:
        self._templates: dict[str, tuple[Launcher, int]] = {}
        self._most = 2 * PAIRS_PER_TEMPLATE // len(set(self.pythons))

    def launch(self, side: int, device: str, path: Path, cores: tuple[int, ...]) -> Asked:
        """Return a worker of a side for a device, with the code of a folder, on cores; raises WorkerError.

        On CUDA it may use every core, see `Launcher.start`.
        """
        python = self.pythons[side]
        try:
            return self._template(python).start(device, str(path), cores)
        except (WorkerError, OSError) as error:
            raise WorkerError(f"{error} (with {python})") from None

    def torch(self, side: int) -> str:
        """Return the version of torch in a side's Python; raises WorkerError."""
        return str(self._template(self.pythons[side]).hello.facts["torch"])

    def _template(self, python: str) -> Launcher:
        """Return the template of a Python for one more launch, now and then a fresh one."""
        template, forks = self._templates.pop(python, (None, 0))
        if template is not None and forks >= self._most:
            template.close()
            template, forks = None, 0
        if template is None:
            seed = str(self.coins.randrange(HASH_SEEDS))
            template = self.start(python, {**(self.more or {}), "PYTHONHASHSEED": seed})
        self._templates[python] = (template, forks + 1)
        return template

    def close(self) -> None:
        """End the template processes and every worker of them."""
        for template, _ in self._templates.values():
            template.close()
        self._templates.clear()
