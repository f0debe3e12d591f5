"""A wait that is there in half of the steps and recorded, in whatever part of a step calls it.

Without PLANTED in the environment, which names the file of the record, it does nothing; with CALLS, which names
another file, the times of its calls are recorded, which tell how long steps take.
"""

import atexit
import os
import random
import time
from pathlib import Path

FILE, CALLS = os.environ.get("PLANTED"), os.environ.get("CALLS")
WAIT_NS = 300_000
_coin = random.Random(int(os.environ.get("PLANTED_SEED", "0")))
_record: list[tuple[int, int]] = []
_calls: list[int] = []


def wait() -> None:
    """Spend 300 µs, or nothing, by a coin."""
    if CALLS:
        _calls.append(time.perf_counter_ns())
    if not FILE or _coin.random() < 0.5:
        return
    begin = time.perf_counter_ns()
    end = begin + WAIT_NS
    while (now := time.perf_counter_ns()) < end:
        pass
    _record.append((begin, now - begin))


def _write() -> None:
    """Write the record at the end of the process: a line at each wait would take time itself."""
    if FILE and _record:
        lines = "".join(f"{begin} {ns}\n" for begin, ns in _record)
        Path(f"{FILE}.{os.environ.get('RANK', 0)}").write_text(lines)
    if CALLS and _calls:
        Path(f"{CALLS}.{os.environ.get('RANK', 0)}").write_text("\n".join(map(str, _calls)))


atexit.register(_write)
