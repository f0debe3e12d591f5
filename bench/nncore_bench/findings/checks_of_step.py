"""Checks of what a step does: its operators, waits, copies and matrix products, as counted."""

from collections import Counter

from nncore_bench.cases import STEP_PHASES
from nncore_bench.findings.evidence import (
    NO_CUDA,
    UNCOUNTED,
    Evidence,
    Outcome,
    Seen,
    busiest,
    calls_by_phase,
    in_bytes,
    in_percent,
    listed,
    times,
    times_called,
)
from nncore_bench.records import OperatorCount
from nncore_bench.variants import HALVES

FUSED_OPERATORS = 2
"""A fused optimizer dispatches two: it adds one to the step counters, and does all the rest."""

MOST_OPERATORS = 4
"""An optimizer of no more operators has nothing to fuse."""

ADAM_MOVES = 7
"""Adam reads parameter, gradient and two moments, and writes parameter and two moments."""

ADAM_MOMENTS = 2
FILLS = ("aten::zero_", "aten::_foreach_zero_", "aten::fill_")
ACCUMULATION = "aten::add_"
READ = "aten::_local_scalar_dense"
"""What `.item()`, `float()` and printing a tensor come to."""

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm")
HALF_MULTIPLE, TF32_MULTIPLE = 8, 4
"""Tensor cores take 16 bytes at a time: eight halves, or four numbers of TF32."""

BEFORE_OPTIMIZER = STEP_PHASES[:-1]


def optimizer_loop(known: Evidence) -> Outcome:
    """See whether the optimizer dispatches operators for each tensor, or for each list of them."""
    if not known.has_inventory:
        return UNCOUNTED
    calls = known.calls("optimizer")
    operators = times_called(calls)
    if operators <= MOST_OPERATORS or any("_fused_" in call.operator for call in calls):
        return None
    over_lists = times_called([call for call in calls if "_foreach_" in call.operator])
    how = f"{over_lists:,} of them _foreach_" if over_lists else "in a plain loop over the tensors"
    share = known.share("optimizer")
    of_step = "" if share is None else f", {in_percent(share)} of the step"
    gain_s, gain = _beyond_fused(known)
    return Seen(
        "optimizer",
        f"dispatches {operators:,} operators a step, {how}{of_step}",
        "fused=True, where the optimizer has it, as Adam, AdamW and SGD have",
        gain_s,
        gain,
    )


def _beyond_fused(known: Evidence) -> tuple[float | None, str]:
    """Return the time above what a fused operator needs at least: its dispatch, or its bytes.

    It is a bound and no forecast: roots and divisions take their time, and state may not fit a cache.
    """
    time_s, rate = known.time_s("optimizer"), known.ceilings.cached_bytes_per_s
    dispatch_s = known.ceilings.dispatch_s("optimizer", FUSED_OPERATORS)
    parameters = known.counters.parameter_bytes if known.counters else None
    state = known.counters.state_bytes if known.counters else None
    if time_s is None or not rate or dispatch_s is None or parameters is None or state is None:
        return None, "unknown: what a fused one would take was not measured"
    if state < ADAM_MOMENTS * parameters:
        return None, "unknown: this is no optimizer with two moments, such as Adam"
    floor_s = max(dispatch_s, ADAM_MOVES * parameters / rate)
    return max(
        0.0, time_s - floor_s
    ), "at most its time above two dispatches, or above moving Adam's bytes once"


def gradients_kept(known: Evidence) -> Outcome:
    """See whether zero_grad fills gradients with zeros instead of dropping them."""
    if not known.has_inventory:
        return UNCOUNTED
    fills = [call for call in known.calls("zero_grad") if call.operator in FILLS]
    if not fills:
        return None
    moved = in_bytes(sum(call.moved_bytes for call in fills))
    names = ", ".join(dict.fromkeys(call.operator for call in fills))
    gain_s, gain = _without_kept(known)
    return Seen(
        "zero_grad",
        f"fills gradients {times(times_called(fills))} a step, {moved} ({names})",
        "zero_grad(set_to_none=True), the default",
        gain_s,
        gain,
    )


def _without_kept(known: Evidence) -> tuple[float | None, str]:
    """Return the time of zero_grad, and of what backward adds to the gradients where that was profiled."""
    zero_s = known.time_s("zero_grad")
    if zero_s is None:
        return None, "unknown: zero_grad was not measured"
    added_s = known.undisturbed_s(known.profiled(("backward",), ACCUMULATION))
    if added_s is None:
        return zero_s, "zero_grad alone: no profile shows what backward adds to them"
    return zero_s + added_s, f"zero_grad, and {ACCUMULATION} in backward by its profiled time"


