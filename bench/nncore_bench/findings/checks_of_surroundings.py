"""Checks of what is around a step: how it is fed, its threads, and the memory of its process."""

from nncore_bench.findings.evidence import NO_CUDA, Evidence, Outcome, Seen, in_percent, in_time

MOST_COPYING = 0.05
MOST_WAITING = 0.20
"""Feeding that takes a smaller share of its loop is not worth a change of the loop."""


def unpinned_copies(known: Evidence) -> Outcome:
    """See what copying batches from pageable memory takes: the feed copies without pinning."""
    if not known.on_cuda:
        return NO_CUDA
    time_s, share = known.time_s("copy"), known.share("copy")
    if time_s is None or share is None:
        return "the phase copy was not measured"
    if share <= MOST_COPYING:
        return None
    return Seen(
        "copy",
        f"pageable batches take {in_time(time_s)} to copy, {in_percent(share)} of the feeding loop",
        "DataLoader(..., pin_memory=True) and .to(device, non_blocking=True)",
        time_s,
        "at most the whole copy, where it is hidden behind the step",
    )


def waiting_for_data(known: Evidence) -> Outcome:
    """See whether the loop waits for its batches."""
    time_s, share = known.time_s("data"), known.share("data")
    if time_s is None or share is None:
        return "the phase data was not measured"
    if share <= MOST_WAITING:
        return None
    return Seen(
        "data",
        f"fetching a batch takes {in_time(time_s)}, {in_percent(share)} of the feeding loop",
        "DataLoader workers with prefetch, or tensors that stay on the device",
        time_s,
        "at most the time of data, in a loop that feeds",
    )


def threads_above_cores(known: Evidence) -> Outcome:
    """See whether a step has more threads than there are cores, or other than were asked for."""
    threads, cores = known.case.threads, known.machine.get("cores_allowed")
    left = known.counters.threads if known.counters else None
    if not isinstance(threads, int):
        return "threads are chosen for cases of the CPU alone"
    if isinstance(cores, int) and threads > cores:
        evidence = f"takes {threads} threads on {cores} core{'' if cores == 1 else 's'}"
        return _threads(evidence, f"--step-threads={cores}, or torch.set_num_threads({cores})")
    if left is not None and left != threads:
        evidence = f"sets its own threads: {threads} asked for, {left} afterwards"
        return _threads(evidence, f"take out what sets them, or torch.set_num_threads({threads})")
    return "how many cores there are is not on record" if not isinstance(cores, int) else None


def _threads(evidence: str, next_step: str) -> Seen:
    return Seen("step", evidence, next_step, None, "unknown: measure both numbers of threads")


def memory_returned(known: Evidence) -> Outcome:
    """See whether the step takes surely longer under the default allocator, which may return memory."""
    twin, own = known.default_allocator, known.rows.get("step")
    if twin is None or own is None:
        return "the step was not measured under the default allocator"
    if not (twin.time_s and twin.time_low_s and own.time_s and own.time_high_s):
        return "the interval of the step under the default allocator is unknown"
    if twin.time_low_s <= own.time_high_s:
        return None
    return Seen(
        "step",
        f"{twin.time_s / own.time_s:.2f} times as long under the default allocator",
        "set MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_ and MALLOC_TOP_PAD_ as the suite does",
        twin.time_s - own.time_s,
        "the difference, for a script that runs without",
    )
