"""Run a training script as Python would, and say where the time of its steps goes.

No line of the script changes. Its output, its exit code and what it computes stay its own; what is found is
printed on standard error when it has ended, however it ended.
"""

import argparse
import json
import os
import random
import shlex
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

from nncore_bench.commands.answer import Answer, Say
from nncore_bench.commands.arguments import add_results
from nncore_bench.errors import UserError

HELP = "run a training script and say where the time of its steps goes"
PASSED_ON = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT}
FROM_KERNEL = 128  # SI_KERNEL: Ctrl-C on a terminal, which reaches the script by itself

MANY = 2
PATIENCE_S = 3.0
"""Seconds to wait for the other ranks."""

CHILD = f"""
import sys
sys.path.append({str(Path(__file__).parents[2])!r})
from nncore_bench.watch.child import main
sys.path.pop()
main()
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        "--skip", type=_whole, default=10, metavar="N", help="steps to leave out (default: 10)"
    )
    parser.add_argument("--steps", type=_whole, metavar="N", help="steps to watch (default: some of all)")
    parser.add_argument(
        "--length", type=_whole, default=10, metavar="N", help="steps in a window (default: 10)"
    )
    parser.add_argument("--all", action="store_true", help="watch without pauses, as long as there is room")
    add_results(parser)
    add_target(parser)


def add_target(parser: argparse.ArgumentParser) -> None:
    """Declare what is run."""
    parser.add_argument(
        "-m", dest="module", action="store_true", help="TARGET is a module, as python -m runs"
    )
    parser.add_argument("target", metavar="TARGET", help="a script, or with -m a module")
    parser.add_argument("arguments", nargs=argparse.REMAINDER, metavar="ARGUMENTS", help="its arguments")


def _whole(text: str) -> int:
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is no number of steps (example: 100)")
    return int(text)


def run(given: argparse.Namespace, _say: Say) -> Answer:
    """Run the script; the exit code is that of the script."""
    from nncore_bench.machine.facts import host_name
    from nncore_bench.runs import new_folder
    from nncore_bench.watch.marks import prepare
    from nncore_bench.watch.windows import Plan

    refuse_no_script(given)
    ranked = _rank()
    seed = zlib.crc32(ranked["group"].encode()) if ranked else new_seed()  # ranks watch the same steps
    plan = Plan(given.skip, given.steps, max(given.length, 1), 0.0 if given.all else Plan.pause, seed)
    short = f"{new_seed():08x}"
    folder = new_folder(given.results.resolve(), host_name(), now=datetime.now(UTC), short_id=short)
    name = Path(given.target).name
    prepare(folder, name=name, plan=asdict(plan), command=[given.target, *given.arguments], **ranked)
    begun = time.perf_counter()
    code = run_child(given, folder, {"plan": asdict(plan)})
    return _answer(folder, code, time.perf_counter() - begun)


def _rank() -> dict[str, Any]:
    """Return the rank of this process as torchrun sets it, and what names those that train with it."""
    if int(os.environ.get("WORLD_SIZE", "1")) < MANY or "RANK" not in os.environ:
        return {}
    names = ("TORCHELASTIC_RUN_ID", "MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RESTART_COUNT")
    group = "-".join(os.environ.get(name, "") for name in names)
    return {"rank": int(os.environ["RANK"]), "ranks": int(os.environ["WORLD_SIZE"]), "group": group}


def refuse_no_script(given: argparse.Namespace) -> None:
    """Raise UserError for a target that is no file."""
    if not given.module and not Path(given.target).is_file():
        raise UserError(f"{given.target!r} is no script (a module is run with -m)")


def new_seed() -> int:
    """Return a seed that nothing of the script's depends on."""
    return random.SystemRandom().randrange(2**32)


def run_child(given: argparse.Namespace, folder: Path, asked: Mapping[str, Any]) -> int:
    """Run the target, and return its exit code; signals that are meant for it are passed on."""
    kind = "module" if given.module else "script"
    words = [str(folder), json.dumps(asked), kind, given.target, *given.arguments]
    command = [sys.executable, "-c", CHILD, *words]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*PASSED_ON, signal.SIGCHLD})
    restore = partial(signal.pthread_sigmask, signal.SIG_SETMASK, before)
    child = subprocess.Popen(command, preexec_fn=restore)  # noqa: S603, PLW1509 - no thread runs here
    while child.poll() is None:
        got = signal.sigwaitinfo({*PASSED_ON, signal.SIGCHLD})
        if got.si_signo != signal.SIGCHLD and got.si_code != FROM_KERNEL:
            child.send_signal(got.si_signo)
    restore()
    return child.returncode


def _answer(folder: Path, code: int, ran_s: float) -> Answer:
    """Say what was seen, on standard error."""
    from nncore_bench.report.watched import watched_report
    from nncore_bench.watch.marks import Facts, trim_marks

    trim_marks(folder)
    facts = Facts(folder)
    facts.learn(exit_code=code, ran_s=ran_s)
    if facts.get("rank"):
        sys.stderr.write(f"- Run folder of rank {facts['rank']}: {folder}\n")
        return Answer(code, None, None, None, {"tables": {}, "process": facts})
    if "rank" in facts:
        _wait_for_ranks(folder, facts["ranks"])
    report = watched_report(folder)
    sys.stderr.write(f"\n{report.text}- Run folder: {folder}\n")
    if report.tables and code == 0:
        _write_page(folder)
    again = shlex.join(["nncore-bench", "report", str(folder)])
    return Answer(code, report.slowest, report.cause, again, report.figures)


def _wait_for_ranks(folder: Path, ranks: int) -> None:
    """Wait a little for the other ranks of this machine to end."""
    from nncore_bench.report.ranks import folders_of_ranks
    from nncore_bench.watch.marks import read_facts

    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        ended = [one for one in folders_of_ranks(folder).values() if "exit_code" in read_facts(one)]
        if len(ended) >= ranks:
            return
        time.sleep(0.1)


def _write_page(folder: Path) -> None:
    """Write the page into the folder; what cannot be written costs the page alone."""
    from nncore_bench.page.watched import write_watched_page

    try:
        write_watched_page(folder, folder / "report.html")
    except OSError as error:
        sys.stderr.write(f"- No page: {error}\n")
    else:
        sys.stderr.write(f"- Page: {folder / 'report.html'}\n")


def end_by(signum: int) -> None:
    """End this process by a signal, as the script did."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # which says that nobody can catch SIGKILL
        signal.signal(signum, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signum})
    os.kill(os.getpid(), signum)
