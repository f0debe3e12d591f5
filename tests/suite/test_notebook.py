"""`measure_step`: objects of a notebook reach the processes that measure, and a tidy frame comes back."""

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TypeAlias

import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from nncore_bench import measure_step
from nncore_bench.cases import PHASES

pytestmark = pytest.mark.machine

Measure: TypeAlias = Callable[..., pd.DataFrame]
WAIT_S = 0.003
ON_CPU = set(PHASES) - {"copy"}


@pytest.fixture
def measured(tmp_path: Path) -> Measure:
    """As little as can be measured: two launches, for a second."""
    return partial(measure_step, batch_sizes=[4], devices="cpu", budget=1, launches=2, results=tmp_path)


def phase(frame: pd.DataFrame, name: str) -> pd.Series:
    (row,) = frame[frame["phase"] == name].to_dict("records")
    return pd.Series(row)


def test_a_network_as_it_stands_is_measured_in_all_its_phases(measured: Measure, tmp_path: Path) -> None:
    """One row a phase and batch size, and what was assumed besides."""
    frame = measured(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), batch_sizes=[2, 4])
    assert set(frame["phase"]) == ON_CPU
    assert len(frame) == 2 * len(ON_CPU)
    assert set(frame["batch_size"]) == {2, 4}
    assert set(frame["subject"]) == {"measure_step:Sequential"}
    assert (frame["status"] == "ok").all()
    assert (frame["time_s"] > 0).all()
    assert phase(frame[frame["batch_size"] == 4], "forward")["flop"] == 2 * 4 * (6 * 5 + 5 * 3)
    assert Path(frame.attrs["run"]).parent == tmp_path
    assert "inputs: synthetic, 6 a sample" in frame.attrs["assumed"]


def test_a_class_that_no_module_holds_is_measured(measured: Measure) -> None:
    """As in a cell of a notebook; its forward waits 3 ms, which its row shows."""

    class Waiting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2)

        def forward(self, inputs: Tensor) -> Tensor:
            end = time.perf_counter() + WAIT_S
            while time.perf_counter() < end:
                pass
            return self.layer(inputs)

    frame = measured(Waiting)
    assert phase(frame, "forward")["time_s"] == pytest.approx(WAIT_S, rel=0.2)
    assert phase(frame, "backward")["time_s"] < WAIT_S


def test_an_object_brings_its_batch_loss_and_optimizer(measured: Measure) -> None:
    """Nothing is taken for granted then."""
    model = nn.Linear(3, 1)
    subject = SimpleNamespace(
        model=model,
        batch=(torch.ones(8, 3), torch.zeros(8, 1)),
        loss=nn.MSELoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )
    frame = measured(subject)
    assert frame.attrs["assumed"] == []
    assert set(frame["phase"]) == ON_CPU


def test_a_name_is_measured_as_everywhere(measured: Measure) -> None:
    """The SimpleNN, with an axis of its own."""
    frame = measured("simplenn", hidden=8)
    assert set(frame["hidden"]) == {8}
    assert phase(frame, "forward")["flop"] == 2 * 4 * (784 * 8 + 8 * 10)


def test_what_cannot_be_sent_is_refused_in_one_sentence(measured: Measure, tmp_path: Path) -> None:
    """Before anything is measured."""
    holds_a_lock = nn.Linear(3, 2)
    holds_a_lock.lock = threading.Lock()
    with pytest.raises(ValueError, match="give the function that makes it"):
        measured(holds_a_lock)
    assert not list(tmp_path.iterdir())


def test_a_bad_argument_is_refused_as_the_option_is(measured: Measure) -> None:
    """The same sentence, since it is the same check."""
    with pytest.raises(ValueError, match="--step-batch-sizes: 0 is not positive"):
        measured(nn.Linear(3, 2), batch_sizes=[0])


def test_a_subject_that_cannot_be_made_is_an_error_that_names_it(measured: Measure) -> None:
    """And no frame of empty rows."""

    def broken() -> nn.Module:
        raise RuntimeError("no such weights")

    with pytest.raises(ValueError, match="measure_step:broken raised RuntimeError: no such weights"):
        measured(broken)
