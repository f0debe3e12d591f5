"""Trying other settings of a script's own DataLoader, within its own training loop.

The loop runs on and does not know where its batches come from: after some steps they come from a DataLoader
of other settings on the same dataset, in random turn. What a setting is worth includes all that its workers
take from the training step, and is told by the steps themselves.
"""

import os
import random
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook
from torch.utils.data import DataLoader, IterableDataset

from nncore_bench.watch.marks import Facts

WARM_UP_STEPS = 10
WINDOW_S, LEAD_S = 0.4, 0.3
"""Seconds of a window that count, and before them, while the workers of the one before fill their queues."""

FEWEST_STEPS = 5
FETCHED_AHEAD = 2
"""Batches of each worker, if nothing else is set: torch's own prefetch_factor."""

GIVEN_UP = 1.25
"""A setting whose steps take so many times those of the best is tried no more, after `FEWEST_WINDOWS`."""

FEWEST_WINDOWS = 3


@dataclass(frozen=True)
class Setting:
    """Settings of a DataLoader: nothing is prefetched, and nobody persists, without workers."""

    workers: int
    prefetch: int | None
    persistent: bool
    pinned: bool

    @classmethod
    def of(cls, loader: DataLoader[Any]) -> "Setting":
        """Return those of a loader."""
        persistent = bool(loader.persistent_workers)
        return cls(loader.num_workers, loader.prefetch_factor, persistent, bool(loader.pin_memory))


@dataclass
class Tried:
    """A setting, its batches without end, and the seconds of a step in each of its windows."""

    setting: Setting
    loader: DataLoader[Any]
    batches: Iterator[Any] | None = None
    step_s: list[float] = field(default_factory=list)
    rounds: list[int] = field(default_factory=list)

    def __next__(self) -> Any:  # noqa: ANN401 - a batch
        if self.batches is None:
            self.batches = USUAL(self.loader)
        try:
            return next(self.batches)
        except StopIteration:
            self.batches = USUAL(self.loader)
            return next(self.batches)

    @property
    def leading(self) -> int:
        """The steps at the beginning of a window that take what was fetched before it."""
        return 2 + self.setting.workers * (self.setting.prefetch or 0)


USUAL = DataLoader.__iter__


