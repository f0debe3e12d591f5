"""Checks of what a step does: its operators, waits, copies, matrix products and types, as counted."""

from math import prod

from nncore_bench.cases import STEP_PHASES
from nncore_bench.estimate.ceilings import COMPUTE, MEMORY
from nncore_bench.findings.evidence import Evidence, calls_by_phase, types_of
from nncore_bench.findings.finding import Finding, NotApplicableError, busiest, found
from nncore_bench.records import OperatorCount
from nncore_bench.variants import HALVES

FUSED_OPERATORS = 2
"""A fused optimizer dispatches two: one adds 1 to the step counters, the other does all the rest."""

MOST_OPERATORS = 4
"""An optimizer of no more operators has nothing to fuse."""

ADAM_MOVES = 7
"""Adam reads parameter, gradient and two moments, and writes parameter and two moments."""

ADAM_MOMENTS = 2
FILLS = ("aten::zero_", "aten::_foreach_zero_", "aten::fill_")
ACCUMULATION = "aten::add_"
READ = "aten::_local_scalar_dense"
"""The operator behind `.item()`, `float()` and printing a tensor."""

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm")
TILES = {**dict.fromkeys(HALVES, 8), "tf32": 4}
"""Tensor cores take 16 bytes at a time: eight halves, or four numbers of TF32."""

CONVERSION = "aten::_to_copy"
FLOAT_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
BEFORE_OPTIMIZER = STEP_PHASES[:-1]
COMPUTING = STEP_PHASES[1:]
"""The dtype of gradients that zero_grad only drops does not matter."""


def optimizer_loop(known: Evidence) -> Finding | None:
    """Find an optimizer that dispatches operators for each tensor, or for each list of tensors."""
    calls = known.calls("optimizer")
    operators = calls_by_phase(calls).total()
    if operators <= MOST_OPERATORS or any("_fused_" in call.operator for call in calls):
        return None
    lists = sum(call.calls for call in calls if "_foreach_" in call.operator)
    return found(
        "optimizer loop",
        "optimizer",
        *_beyond_fused(known),
        operators=operators,
        foreach_operators=lists,
        share=known.share("optimizer"),
    )


def _beyond_fused(known: Evidence) -> tuple[float | None, str]:
    """Return the time beyond the least that a fused operator needs: its dispatch, or moving its bytes.

    This is an upper bound: roots and divisions take time as well, and the state may not fit a cache.
    """
    time_s, rate = known.time_s("optimizer"), known.ceilings.cached_bytes_per_s
    dispatch_s = known.ceilings.dispatch_s("optimizer", FUSED_OPERATORS)
    parameters, state = known.counters.parameter_bytes, known.counters.state_bytes
    if time_s is None or not rate or dispatch_s is None or parameters is None or state is None:
        return None, "fused unknown"
    if state < ADAM_MOMENTS * parameters:
        return None, "fewer than two moments"
    return max(0.0, time_s - max(dispatch_s, ADAM_MOVES * parameters / rate)), "above fused"


def gradients_kept(known: Evidence) -> Finding | None:
    """Find a zero_grad that fills gradients with zeros instead of dropping them."""
    fills = [call for call in known.calls("zero_grad") if call.operator in FILLS]
    if not fills:
        return None
    return found(
        "fills",
        "zero_grad",
        *_without_kept(known),
        fill_times=calls_by_phase(fills).total(),
        moved_bytes=sum(call.moved_bytes for call in fills),
        operator=", ".join(dict.fromkeys(call.operator for call in fills)),
    )


def _without_kept(known: Evidence) -> tuple[float | None, str]:
    """Return the time of zero_grad, plus the profiled time in which backward adds to the gradients."""
    zero_s = known.time_s("zero_grad")
    if zero_s is None:
        return None, "no zero_grad"
    added_s = known.undisturbed_s(known.profiled(("backward",), ACCUMULATION))
    return (zero_s, "zero_grad alone") if added_s is None else (zero_s + added_s, "zero_grad and additions")


def synchronisation(known: Evidence) -> Finding | None:
    """Find a host that waits for results within the step."""
    return _waits(known) if known.on_cuda else _reads(known)


def _waits(known: Evidence) -> Finding | None:
    waits = known.counted("synchronisations")
    if not any(waits.values()):
        return None
    sites = known.counters.waits
    # Without the wait the host runs ahead by that much at most, and then the device may still be slower.
    host_s = sum(one.host_s for one in known.profiled(known.counters.parts, READ)) or None
    return found(
        "waits",
        waits,
        host_s,
        "host in reads" if host_s else "no profile of waits",
        wait_times=sum(waits.values()),
        busiest=busiest(sites or waits),
        more_sites=max(len(sites) - 1, 0),
    )


