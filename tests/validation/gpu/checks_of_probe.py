"""What the probe's readings must show if the design is to hold, and what they decide."""

import json
from collections.abc import Iterator

from claims import Claim, Finding, Told, listed
from day import STAGES, WELL, Day

GRAPH_OVER_EAGER = 0.7
SIZES = ("b32-h128", "b1024-h512")
DECIDING = (
    *("start_up", "events", "launches", "waits", "copies", "ceilings", "convolution", "clocks"),
    *("forked", "failed_capture", "compiled"),
)


def checks_of_stages(day: Day) -> Iterator[Finding]:
    """Say which stages did not end well, or did not run."""
    ended = {stage: day.endings.get(stage, "not run") for stage in STAGES}
    wrong = [f"{stage}: {ending}" for stage, ending in ended.items() if ending != WELL]
    yield listed(Claim.STAGES, wrong, f"all {len(ended)}")


def checks_of_probe(day: Day) -> Iterator[Finding | Told]:
    """Check the readings, and tell those that decide an open question."""
    readings = {name: reading for name, reading in day.probe.items() if isinstance(reading, dict)}
    broken = [f"{name}: {reading['error']}" for name, reading in readings.items() if "error" in reading]
    yield listed(Claim.READINGS, broken if readings else ["there is no probe.json"], f"{len(readings)}")
    for name in DECIDING:
        yield Told(name, json.dumps(day.probe.get(name)))
    zeros = day.reading("events", "busy", "span_ns", "zeros")
    if zeros is not None:
        yield Finding(Claim.SPANS, zeros == 0, f"{zeros:.0f} are, behind other work")
    yield from _graphs(day)
    yield from _sessions(day)


def _graphs(day: Day) -> Iterator[Finding]:
    ratios = {}
    for size in SIZES:
        eager, graph = (day.reading("steps", f"{size}-{form}", "median") for form in ("eager", "cudagraph"))
        if eager and graph:
            ratios[size] = graph / eager
    if ratios:
        figure = ", ".join(f"{size}: {ratio:.2f} of it" for size, ratio in ratios.items())
        yield Finding(Claim.GRAPH_OF_PROBE, max(ratios.values()) < GRAPH_OVER_EAGER, figure)


def _sessions(day: Day) -> Iterator[Finding]:
    seen = {}
    for size in SIZES:
        counts = [day.reading("kernels", f"{size}-session-{number}", "kernels") for number in (1, 2)]
        counts.append(day.reading("kernels", f"{size}-session-1", "launches"))
        if None not in counts:
            seen[size] = counts
    if seen:
        said = "; ".join(f"{size}: {one} and {two} of {all_}" for size, (one, two, all_) in seen.items())
        yield Finding(Claim.SESSIONS, all(len(set(counts)) == 1 for counts in seen.values()), said)
