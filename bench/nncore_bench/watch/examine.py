"""A closer look at some steps: which lines wait for a tensor's value, and what their batches take.

It costs more than a seam may, so its windows tell nothing about times of phases.
"""

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from threading import get_ident
from time import perf_counter_ns
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import dataloader

from nncore_bench.watch.fetching import Fetching
from nncore_bench.watch.seams import replace_in

if TYPE_CHECKING:
    from types import FrameType

READS = ("item", "tolist", "numpy", "cpu", "to", "__float__", "__int__", "__bool__", "__index__")
"""What needs the value of a tensor, so that on a device the host waits for all that was enqueued before."""

OF_TORCH = str(Path(torch.__file__).parent)
OURS = str(Path(__file__).parents[1])
LINES = 20
"""Lines that are kept, those with the longest times."""


class Examination:
    """What was seen in the windows in which steps are examined."""

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self.fetching = Fetching()
        self._times: Counter[tuple[str, int, str, str]] = Counter()
        self._calls: Counter[tuple[str, int, str, str]] = Counter()
        self._thread = 0
        self._handed = {"ready": 0, "ready_ns": 0, "late": 0, "late_ns": 0}
        self._datasets: set[int] = set()
        self._before = self.fetching.counts(), dict(self._handed)

    def put(self, undo: ExitStack) -> None:
        """Examine until `undo` is closed."""
        self._thread = get_ident()
        self._datasets.clear()
        self._before = self.fetching.counts(), dict(self._handed)
        for name in READS:
            replace_in(undo, Tensor, name, self._reading(name, getattr(Tensor, name)))
        loader = dataloader._MultiProcessingDataLoaderIter  # noqa: SLF001 - there is no public place
        replace_in(undo, loader, "_try_get_data", self._handing(loader._try_get_data))  # noqa: SLF001
        batches = dataloader._BaseDataLoaderIter  # noqa: SLF001 - the same
        replace_in(undo, batches, "__next__", self._fetching(batches.__next__))
        undo.enter_context(self.fetching.counted())

    def seen(self, steps: int) -> dict[str, Any]:
        """Return what was seen in so many steps: lines that read, what was fetched and handed over.

        Where batches of several datasets were fetched, as by an evaluation, nobody knows which took what.
        """
        if len(self._datasets) > 1:
            counts, handed = self._before
            self.fetching.put_back(counts)
            self._handed.update(handed)
        lines = [
            {"where": f"{file}:{line}", "call": name, "device": device, "calls": self._calls[key], "ns": ns}
            for key, ns in self._times.most_common(LINES)
            for file, line, name, device in [key]
        ]
        fetched = [asdict(one) for one in self.fetching.seen()]
        return {"steps": steps, "reads": lines, "fetched": fetched, "handed": self._handed}

    def _reading(self, name: str, usual: Callable[..., Any]) -> Callable[..., Any]:
        def read(tensor: Tensor, *arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - torch's own
            begun = perf_counter_ns()
            value = usual(tensor, *arguments, **keywords)
            if name != "to" or value.device.type == "cpu" != tensor.device.type:
                self._note(name, tensor, perf_counter_ns() - begun)
            return value

        return read

    def _note(self, name: str, tensor: Tensor, ns: int) -> None:
        try:
            frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - traceback.extract_stack reads all files
            while frame is not None and frame.f_code.co_filename.startswith((OF_TORCH, OURS)):
                frame = frame.f_back
            if frame is not None and get_ident() == self._thread:
                key = (frame.f_code.co_filename, frame.f_lineno, name.strip("_"), tensor.device.type)
                self._calls[key] += 1
                self._times[key] += ns
        except Exception as error:  # noqa: BLE001 - the training job goes on, whatever it is
            self._failed(error)

    def _fetching(self, usual: Callable[..., Any]) -> Callable[..., Any]:
        datasets = self._datasets

        def fetch(batches: Any) -> Any:  # noqa: ANN401 - an iterator of torch, and a batch
            datasets.add(id(getattr(batches, "_dataset", None)))
            return usual(batches)

        return fetch

    def _handing(self, usual: Callable[..., Any]) -> Callable[..., Any]:
        handed = self._handed

        def get(loader: Any, *arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - torch's own
            try:
                kind = "late" if loader._data_queue.empty() else "ready"  # noqa: SLF001 - the same
            except Exception as error:  # noqa: BLE001 - the same
                self._failed(error)
                kind = "late"
            begun = perf_counter_ns()
            found = usual(loader, *arguments, **keywords)
            if found[0]:  # else it asks again
                handed[kind] += 1
            handed[f"{kind}_ns"] += perf_counter_ns() - begun
            return found

        return get
