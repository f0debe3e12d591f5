"""What the arguments of several commands have in common."""

import argparse
import os
from pathlib import Path
from typing import NoReturn

from nncore_bench import options as step_options
from nncore_bench.commands.answer import UNUSABLE
from nncore_bench.errors import UserError

RUN_HELP = "folder of a run, its run.json, or a benchmark.json"


class Parser(argparse.ArgumentParser):
    """A parser that leaves with one sentence, where argparse would put the usage before it."""

    def error(self, message: str) -> NoReturn:
        """Leave with the sentence and exit code 2."""
        self.exit(UNUSABLE, f"{self.prog}: {message}\n")


def add_results(parser: argparse.ArgumentParser) -> None:
    """Add the folder in which runs are looked for."""
    parser.add_argument(
        "--results",
        "--step-results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="where runs are (default: results)",
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the suite; its folder of results may be called as `report` calls it."""
    step_options.declare(parser.add_argument)
    parser.add_argument("--results", dest="step_results", help=argparse.SUPPRESS)


def writable(option: str, file: Path | None) -> Path | None:
    """Return a file that can be written when all is done; raises UserError."""
    if file is not None and (file.is_dir() or not os.access(file.parent, os.W_OK)):
        raise UserError(f"{option}: {str(file)!r} cannot be written (name a file in a folder that is there)")
    return file
