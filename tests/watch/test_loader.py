"""`nncore-bench loader`: which settings are chosen from what was tried, and a real trial."""

import json
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from nncore_bench.report.loaders import chosen, loader_table, settings_of
from nncore_bench.watch.loaders import Setting, Trial
from nncore_bench.watch.marks import Facts

SCRIPT = """
    import time
    import torch
    from torch import nn
    from torch.utils.data import DataLoader, Dataset


    class Slow(Dataset):
        def __len__(self):
            return 100_000

        def __getitem__(self, index):
            time.sleep({sleep_s})
            return torch.ones(4), torch.ones(1)


    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    print("begins")
    for x, y in DataLoader(Slow(), batch_size=8):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
"""


def facts(*factors: float, noise: float = 0.01, rounds: int = 8) -> dict[str, object]:
    """Make up a trial of 0, 1, 2, ... workers, whose steps take so many times as long as the first's."""
    random = np.random.default_rng(0)
    level = 0.01 * (1 + random.random(rounds))  # what the machine does to all of a round
    return {
        "tried": [
            {
                "workers": number,
                "prefetch": 2 if number else None,
                "persistent": number > 0,
                "pinned": False,
                "rounds": list(range(rounds)),
                "step_s": list(factor * level * (1 + noise * random.standard_normal(rounds))),
            }
            for number, factor in enumerate(factors)
        ]
    }


def test_speed_ups_are_those_of_the_same_rounds() -> None:
    own, one, two = settings_of(facts(1.0, 0.5, 0.8, noise=0.0))
    assert own.speed_up is None
    for setting, speed_up in ((one, 2.0), (two, 1.25)):
        assert setting.speed_up is not None
        assert setting.speed_up.value == pytest.approx(speed_up)
        assert setting.speed_up.low == pytest.approx(speed_up)


def test_the_fastest_is_chosen_and_of_alike_ones_that_with_fewer_workers() -> None:
    assert chosen(settings_of(facts(1.0, 0.8, 0.5))).workers == 2
    assert chosen(settings_of(facts(1.0, 0.5, 0.499, noise=0.0))).workers == 1


def test_nothing_is_changed_for_less_than_it_is_worth_or_than_noise() -> None:
    assert chosen(settings_of(facts(1.0, 0.99, 0.995, noise=0.0))).workers == 0
    assert chosen(settings_of(facts(1.0, 0.97, 1.1, noise=0.2))).workers == 0


def test_code_and_table_have_the_settings() -> None:
    settings = settings_of(facts(1.0, 0.5))
    assert settings[1].code == "num_workers=1, prefetch_factor=2, persistent_workers=True"
    assert settings[0].code == "num_workers=0"
    table = loader_table(settings, "train.py")
    assert table.shown["speed-up"].iloc[0] == "as it is"
    assert table.records()[1]["speed_up"] == pytest.approx(2.0, rel=0.05)


def settings_for(loader: DataLoader[object], folder: Path) -> list[Setting]:
    trial = Trial(Facts(folder), 1.0, 0)
    trial.training = loader
    return trial._settings()


def test_the_settings_of_the_script_come_first_and_workers_do_not_exceed_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)))
    data = TensorDataset(torch.ones(4))
    own, *others = settings_for(DataLoader(data, num_workers=2, prefetch_factor=3), tmp_path)
    assert own == Setting(2, 3, persistent=False, pinned=False)
    assert [one.workers for one in others] == [0, 1, 2, 4, 6]


def test_an_iterable_dataset_keeps_its_workers(tmp_path: Path) -> None:
    class Stream(IterableDataset[int]):
        def __iter__(self) -> Iterator[int]:
            return iter(range(9))

    assert {one.workers for one in settings_for(DataLoader(Stream()), tmp_path)} == {0}


@pytest.mark.machine
def test_workers_pay_where_samples_are_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text(textwrap.dedent(SCRIPT.format(sleep_s=0.003)))
    answer = tmp_path / "answer.json"
    words = [sys.executable, "-m", "nncore_bench", "loader", "--budget=15s", f"--results={tmp_path / 'r'}"]
    done = subprocess.run(
        [*words, f"--json={answer}", path.name], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("begins\n")
    found = json.loads(answer.read_text())
    assert "num_workers=" in found["verdict"]
    assert found["cause"]["workers"] > 0
    assert found["cause"]["speed_up_low"] > 1.3


@pytest.mark.machine
def test_without_a_loader_nothing_is_said(tmp_path: Path) -> None:
    path = tmp_path / "train.py"
    path.write_text("import torch")
    words = [sys.executable, "-m", "nncore_bench", "loader", f"--results={tmp_path / 'r'}", path.name]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no DataLoader fed an optimizer's step" in done.stderr