def synchronisation(known: Evidence) -> Outcome:
    """See whether the host waits for results within the step."""
    return _waits(known) if known.on_cuda else _reads(known)


def _waits(known: Evidence) -> Outcome:
    waits = known.counted("synchronisations")
    if not waits:
        return UNCOUNTED
    if not any(waits.values()):
        return None
    sites = known.counters.waits if known.counters else {}
    most = busiest(sites) if sites else busiest(waits)
    others = f" and {len(sites) - 1} more" if len(sites) > 1 else ""
    host_s = sum(one.host_s for one in known.profiled(STEP_PHASES, READ))
    return Seen(
        busiest(waits),
        f"the host waits {times(sum(waits.values()))} a step: {most}{others}",
        "read it every hundredth step, or keep the tensor and read it later",
        host_s or None,
        # Without the wait the host runs ahead by that much at most, and then the device may still be slower.
        f"at most the host's time in {READ}, profiled" if host_s else "unknown: no profile shows the wait",
    )


def _reads(known: Evidence) -> Outcome:
    if not known.has_inventory:
        return UNCOUNTED
    # The optimizer is left out: Adam reads its own step counter once for each tensor of parameters, and how
    # many of those there are is not on record.
    reads = Counter[str]()
    for call in known.calls(*BEFORE_OPTIMIZER):
        reads[call.phase] += call.calls if call.operator == READ else 0
    if not reads.total():
        return None
    return Seen(
        busiest(reads),
        f"reads a number from a tensor: {listed(reads)} a step ({READ})",
        "read it every hundredth step, or keep the tensor and read it later",
        known.undisturbed_s(known.profiled(BEFORE_OPTIMIZER, READ)),
        "little on the CPU; a GPU's host would stop for it at every step",
    )


def copies_in_step(known: Evidence) -> Outcome:
    """See whether data go between host and device within the step."""
    if not known.on_cuda:
        return NO_CUDA
    copies = known.counted("copies")
    if not copies:
        return UNCOUNTED
    if not any(copies.values()):
        return None
    account = known.profile.account("step") if known.profile else None
    return Seen(
        busiest(copies),
        f"copies between host and device: {listed(copies)} a step",
        "make tensors on the device, or copy them before the loop",
        account.copy_s if account else None,
        "at most the profiled copying while no kernel runs" if account else "unknown: not profiled",
    )


def gemm_shapes(known: Evidence) -> Outcome:
    """See whether matrix products have dimensions that tensor cores cannot take whole."""
    if not known.on_cuda:
        return NO_CUDA
    multiple = {**dict.fromkeys(HALVES, HALF_MULTIPLE), "tf32": TF32_MULTIPLE}.get(known.case.precision)
    if multiple is None:
        return "float32 products without TF32 do not run on tensor cores"
    if not known.has_inventory:
        return UNCOUNTED
    products = [call for call in known.calls(*STEP_PHASES) if call.operator in PRODUCTS]
    odd = [call for call in products if any(length % multiple for length in _lengths(call))]
    if not odd:
        return None
    amount = f"{times_called(odd):,} of {times_called(products):,}"
    return Seen(
        busiest(calls_by_phase(odd)),
        f"{amount} products have a length that {multiple} does not divide: {_matrices(odd[0])}",
        f"make batch, widths and classes multiples of {multiple}",
        None,
        "unknown: it depends on the kernels that cuBLAS has",
    )


def _matrices(call: OperatorCount) -> str:
    """Return the shapes of the two factors: addmm has what it adds before them."""
    return ", ".join(call.shapes.split(", ")[-2:])


def _lengths(call: OperatorCount) -> list[int]:
    """Return the lengths of a product's factors, without the number of matrices in a batch of them."""
    return [int(length) for shape in _matrices(call).split(", ") for length in shape.split("x")[-2:]]


def garbage_collected(known: Evidence) -> Outcome:
    """See whether the step calls for the garbage collector; while counting it does not run by itself."""
    collections = known.counted("collections")
    if not collections:
        return UNCOUNTED
    if not any(collections.values()):
        return None
    return Seen(
        busiest(collections),
        f"collects garbage: {listed(collections)} a step",
        "take gc.collect() out of the loop",
        None,
        "unknown: a collection is not timed by itself",
    )