def _reads(known: Evidence) -> Finding | None:
    # The optimizer is left out: Adam reads its own step counter once for each tensor of parameters, and how
    # many of those there are is not on record.
    reads = calls_by_phase([call for call in known.calls(*BEFORE_OPTIMIZER) if call.operator == READ])
    if not reads.total():
        return None
    gain_s = known.undisturbed_s(known.profiled(BEFORE_OPTIMIZER, READ))
    return found("reads", reads, gain_s, "reads on the CPU", operator=READ)


def copies_in_step(known: Evidence) -> Finding | None:
    """Find copies between host and device within the step."""
    known.needs_cuda()
    copies = known.counted("copies")
    if not any(copies.values()):
        return None
    account = known.profile.account("step") if known.profile else None
    gain_s, basis = (account.copy_s, "copying alone") if account else (None, "not profiled")
    return found("copies", copies, gain_s, basis)


def gemm_shapes(known: Evidence) -> Finding | None:
    """Find matrix products with dimensions that do not fill the tiles of tensor cores."""
    known.needs_cuda()
    multiple = TILES.get(known.case.precision)
    if multiple is None:
        raise NotApplicableError("no tensor cores")
    products = [call for call in known.calls(*known.counters.parts) if call.operator in PRODUCTS]
    odd = [call for call in products if any(length % multiple for length in _lengths(call))]
    if not odd:
        return None
    counts = calls_by_phase(odd)
    return found(
        "odd products",
        counts,
        None,
        "depends on kernels",
        odd_products=counts.total(),
        products=calls_by_phase(products).total(),
        multiple=multiple,
        shapes=_matrices(odd[0]),
    )


def _matrices(call: OperatorCount) -> str:
    """Return the shapes of the two factors; addmm lists the summand before them."""
    return ", ".join(call.shapes.split(", ")[-2:])


def _lengths(call: OperatorCount) -> list[int]:
    """Return the lengths of a product's factors, without the batch dimension."""
    return [int(length) for shape in _matrices(call).split(", ") for length in shape.split("x")[-2:]]


def garbage_collected(known: Evidence) -> Finding | None:
    """Find a step that calls the garbage collector, which does not run by itself during counting."""
    collections = known.counted("collections")
    if not any(collections.values()):
        return None
    return found("collections", collections, None, "collections not timed")


def float64(known: Evidence) -> Finding | None:
    """Find computation in float64 that was not asked for."""
    doubles = [call for call in known.calls(*COMPUTING) if "float64" in types_of(call)]
    if known.case.precision == "float64":
        raise NotApplicableError("float64 chosen")
    if not doubles:
        return None
    calls = calls_by_phase(doubles)
    halves = [half_s for phase in calls if (half_s := _half_of_double(known, phase)) is not None]
    gain_s, basis = (sum(halves), "half of float64") if halves else (None, "no limited phase")
    return found("float64", calls, gain_s, basis, moved_bytes=sum(call.moved_bytes for call in doubles))


def _half_of_double(known: Evidence, phase: str) -> float | None:
    """Return half the time of float64 in a phase: its share of the work that limits the phase."""
    limit, time_s = known.rows[phase].limit if phase in known.rows else "", known.time_s(phase)
    counted = {MEMORY: "moved_bytes", COMPUTE: "flop"}.get(limit)
    if counted is None or time_s is None:
        return None
    work = [(getattr(call, counted) or 0, "float64" in types_of(call)) for call in known.calls(phase)]
    whole = sum(amount for amount, _ in work)
    return time_s * sum(amount for amount, double in work if double) / whole / 2 if whole else None


def mixed_dtypes(known: Evidence) -> Finding | None:
    """Find conversions between floating types in a step whose tensors are all float32."""
    calls = known.calls(*known.counters.parts)
    if known.case.precision not in ("float32", "tf32"):
        raise NotApplicableError("precision converts")
    sizes = {FLOAT_BYTES[name] for call in calls for name in types_of(call) if name in FLOAT_BYTES}
    casts = [call for call in calls if _converts(call, sizes)]
    if not casts:
        return None
    lines = {(call.phase, call.shapes, call.dtypes) for call in casts}
    profiled = known.profiled(known.counters.parts, CONVERSION)
    gain_s = known.undisturbed_s([one for one in profiled if (one.phase, one.shapes, one.dtypes) in lines])
    basis = "not profiled" if gain_s is None else "profiled conversions"
    moved_bytes = sum(call.moved_bytes for call in casts)
    return found("conversions", calls_by_phase(casts), gain_s, basis, moved_bytes=moved_bytes)


def _converts(call: OperatorCount, sizes: set[int]) -> bool:
    """Tell whether a call turns floats into floats of another size.

    The dtype that a conversion writes is not on record, so its size is taken from the bytes moved, and it
    counts as a float where another operator of the step has floats of that size.
    """
    types = types_of(call)
    if call.operator != CONVERSION or len(types) != 1 or types[0] not in FLOAT_BYTES:
        return False
    elements = call.calls * prod(int(n) for n in call.shapes.replace("scalar", "1").split("x"))
    read = FLOAT_BYTES[types[0]]
    written = call.moved_bytes / elements - read if elements else read
    return written != read and written in sizes
