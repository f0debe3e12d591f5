"""What fetching a batch takes, in the workers of a DataLoader as well: the dataset, transforms, collating.

Workers are forked from the watched process. Their counts lie in memory that they share with it, and they
count while it says so; otherwise they only look whether it does.
"""

import mmap
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

from torch.utils.data import _utils, get_worker_info

from nncore_bench.watch.seams import replace_in

if TYPE_CHECKING:
    from types import TracebackType

TRANSFORMS = ("transforms", "transform", "target_transform")
"""The attributes of a dataset that torchvision's, and most people's, call for each sample."""

WORKERS = 64
BATCHES, WHOLE_NS, TRANSFORM_NS, COLLATE_NS = range(4)
FETCHERS = (_utils.fetch._MapDatasetFetcher, _utils.fetch._IterableDatasetFetcher)  # noqa: SLF001


@dataclass(frozen=True)
class Fetched:
    """The batches that were fetched by a process, the main one or a worker, and the nanoseconds of all."""

    batches: int
    whole_ns: int
    transform_ns: int
    collate_ns: int


class Fetching:
    """The counts of the main process, which come first, and of its workers by their numbers."""

    def __init__(self) -> None:
        self._shared = memoryview(mmap.mmap(-1, 8 * (1 + 4 * (1 + WORKERS)))).cast("q")
        self._usual = {fetcher: fetcher.fetch for fetcher in FETCHERS}

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what is fetched, here and in workers."""
        with ExitStack() as undo:
            self._put(undo)
            self._shared[0] = 1
            try:
                yield
            finally:
                self._shared[0] = 0

    def in_worker(self) -> None:
        """Count in this process, which was just forked, whenever the main one does; to its end."""
        self._put(ExitStack())
        worker: Any = _utils.worker
        worker.ExceptionWrapper = _without_our_frames(worker.ExceptionWrapper)

    def seen(self) -> list[Fetched]:
        """Return the counts so far, of the main process and of each worker that fetched anything."""
        rows = [self._shared[at : at + 4].tolist() for at in range(1, len(self._shared), 4)]
        return [Fetched(*row) for number, row in enumerate(rows) if number == 0 or row[BATCHES]]

    def counts(self) -> list[int]:
        """Return all counts, to be put back."""
        return self._shared.tolist()

    def put_back(self, counts: Sequence[int]) -> None:
        """Forget what was counted since; what workers count at this very moment may be lost."""
        for at, number in enumerate(counts):
            self._shared[at] = number

    def _put(self, undo: ExitStack) -> None:
        for fetcher, usual in self._usual.items():
            replace_in(undo, fetcher, "fetch", self._fetch(usual))

    def _fetch(self, usual: Callable[..., Any]) -> Callable[..., Any]:
        shared = self._shared

        def fetch(fetcher: Any, index: Any) -> Any:  # noqa: ANN401 - a fetcher of torch, and what it takes
            if not shared[0]:
                return usual(fetcher, index)
            spent, undo = {COLLATE_NS: 0, TRANSFORM_NS: 0}, ExitStack()
            try:
                _put_timers(undo, fetcher, spent)
            except Exception:  # noqa: BLE001 - a dataset that is made unlike others is not counted
                undo.close()
                return usual(fetcher, index)
            with undo:
                begun = perf_counter_ns()
                batch = usual(fetcher, index)
                whole = perf_counter_ns() - begun
            info = get_worker_info()
            at = 1 + 4 * (0 if info is None else 1 + info.id % WORKERS)
            for what, ns in {BATCHES: 1, WHOLE_NS: whole, **spent}.items():
                shared[at + what] += ns
            return batch

        return fetch


def _put_timers(undo: ExitStack, fetcher: Any, spent: dict[int, int]) -> None:  # noqa: ANN401 - one of torch
    """Add to `spent` what collating takes, and the outermost transforms."""
    under_way = False

    def timing(what: int, usual: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - whatever it takes and returns
            nonlocal under_way
            if under_way:
                return usual(*arguments, **keywords)
            under_way, begun = True, perf_counter_ns()
            try:
                return usual(*arguments, **keywords)
            finally:
                spent[what] += perf_counter_ns() - begun
                under_way = False

        return timed

    replace_in(undo, fetcher, "collate_fn", timing(COLLATE_NS, fetcher.collate_fn))
    for dataset in _within(fetcher.dataset):
        for name in TRANSFORMS:
            if callable(vars(dataset).get(name)):
                replace_in(undo, dataset, name, timing(TRANSFORM_NS, vars(dataset)[name]))


def _within(dataset: Any) -> Iterator[Any]:  # noqa: ANN401 - whatever a DataLoader takes
    """Yield a dataset and those that it is made of, such as that of a Subset."""
    if hasattr(dataset, "__dict__"):
        yield dataset
        inner = vars(dataset)
        for one in (inner.get("dataset"), *(inner.get("datasets") or ())):
            if one is not None:
                yield from _within(one)


def _without_our_frames(usual: Callable[..., Any]) -> Callable[..., Any]:
    """Return torch's wrapper of a worker's exception, which tells of it as if we had not been there."""

    def wrapper(exc_info: Any = None, where: str = "in background") -> Any:  # noqa: ANN401 - torch's own
        info = sys.exc_info() if exc_info is None else exc_info
        trace: TracebackType | None = info[2]
        while trace is not None:
            while trace.tb_next is not None and trace.tb_next.tb_frame.f_code.co_filename == __file__:
                trace.tb_next = trace.tb_next.tb_next
            trace = trace.tb_next
        return usual(info, where)

    return wrapper
