"""Time the page and weigh it, for 1 and for 100 runs of some 300 rows each.

    PYTHONPATH=tests/support python tests/validation/page_speed.py [--runs 100]

The runs are made up, as large as real ones, and read from their folders by the command that users type. Where
Chromium is, the page is opened in it, too.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from made_up_runs import blocks_of, cases_of, record_of, run_of

from nncore_bench.runs import Block, RunFolder

SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
CASES = cases_of(["cpu"], threads=(1, 2), sizes=SIZES)
LAUNCHES = (1.0, 1.01, 0.99, 1.02)
ROUNDS = 6
READY = """return [performance.getEntriesByType('navigation')[0].domInteractive,
    document.body.dataset.drawn === 'yes' ? performance.now() : null]"""


def made(results: Path, number: int) -> Path:
    """Save a run of 40 cases, 320 rows, with laps of 24 rounds, and return its folder."""
    now = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(hours=number)
    folder = RunFolder.create(results, "anvil", now=now, short_id=f"{number:04}")
    folder.save(run_of([record_of(case) for case in CASES], id=folder.path.name, started=now.isoformat()))
    folder.save_round(0, blocks())
    folder.merge_rounds()
    return folder.path


@cache
def blocks() -> list[Block]:
    """Return the laps of all rounds, which are the same in every run."""
    places = range(len(CASES))
    return [block for place in places for block in blocks_of(place, launches=LAUNCHES, rounds=ROUNDS)]


def written(runs: list[Path], out: Path, cache: Path) -> str:
    """Write a page in a process of its own, and say how long it took, its memory and its size."""
    before = time.perf_counter()
    command = [sys.executable, "-m", "bench", "report", *map(str, runs), "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"XDG_CACHE_HOME": str(cache)})
    seconds = time.perf_counter() - before
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    return f"{seconds:.1f} s, at most {most:.2f} GiB so far, {out.stat().st_size / 1e6:.2f} MB"


def opened(out: Path) -> str:
    """Return in how many milliseconds Chromium has the page interactive and drawn."""
    from selenium import webdriver  # noqa: PLC0415 - only where there is a browser

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for word in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(word)
    driver = webdriver.Chrome(
        options=options, service=webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    )
    try:
        driver.get(out.as_uri())
        while (times := driver.execute_script(READY))[1] is None:
            time.sleep(0.02)
        return f"interactive after {times[0]:.0f} ms, all pictures drawn within {times[1]:.0f} ms"
    finally:
        driver.quit()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=100, help="runs of the long history")
    count = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        runs = [made(folder / "results", number) for number in range(count)]
        for label, chosen in (("1 run, first", runs[:1]), ("1 run", runs[:1]), (f"{count} runs", runs)):
            out = folder / "report.html"
            sys.stdout.write(f"{label}: {written(chosen, out, folder / 'cache')}\n")
            if shutil.which("chromium"):
                sys.stdout.write(f"{label}: {opened(out)}\n")


if __name__ == "__main__":
    main()
