"""Whatever goes wrong in watching: the training computes the same, nothing of ours stays, and it is told."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

from nncore_bench.watch import examine, fetching, marks, process, seams, windows
from nncore_bench.watch.marks import FACTS_FILE
from nncore_bench.watch.process import Watcher
from nncore_bench.watching import Watch

STEPS = 90
PLACES: list[tuple[Any, str]] = [
    *(
        (process, name)
        for name in ("get_ident", "phase_of", "is_compiled", "called_from_outside", "put_seams")
    ),
    *((process, name) for name in ("replace_in", "watched", "graphs_compiled", "ref")),
    *((process, name) for name in ("functions_of_steps", "places_of", "_outermost", "window_mark")),
    *((Watcher, name) for name in ("_stepped", "_new", "_find_leader", "_next", "_find_models", "_know")),
    *((Watcher, name) for name in ("_alive", "_put_seams", "_numbered")),
    *((seams, name) for name in ("replace_in", "phase_of", "_call_of")),
    *((marks.Marks, name) for name in ("mark", "marking", "count")),
    (marks.Names, "__missing__"),
    (marks.Facts, "learn"),
    (marks, "perf_counter_ns"),
    *((examine.Examination, name) for name in ("put", "seen", "_reading", "_handing", "_fetching")),
    (examine, "get_ident"),
    *((fetching.Fetching, name) for name in ("counted", "seen", "_put")),
    (fetching, "_put_timers"),
    *((process, name) for name in ("resident_kb", "compilations", "_form")),
    *((Watcher, name) for name in ("_look_around", "_marking")),
    (windows.Plan, "windows"),
    (process.gc, "get_objects"),
]


def train(watch: Watch | None = None) -> tuple[list[float], nn.Module, torch.optim.Optimizer]:
    """Train a network, watched or not, and return its losses."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    schedule = StepLR(optimizer, 10)
    criterion = nn.MSELoss()
    data = DataLoader(TensorDataset(torch.randn(4 * STEPS, 4), torch.randn(4 * STEPS, 1)), 4, shuffle=True)
    losses = []
    for x, y in data if watch is None else watch.steps(data):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
    return losses, model, optimizer


def things_that_seams_change() -> list[object]:
    return [
        torch.autograd.backward,
        torch.autograd.grad,
        torch.nn.utils.clip_grad_norm_,
        torch.nn.functional.mse_loss,
        torch.save,
        torch.amp.GradScaler.step,
        process.dataloader._BaseDataLoaderIter.__next__,
        DataLoader.__iter__,
    ]


def facts_of(watch: Watch) -> dict[str, Any]:
    assert watch.folder is not None
    file = watch.folder / FACTS_FILE
    found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    return found


def failing_from(call: int, usual: Callable[..., Any]) -> Callable[..., Any]:
    calls = 0

    def fails(*arguments: Any, **keywords: Any) -> Any:  # noqa: ANN401 - whatever it is called with
        nonlocal calls
        calls += 1
        if calls >= call:
            raise RuntimeError("planted")
        return usual(*arguments, **keywords)

    return fails


@pytest.mark.parametrize("call", [1, 4])
@pytest.mark.parametrize(("owner", "name"), PLACES, ids=lambda one: getattr(one, "__name__", str(one)))
def test_an_error_of_ours_changes_nothing(
    owner: object, name: str, call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, *_ = train()
    before = things_that_seams_change()
    watch = Watch(results=tmp_path, skip=5, length=3)
    with watch:
        monkeypatch.setattr(owner, name, failing_from(call, getattr(owner, name)))
        losses, model, optimizer = train(watch)
        monkeypatch.undo()
        at_the_end = things_that_seams_change()
    assert losses == alone
    assert all(one is other for one, other in zip(things_that_seams_change(), before, strict=True))
    assert "_compiled_call_impl" not in vars(model)
    assert "zero_grad" not in vars(optimizer)
    if "planted" in facts_of(watch).get("error", ""):
        assert all(one is other for one, other in zip(at_the_end, before, strict=True))


def test_without_an_error_all_of_it_is_watched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = things_that_seams_change()
    with Watch(results=tmp_path, skip=5, length=3, name="this test") as watch:
        train(watch)
    said = capsys.readouterr().err
    assert f"Where a step of this test goes (15 steps watched of {STEPS})" in said
    for phase in ("waiting for data", "forward", "loss", "backward", "clip", "optimizer", "zero_grad"):
        assert f"\n| {phase} " in said
    assert things_that_seams_change() == before
    assert "error" not in facts_of(watch)
