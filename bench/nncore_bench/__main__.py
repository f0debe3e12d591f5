"""Read runs back, compare and explain them, and test the instrument: `nncore-bench COMMAND`."""

import argparse
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from nncore_bench.commands import advise, compare, gate, loader, profile, report, run, selftest
from nncore_bench.commands.answer import INTERRUPTED, SCREEN, UNUSABLE, Answer, say
from nncore_bench.commands.arguments import Parser, writable
from nncore_bench.errors import UserError

COMMANDS = {
    module.__name__.rpartition(".")[2]: module
    for module in (report, compare, profile, gate, advise, selftest, run, loader)
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code."""
    given = parse(sys.argv[1:] if argv is None else argv)
    try:
        return _run(given)
    except KeyboardInterrupt:
        return INTERRUPTED
    except UserError as error:
        sentence = str(error)
    except OSError as error:
        sentence = f"{error.filename or 'a file'!r} cannot be used ({error.strerror})"
    except Exception:  # noqa: BLE001 - a failure of ours is no regression, which an exit code of 1 would say
        traceback.print_exc()
        return UNUSABLE
    sys.stderr.write(f"nncore-bench {given.command}: {sentence}\n")
    return UNUSABLE


def parse(typed: Sequence[str]) -> argparse.Namespace:
    """Return the arguments, all words among them as `typed`; leave with exit code 2 where they are none."""
    parser = Parser(prog="nncore-bench", description=__doc__, allow_abbrev=False)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        own = commands.add_parser(name, help=command.HELP, description=command.__doc__, allow_abbrev=False)
        command.add_arguments(own)
        own.add_argument(
            "--json", type=Path, metavar="FILE", help="write the answer as JSON; -: on the screen, alone"
        )
    return parser.parse_args(typed, argparse.Namespace(typed=typed))


def _run(given: argparse.Namespace) -> int:
    """Run a command, and write its answer where that was asked for."""
    file = given.json if given.json == SCREEN else writable("--json", given.json)
    answer: Answer = COMMANDS[given.command].run(given, (lambda _: None) if file == SCREEN else say)
    if file is not None:
        from nncore_bench.runs import plain_json, replace_file

        content = plain_json(answer.as_record(given.command))
        say(content.decode()) if file == SCREEN else replace_file(file, content)
    for path, text in answer.appended.items():
        with path.open("a") as end:
            end.write(text)
    if answer.code < 0:
        run.end_by(-answer.code)
    return answer.code


if __name__ == "__main__":
    sys.exit(main())
