"""Train the network on a data set and print its accuracy."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import isfinite
from pathlib import Path
from typing import NoReturn

import torch

from nncore.data import Dataset, load_dataset, make_loader
from nncore.device import choose_device, seed_everything
from nncore.evaluate import evaluate
from nncore.mnist import DatasetError
from nncore.model import SimpleNN
from nncore.step import TrainStep
from nncore.train import train

_MOST = 1_000_000  # any larger size is a typing error


@dataclass(frozen=True)
class Options:
    """The parsed command line: numbers are checked, names are checked where they are used."""

    dataset: str
    epochs: int
    batch_size: int
    hidden: int
    lr: float
    device: str | None
    seed: int
    data_dir: Path | None
    download: bool


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit with one sentence, without argparse's usage."""
        _refuse(message)


def parse(argv: Sequence[str] | None = None) -> Options:
    """Parse and check the command line; exits with code 2 on a bad option."""
    parser = _Parser(prog="python -m nncore", description=__doc__, allow_abbrev=False)
    add = partial(parser.add_argument, metavar="X")
    add("--dataset", default="digits", help="digits (default), mnist, fashion-mnist or synthetic")
    add("--epochs", default=5, type=_count, help="passes over the training set (default 5)")
    add("--batch-size", default=16, type=_count, help="samples per step (default 16)")
    add("--hidden", default=128, type=_count, help="width of the hidden layer (default 128)")
    add("--lr", default=0.001, type=_positive, help="learning rate of Adam (default 0.001)")
    add("--device", help="cpu or cuda (default: cuda where there is one)")
    add("--seed", default=0, type=_seed, help="for split, parameters and order (default 0)")
    add("--data-dir", type=Path, help="folder of data files (default: $NNCORE_DATA or ~/.cache/nncore)")
    parser.add_argument("--download", action="store_true", help="fetch the files of mnist and fashion-mnist")
    return Options(**vars(parser.parse_args(argv)))


def run(options: Options) -> None:
    """Train and print each epoch's loss, then the accuracy and loss on the test set."""
    data, device = _prepare(options)
    say = partial(print, flush=True)  # through a pipe, too, each line should appear at once
    say(
        f"{data.name} on {device}: {len(data.train_inputs)} training and {len(data.test_inputs)} test samples"
    )
    loader = partial(make_loader, batch_size=options.batch_size, seed=options.seed)
    model = SimpleNN(hidden_size=options.hidden).to(device)
    training = loader(data.train_inputs, data.train_targets, shuffle=True)
    train(TrainStep(model, lr=options.lr), training, options.epochs, device, log=say)
    result = evaluate(model, loader(data.test_inputs, data.test_targets, shuffle=False), device)
    say(f"Test accuracy: {100 * result.accuracy:.2f} %")
    say(f"Test loss: {result.mean_loss:.4f}")


def _prepare(options: Options) -> tuple[Dataset, torch.device]:
    """Return data and device, or exit with code 2 before any training."""
    try:
        device = choose_device(options.device)
        seed_everything(options.seed)
        data = load_dataset(
            options.dataset, data_dir=options.data_dir, download=options.download, seed=options.seed
        )
    except (DatasetError, ValueError) as error:
        _refuse(str(error))
    return data, device


def main(argv: Sequence[str] | None = None) -> None:
    """Run the program; exit codes: 0, 2 for bad input, 130 for Ctrl-C."""
    options = parse(argv)
    try:
        run(options)
    except KeyboardInterrupt:
        sys.exit(130)


def _refuse(sentence: str) -> NoReturn:
    sys.stderr.write(f"python -m nncore: {sentence}\n")
    sys.exit(2)


def _count(text: str) -> int:
    return _whole(text, 1, _MOST)


def _seed(text: str) -> int:
    return _whole(text, 0, 2**32 - 1)


def _whole(text: str, least: int, most: int) -> int:
    number = int(text) if text.isdecimal() else -1
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} to {most}")
    return number


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not (isfinite(number) and number > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number (example: 0.001)")
    return number


if __name__ == "__main__":
    main()
