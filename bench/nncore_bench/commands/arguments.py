"""Arguments shared by several commands."""

import argparse
import os
from pathlib import Path
from typing import NoReturn

from nncore_bench import options as step_options
from nncore_bench.commands.answer import UNUSABLE
from nncore_bench.errors import UserError

RUN_HELP = "folder of a run, its run.json, or a benchmark.json"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one sentence, without argparse's usage."""

    def error(self, message: str) -> NoReturn:
        """Exit with the sentence and exit code 2."""
        self.exit(UNUSABLE, f"{self.prog}: {message}\n")


def add_results(parser: argparse.ArgumentParser) -> None:
    """Add the option for the folder of stored runs."""
    parser.add_argument(
        "--results",
        "--step-results",
        type=Path,
        default=Path("results"),
        metavar="DIR",
        help="folder of stored runs (default: results)",
    )


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the suite, with `--results` as an alias of `--step-results`."""
    step_options.declare(parser.add_argument)
    parser.add_argument("--results", dest="step_results", help=argparse.SUPPRESS)


def writable(option: str, file: Path | None) -> Path | None:
    """Check before the work that a file can be written after it; raises UserError."""
    if file is not None and (file.is_dir() or not os.access(file.parent, os.W_OK)):
        raise UserError(f"{option}: {str(file)!r} cannot be written (name a file in an existing folder)")
    return file
