"""Whether laps on the device agree with the clock on the wall, block by block."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from statistics import median

from claims import Claim, Finding
from day import Measured

from nncore_bench.cases import BLOCK_LAPS, BlockKind
from nncore_bench.runs import Block

LAPPED: tuple[BlockKind, ...] = ("laps", "feed", "kernels", "cold")
"""The kinds of block that have events; the others are timed whole."""

LEAST_FILLED, MOST_FILLED = 0.95, 1.01
DEAREST_EVENTS = 1.10


def checks_of_laps(run: Measured) -> Iterator[Finding]:
    """Check the laps of every block on the device."""
    records = (*run.source.run.cases, *run.source.run.companions)
    blocks = [block for block in run.blocks if records[block.case].case.device == "cuda"]
    if not blocks:
        return
    lapped = [block for block in blocks if block.kind in LAPPED and block.device is not None]
    misplaced = sum((block.device is None) == (block.kind in LAPPED) for block in blocks)
    yield Finding(Claim.DEVICE_LAPS, not misplaced, f"{misplaced} of {len(blocks)} blocks are not so")
    if lapped:
        yield _no_zero(lapped)
        yield _filled(lapped)
    yield from _cost_of_events(blocks)


def _no_zero(lapped: Sequence[Block]) -> Finding:
    zeros = Counter[str]()
    for block in lapped:
        for name in block.laps:
            column = block.device_column(name)
            zeros[name] += 0 if column is None else int((column <= 0).sum())
    figure = ", ".join(f"{name}: {count}" for name, count in zeros.items() if count)
    return Finding(Claim.NO_ZERO_LAP, not zeros.total(), figure or f"none in {len(lapped)} blocks")


def _filled(lapped: Sequence[Block]) -> Finding:
    """Return what share of the wall clock the spans of blocks are, by kind.

    The spans of an iteration join, so they leave out no more than what comes before the first event and
    after the last one of a block.
    """
    shares: dict[str, list[float]] = defaultdict(list)
    for block in lapped:
        if block.device is not None:
            shares[block.kind].append(float(block.device[1:].sum()) / block.wall_ns)
    good = all(median(of) >= LEAST_FILLED and max(of) <= MOST_FILLED for of in shares.values())
    said = (f"{kind} {min(of):.3f} to {max(of):.3f}, median {median(of):.3f}" for kind, of in shares.items())
    return Finding(Claim.FILLED, good, "; ".join(said))


def _cost_of_events(blocks: Sequence[Block]) -> Iterator[Finding]:
    """Yield how many times as long a step with events takes as the plain one beside it, by the wall clock."""
    walls: dict[int, dict[tuple[int, int], dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for block in blocks:
        if block.kind in ("laps", "plain"):
            own = walls[block.case][block.launch, block.round]
            own[block.kind] = block.wall_ns / (len(block.host) - 1)
    pairs = [[one for one in rounds.values() if len(one) > 1] for rounds in walls.values()]
    ratios = [median(one["laps"] / one["plain"] for one in both) for both in pairs if both]
    events = len(BLOCK_LAPS["laps"])
    costs = [median(one["laps"] - one["plain"] for one in both) / events for both in pairs if both]
    if ratios:
        figure = f"{min(ratios):.3f} to {max(ratios):.3f} of the plain step, {median(costs):.0f} ns an event"
        yield Finding(Claim.EVENTS, max(ratios) <= DEAREST_EVENTS, figure)
