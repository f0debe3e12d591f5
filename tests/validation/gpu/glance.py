"""Say in one line, on the machine itself, whether the second command is worth its time.

python glance.py RESULTS [DEVICE]
"""

import argparse
import sys
from collections import Counter
from pathlib import Path

from nncore_bench.runs import Run, RunError, newest_run, read_run

STOP = "STOP"
GO_ON = "GO ON"
MOST_TOLD = 3


def glance(results: Path, device: str = "cuda") -> str:
    """Return GO ON where the newest run is whole on the device, and else STOP with what to mend first."""
    try:
        run = read_run(newest_run(results))
    except RunError as error:
        return f"{STOP}: {error}"
    return _of(run, device)


def _of(run: Run, device: str) -> str:
    own = [record for record in (*run.cases, *run.companions) if record.case.device == device]
    failed = Counter(record.reason for record in own if record.status != "ok")
    profiled = sum(profile.case.device == device for profile in run.profiles)
    good = run.state == "finished" and own and not failed and profiled
    told = "; ".join(f"{count} times {reason}" for reason, count in failed.most_common(MOST_TOLD))
    said = f"{run.state}, {len(own)} cases and companions on {device}, {failed.total()} of them not measured"
    return f"{GO_ON if good else STOP}: {said}{f' ({told})' if told else ''}, {profiled} profiled"


def main() -> None:
    """Print the line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="the results of the stage `default`")
    parser.add_argument("device", nargs="?", default="cuda", help="what was to be measured")
    given = parser.parse_args()
    sys.stdout.write(f"{glance(given.results, given.device)}\n")


if __name__ == "__main__":
    main()