class Trial:
    """The trial of settings in this process, from `begin` to its end, which it brings about."""

    def __init__(self, facts: Facts, limit_s: float, seed: int) -> None:
        self.facts, self.limit_s = facts, limit_s
        self._coin = random.Random(seed)  # noqa: S311 - a coin, no secret
        self._last: DataLoader[Any] | None = None
        self._steps = 0
        self.training: DataLoader[Any] | None = None
        self.tried: list[Tried] = []
        self._turn: list[Tried] = []
        self._round = 0
        self._now: Tried | None = None
        self._leading, self._left, self._counted = True, 0, 0
        self._since = self._until = 0.0
        self._refined = False

    def begin(self) -> None:
        """Serve the batches of all loaders from now on."""
        self.facts.learn(torch=torch.__version__)
        register_optimizer_step_post_hook(self._stepped)
        trial = self
        serve: Any = lambda loader: Served(loader, trial)  # noqa: E731 - a method of another class
        DataLoader.__iter__ = serve  # type: ignore[method-assign]

    def fetched_from(self, loader: DataLoader[Any]) -> None:
        """Remember that a batch of a loader comes next."""
        self._last = loader

    def _stepped(self, *_: object) -> None:
        """See in the first steps which loader feeds training."""
        self._steps += 1
        if self.training is None and self._steps >= WARM_UP_STEPS and self._last is not None:
            self.training = self._last
            self._until = time.monotonic() + self.limit_s
            self.tried = [self._of(setting) for setting in self._settings()]

    def _settings(self) -> list[Setting]:
        """Return the settings to try, first that of the script."""
        assert self.training is not None  # noqa: S101 - for the type checker
        own = Setting.of(self.training)
        cores = len(os.sched_getaffinity(0))
        some = {0, 1, 2, *(2**power for power in range(2, 8)), cores}
        workers = [number for number in sorted(some) if number <= cores]
        if isinstance(self.training.dataset, IterableDataset):
            workers = [own.workers]  # each worker would yield all of it
        found = [
            Setting(number, FETCHED_AHEAD if number else None, bool(number), own.pinned) for number in workers
        ]
        return list(dict.fromkeys([own, *found]))

    def _of(self, setting: Setting) -> Tried:
        """Return a setting with a loader of it on the dataset of the script's."""
        own = self.training
        assert own is not None  # noqa: S101 - the same
        if setting == Setting.of(own):
            return Tried(setting, own)
        how: dict[str, Any] = {"batch_sampler": own.batch_sampler}
        if own.batch_sampler is None:
            how = {"batch_size": None, "sampler": own.sampler}
        return Tried(
            setting,
            DataLoader(
                own.dataset,
                **how,
                num_workers=setting.workers,
                prefetch_factor=setting.prefetch,
                pin_memory=setting.pinned,
                persistent_workers=setting.persistent,
                collate_fn=own.collate_fn,
                worker_init_fn=own.worker_init_fn,
                multiprocessing_context=own.multiprocessing_context if setting.workers else None,
                generator=own.generator,
            ),
        )

    def next_batch(self) -> Any:  # noqa: ANN401 - a batch
        """Return the next batch of training, from the setting whose turn it is."""
        now = time.perf_counter()
        if self._now is None:
            self._begin_window(now)
        elif self._leading:
            self._left -= 1
            self._leading = self._left > 0 or now - self._since < LEAD_S
            self._since = self._since if self._leading else now
        else:
            self._counted += 1
            if self._counted >= FEWEST_STEPS and now - self._since >= WINDOW_S:
                self._now.step_s.append((now - self._since) / self._counted)
                self._now.rounds.append(self._round)
                self._begin_window(now)
        assert self._now is not None  # noqa: S101 - the same
        return next(self._now)

    def _begin_window(self, now: float) -> None:
        """Take the next setting in turn."""
        if not self._turn:
            self._next_round()
        self._now = self._turn.pop()
        self._leading, self._left, self._counted, self._since = True, self._now.leading, 0, now

    def _next_round(self) -> None:
        self.write()
        passed = 1 - (self._until - time.monotonic()) / self.limit_s
        if passed >= 1:
            self.end()
        self._round += 1
        alive = self.alive()
        if passed >= 1 / 3 and not self._refined:
            self._refined = True
            best = min(alive, key=_mean)
            known = {one.setting for one in self.tried}
            more = [one for one in self._around(best.setting) if one not in known]
            self.tried += [self._of(setting) for setting in more]
            alive = self.alive()
        self._turn = self._coin.sample(alive, len(alive))

    def _around(self, best: Setting) -> list[Setting]:
        found = [replace(best, prefetch=number) for number in (1, 4, 8) if best.workers]
        if torch.cuda.is_available():
            found.append(replace(best, pinned=not best.pinned))
        return found

    def alive(self) -> list[Tried]:
        """Return the settings that may still be the best, and always that of the script."""
        known = [_mean(one) for one in self.tried if len(one.step_s) >= FEWEST_WINDOWS]
        limit = GIVEN_UP * min(known, default=float("inf"))
        return [
            one
            for number, one in enumerate(self.tried)
            if number == 0 or len(one.step_s) < FEWEST_WINDOWS or _mean(one) <= limit
        ]

    def write(self) -> None:
        """Write down what is known so far."""
        self.facts.learn(
            tried=[{**vars(one.setting), "step_s": one.step_s, "rounds": one.rounds} for one in self.tried]
        )

    def end(self) -> None:
        """End the process, with its workers."""
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        for one in self.tried:
            with suppress(Exception):
                one.batches._shutdown_workers()  # type: ignore[union-attr] # noqa: SLF001 - else they wait for us
        os._exit(0)


class Served:
    """What iterating over a DataLoader returns while a trial runs."""

    def __init__(self, loader: DataLoader[Any], trial: Trial) -> None:
        self._loader, self._trial = loader, trial
        self._batches: Iterator[Any] | None = None
        self._left = len(loader) if _has_length(loader) else -1

    def __iter__(self) -> Iterator[Any]:
        return self

    def __len__(self) -> int:
        return len(self._loader)

    def __next__(self) -> Any:  # noqa: ANN401 - a batch
        if self._loader is not self._trial.training:
            self._trial.fetched_from(self._loader)
            if self._batches is None:
                self._batches = USUAL(self._loader)
            self._left -= 1
            return next(self._batches)
        if self._left == 0:
            raise StopIteration
        self._left -= 1
        return self._trial.next_batch()


def _has_length(loader: DataLoader[Any]) -> bool:
    try:
        len(loader)
    except TypeError:
        return False
    return True


def _mean(one: Tried) -> float:
    return sum(one.step_s) / len(one.step_s) if one.step_s else float("inf")
