"""Read off the card, in plain PyTorch, what this project's figures must be near: nothing of it is imported.

    python probe.py probe.json

One reading after another; each is written as soon as it is made, and one that fails says so in its place.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from readings_before_torch import idle_gpu, start_up

Reading: TypeAlias = Callable[[], Mapping[str, Any]]
COMPILING_BEFORE_S = 60.0
"""Compiling begins only in the first minute: it takes half of one, and decides least."""


def readings() -> Iterator[tuple[str, Reading]]:
    """Yield the readings in order; torch is imported by the second one, which times it."""
    yield "idle_gpu", idle_gpu
    yield "start_up", start_up
    import readings_in_processes as processes  # noqa: PLC0415 - the next three import torch
    import readings_of_device as device  # noqa: PLC0415 - the same
    import readings_of_steps as steps  # noqa: PLC0415 - the same

    yield "facts", device.facts
    yield "events", device.events
    yield "launches", device.launches
    yield "waits", device.waits
    yield "copies", device.copies
    yield "ceilings", device.ceilings
    yield "convolution", device.convolution
    yield "steps", steps.steps
    yield "kernels", steps.kernels
    yield "clocks", device.clocks
    yield "forked", processes.forked
    yield "failed_capture", processes.failed_capture
    yield "compiled", steps.compiled


def probe(made: Iterator[tuple[str, Reading]], file: Path) -> None:
    """Make the readings and write them into the file after each."""
    begin = time.perf_counter()
    found: dict[str, Any] = {}
    for name, reading in made:
        begun = time.perf_counter()
        if name == "compiled" and begun - begin > COMPILING_BEFORE_S:
            found[name] = {"left_out": "no time left"}
        else:
            found[name] = _or_its_error(reading)
        found[f"{name}_took_s"] = round(time.perf_counter() - begun, 2)
        file.write_text(json.dumps(found, indent=1))
        sys.stdout.write(f"{name} {json.dumps(found[name])[:400]}\n")
        sys.stdout.flush()


def _or_its_error(reading: Reading) -> Mapping[str, Any]:
    try:
        return reading()
    except Exception as error:  # noqa: BLE001 - one reading is worth no other
        return {"error": f"{type(error).__name__}: {error}"}


def main() -> None:
    """Make all readings."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="where the readings go, as JSON")
    probe(readings(), parser.parse_args().file)


if __name__ == "__main__":
    main()
