"""What a command answers: an exit code, and with `--json FILE` one document (`-` for standard output).

The document is the same for every command; times are in seconds, sizes in bytes, and null is unknown:

    schema_version  1; another number where a key goes or changes its meaning
    command         report, compare, profile, gate, advise or selftest
    verdict         what was decided, as a word, or null where nothing could be:
                    report    the phase that is the slowest in most cases
                    compare   suspect, ok or not comparable
                    profile   finished or incomplete
                    gate      slower, undecided, same or faster
                    advise    the change that gains most, or none
                    selftest  passed or failed
    cause           the first cause of that verdict, an object, or null:
                    report, profile  the finding that costs most, as in table findings
                    compare          the first cause of the first suspect, as in table why
                    gate             the first cause of the slowest case, with its key, as in causes
                    advise           the change with its speed_up and the bounds low and high
                    selftest         the first check that failed, as in table checks
                    profile          where it is incomplete, the first such case and the reason
    next            the command or the step that comes next, or null
    tables          the raw records of the tables that are printed, by name

The gate has its own figures in place of `tables`: decisions, changes, phases, causes and every pair.
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
    """An exit code and what was decided, with its first cause, the next step and the figures behind it.

    `appended` is text for the ends of files; these come last, since a full disk must cost nothing else.
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
    """Return the figures of tables."""
    return {"tables": {table.name: table.records() for table in tables}}


def costliest(tables: Sequence["Table"]) -> Mapping[str, Any] | None:
    """Return the record of the finding that costs most, None where there is none."""
    records = [record for table in tables if table.name == "findings" for record in table.records()]
    found: list[dict[str, Any]] = [record for record in records if record["status"] == "found"]
    return max(found, key=lambda record: record["gain_s"] or 0.0, default=None)


def say(text: str) -> None:
    """Write to standard output; a reader that has seen enough (`| head`) is no error."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # an ASCII terminal has no µ
    try:
        sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more as it ends; that goes nowhere, too.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
