"""Checks of the surroundings of a step: its feeding, its threads, and the memory of its process."""

from nncore_bench.findings.evidence import Evidence
from nncore_bench.findings.finding import Finding, NotApplicableError, found

MOST_COPYING = 0.05
MOST_WAITING = 0.20
"""Feeding that takes a smaller share of its loop is not worth a change of the loop."""


def unpinned_copies(known: Evidence) -> Finding | None:
    """Find copies of batches from pageable memory that take long: the feed copies without pinning."""
    known.needs_cuda()
    return _feeding(known, "copy", MOST_COPYING, "whole copy")


def waiting_for_data(known: Evidence) -> Finding | None:
    """Find a loop that waits for its batches."""
    return _feeding(known, "data", MOST_WAITING, "time of data")


def _feeding(known: Evidence, phase: str, most: float, basis: str) -> Finding | None:
    time_s, share = known.time_s(phase), known.share(phase)
    if time_s is None or share is None:
        raise NotApplicableError(f"no {phase}")
    if share <= most:
        return None
    return found(phase, phase, time_s, basis, time_s=time_s, share=share)


def threads_above_cores(known: Evidence) -> Finding | None:
    """Find a step with more threads than cores, or with another number than asked for."""
    threads, left = known.case.threads, known.counters.threads
    cores = known.machine.get("cores_allowed")
    if not isinstance(threads, int):
        raise NotApplicableError("threads on CUDA")
    if isinstance(cores, int) and threads > cores:
        return found("too many threads", "step", None, "threads", threads=threads, cores=cores)
    if left is not None and left != threads:
        return found("own threads", "step", None, "threads", threads=threads, threads_left=left)
    if not isinstance(cores, int):
        raise NotApplicableError("cores unknown")
    return None


def memory_returned(known: Evidence) -> Finding | None:
    """Find a step that is certainly slower under the default allocator, which may return memory."""
    default, own = known.default_allocator, known.rows.get("step")
    if default is None or own is None:
        raise NotApplicableError("no default allocator")
    ratio = default.over(own)
    if ratio is None or ratio.low is None or default.time_s is None or own.time_s is None:
        raise NotApplicableError("no interval of default allocator")
    if ratio.low <= 1:
        return None
    gain_s = default.time_s - own.time_s
    return found("default allocator", "step", gain_s, "allocator difference", ratio=ratio.value)
