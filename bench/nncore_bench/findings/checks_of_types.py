"""Checks of the types that a step computes in, as counted."""

from math import prod

from nncore_bench.cases import STEP_PHASES
from nncore_bench.estimate.ceilings import COMPUTE, MEMORY
from nncore_bench.findings.evidence import (
    UNCOUNTED,
    Evidence,
    Outcome,
    Seen,
    busiest,
    calls_by_phase,
    in_bytes,
    listed,
    types_of,
)
from nncore_bench.records import OperatorCount

CONVERSION = "aten::_to_copy"
FLOAT_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
COMPUTING = STEP_PHASES[1:]
"""Of what zero_grad drops the type does not matter."""


def float64(known: Evidence) -> Outcome:
    """See whether anything is computed in float64 that was not asked for."""
    if not known.has_inventory:
        return UNCOUNTED
    if known.case.precision == "float64":
        return "float64 is what was asked for"
    found = [call for call in known.calls(*COMPUTING) if "float64" in types_of(call)]
    if not found:
        return None
    calls = calls_by_phase(found)
    halves = [half_s for phase in calls if (half_s := _half_of_double(known, phase)) is not None]
    return Seen(
        busiest(calls),
        f"calls with float64: {listed(calls)}, moving {in_bytes(sum(call.moved_bytes for call in found))}",
        "make the inputs and the model float32 before the loop",
        sum(halves) if halves else None,
        "half the float64 share of phases limited by memory or compute"
        if halves
        else "unknown: no phase of these is limited by memory or compute",
    )


def _half_of_double(known: Evidence, phase: str) -> float | None:
    """Return half of the time that float64 has of a phase, by its share of what limits that phase."""
    limit, time_s = known.rows[phase].limit if phase in known.rows else "", known.time_s(phase)
    work = {
        MEMORY: [(call.moved_bytes, call) for call in known.calls(phase)],
        COMPUTE: [(call.flop or 0, call) for call in known.calls(phase)],
    }.get(limit, [])
    whole = sum(amount for amount, _ in work)
    if not whole or time_s is None:
        return None
    return time_s * sum(amount for amount, call in work if "float64" in types_of(call)) / whole / 2


def mixed_dtypes(known: Evidence) -> Outcome:
    """See whether a step whose tensors are all float32 converts some between floating types."""
    if not known.has_inventory:
        return UNCOUNTED
    if known.case.precision not in ("float32", "tf32"):
        return "a precision other than float32 converts on purpose"
    calls = known.calls(*STEP_PHASES)
    sizes = {FLOAT_BYTES[name] for call in calls for name in types_of(call) if name in FLOAT_BYTES}
    found = [call for call in calls if _converts(call, sizes)]
    if not found:
        return None
    lines = {(call.phase, call.shapes, call.dtypes) for call in found}
    profiled = known.profiled(STEP_PHASES, CONVERSION)
    gain_s = known.undisturbed_s([one for one in profiled if (one.phase, one.shapes, one.dtypes) in lines])
    counts = calls_by_phase(found)
    return Seen(
        busiest(counts),
        f"converts floats: {listed(counts)}, moving {in_bytes(sum(call.moved_bytes for call in found))}",
        "make the inputs and the model one type before the loop",
        gain_s,
        "unknown: not profiled" if gain_s is None else f"the profiled time of {CONVERSION}",
    )


def _converts(call: OperatorCount, sizes: set[int]) -> bool:
    """Tell whether a call turns floats into floats of another size.

    What a conversion writes is not listed by its type, so its size is taken from the bytes moved, and it
    counts as a float where another operator of the step has floats of that size.
    """
    types = types_of(call)
    if call.operator != CONVERSION or len(types) != 1 or types[0] not in FLOAT_BYTES:
        return False
    elements = call.calls * prod(int(n) for n in call.shapes.replace("scalar", "1").split("x"))
    read = FLOAT_BYTES[types[0]]
    written = call.moved_bytes / elements - read if elements else read
    return written != read and written in sizes
