"""The answer of a command: an exit code, and with `--json FILE` one document (`-` for standard output).

All commands share its schema; times are in seconds, sizes in bytes, and null means unknown:

    schema_version  1; increases when a key is removed or changes its meaning
    command         report, compare, profile, gate, advise, selftest, run or loader
    verdict         the decision as a word, or null if none was possible:
                    report    the slowest phase in most cases
                    compare   suspect, ok or not comparable
                    profile   finished or incomplete
                    gate      slower, undecided, same or faster
                    advise    the change that gains most, or none
                    selftest  passed, failed or too loud to tell
                    run       the phase with the largest share, or null if no step was watched
                    loader    the arguments of the DataLoader to write, or as it is
    cause           the first cause of the verdict, an object, or null:
                    report, profile  the costliest finding, as in table findings
                    compare          the first cause of the first suspect, as in table why
                    gate             the first cause of the slowest case, with its key, as in causes
                    advise           the change with its speed_up and the bounds low and high
                    selftest         the first check that failed, or could not tell, as in table checks
                    run              the phase with the largest share, as in table watched
                    profile          if incomplete, the first case without a profile, and the reason
    next            the suggested next command or step, or null
    tables          the raw records of the printed tables, by name

Instead of `tables` the gate has its own figures: decisions, changes, phases, causes and every pair. A watched
run also has costs (what its seams add to a step), outside_s, steps, and process, the facts of the process.
The exit code of `run` is that of the script.
"""

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from nncore_bench.text.table import Table

OK, FAILED, UNUSABLE, UNDECIDED, INTERRUPTED = 0, 1, 2, 3, 130
SCHEMA_VERSION = 1
SCREEN = Path("-")

Say: TypeAlias = Callable[[str], None]


@dataclass(frozen=True)
class Answer:
    """An exit code and a verdict, with its first cause, the next step and the figures behind it.

    `appended` maps files to text to append; it is written last, so that a full disk loses nothing else.
    """

    code: int
    verdict: str | None
    cause: Mapping[str, object] | None
    next: str | None
    figures: Mapping[str, Any]
    appended: Mapping[Path, str] = field(default_factory=dict)

    def as_record(self, command: str) -> dict[str, Any]:
        """Return the document of `--json`."""
        decided = {"verdict": self.verdict, "cause": self.cause, "next": self.next}
        return {"schema_version": SCHEMA_VERSION, "command": command, **decided, **self.figures}


def records_of(tables: Iterable["Table"]) -> dict[str, Any]:
    """Return the raw records of some tables, by name."""
    return {"tables": {table.name: table.records() for table in tables}}


def costliest(tables: Sequence["Table"]) -> Mapping[str, Any] | None:
    """Return the record of the costliest finding, or None without findings."""
    records = [record for table in tables if table.name == "findings" for record in table.records()]
    found: list[dict[str, Any]] = [record for record in records if record["status"] == "found"]
    return max(found, key=lambda record: record["gain_s"] or 0.0, default=None)


def say(text: str) -> None:
    """Write to standard output, and ignore a reader that has closed the pipe (`| head`)."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an ASCII terminal has no µ
    try:
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more at exit, which must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
