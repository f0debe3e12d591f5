"""Whether the answers hold: what variants gain, from where the GPU is worth it, and the gate."""

from collections import Counter
from collections.abc import Iterator

from claims import Claim, Finding, Told, listed
from day import Day, Measured

from nncore_bench.cases import SIMPLENN, Case
from nncore_bench.crossover.table import MODES, curves, in_words
from nncore_bench.estimate.cells import cells_of, without_skipped
from nncore_bench.estimate.gains import Gain
from nncore_bench.text.format import from_to

LEAST_OF_GRAPH = 1.5


def checks_of_variants(run: Measured) -> Iterator[Finding | Told]:
    """Check that variants train as the plain step does, and that a graph is worth its trouble."""
    gains = [
        (base, gain)
        for base, found in run.source.gains.items()
        for gain in found
        if base.device == "cuda" and gain.speed_up is not None
    ]
    if not gains:
        return
    wrong = [
        f"{gain.case.key}: off by {gain.error:.1e}" for _, gain in gains if gain.judgement == "other numbers"
    ]
    yield listed(Claim.NUMBERS, wrong, f"{len(gains)} variants")
    graphs = {
        gain.case.key: gain.speed_up.value
        for base, gain in gains
        if gain.case.variant == "cudagraph" and base.subject == SIMPLENN and gain.speed_up is not None
    }
    if graphs:
        figure = ", ".join(f"{key}: {speed_up:.2f} times" for key, speed_up in graphs.items())
        yield Finding(Claim.GRAPH, min(graphs.values()) >= LEAST_OF_GRAPH, figure)
    yield from (Told(gain.case.key, _said(base, gain)) for base, gain in gains)


def _said(base: Case, gain: Gain) -> str:
    return (
        f"{gain.about}: {gain.judgement}, {from_to(gain.speed_up)} times as fast as {base.variant}"
        f" {base.precision}, off by {gain.error:.1e}"
    )


def checks_of_worth(run: Measured) -> Iterator[Finding | Told]:
    """Check that there is a crossover, or a plain answer, for each width that both devices have."""
    rows = [row for row in run.source.rows if row.status == "ok" and row.phase == "step"]
    widths = {
        device: {row.case.hidden for row in rows if row.case.device == device} for device in ("cpu", "cuda")
    }
    if not widths["cpu"] or not widths["cuda"]:
        return
    found = {
        (curve.mode, curve.case.hidden): curve for curve in curves(without_skipped(cells_of(run.source.rows)))
    }
    wanted = [(mode, width) for mode in MODES for width in sorted(widths["cpu"] & widths["cuda"], key=str)]
    missing = [f"{mode} at width {width}" for mode, width in wanted if (mode, width) not in found]
    yield listed(Claim.WORTH, missing if wanted else ["no width in common"], f"{len(wanted)} answers")
    for (mode, width), curve in found.items():
        yield Told(f"{mode}, hidden {width}: CUDA is faster", in_words(curve.faster))


def checks_of_gate(day: Day) -> Iterator[Finding]:
    """Check that equal code is not called slower; one claim over all columns, as the gate makes it."""
    if day.gate is None:
        return
    cases = [one for one in day.gate.decisions if one.kind == "case" and one.name.startswith("cuda")]
    screening, confirming = day.gate.pairs
    took = f"{screening} and {confirming} pairs in {day.gate.seconds:.0f} s"
    yield Finding(Claim.GATED, bool(cases), f"{len(cases)} of them, {took}")
    words = Counter(one.verdict for one in day.gate.decisions)
    wrong = [f"{d.name}: {d.ratio:.3f}" for d in day.gate.decisions if d.verdict == "slower"]
    yield listed(Claim.EQUAL_CODE, wrong, ", ".join(f"{count} {word}" for word, count in words.items()))
