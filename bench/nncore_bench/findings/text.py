"""The sentences and the table of findings: what costs time, where it costs most, and what to do about it."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import TypeAlias

import pandas as pd

from nncore_bench.estimate.rows import CASE_COLUMNS
from nncore_bench.findings.finding import Finding
from nncore_bench.text.format import MICROSECONDS, count, decimals, duration
from nncore_bench.text.table import Column, Table

TITLE = "Findings, each with a next step"
KILO, MILLI = 1e3, 1e-3

Texts: TypeAlias = Mapping[str, str]


def _optimizer(figures: Texts) -> str:
    lists = figures["foreach_operators"]
    how = "in a plain loop over the tensors" if lists == "0" else f"{lists} of them _foreach_"
    of_step = f", {figures['share']} of the step" if "share" in figures else ""
    return f"dispatches {figures['operators']} operators a step, {how}{of_step}"


def _waits(figures: Texts) -> str:
    more = "" if figures["more_sites"] == "0" else f" and {figures['more_sites']} more"
    return f"the host waits {figures['wait_times']} a step: {figures['busiest']}{more}"


def _waits_at_lines(figures: Texts) -> str:
    more = "" if figures["more_sites"] == "0" else f" and {figures['more_sites']} more lines"
    return f"the host waits {figures['time_s']} a step: {figures['busiest']}{more}"


def _fetches(figures: Texts) -> str:
    workers = figures.get("workers")
    who = {None: "the loop itself", "1": "its worker"}.get(workers, f"each of {workers} workers")
    handing = f", handing one over {figures['handing_s']}" if "handing_s" in figures else ""
    parts = "dataset {dataset_s}, transforms {transform_s}, collating {collate_s}".format_map(figures)
    waits = "waits {time_s} a step, {share} of it".format_map(figures)
    return f"{waits}: {who} takes {figures['batch_s']} a batch ({parts}){handing}"


def _too_many_threads(figures: Texts) -> str:
    cores = figures["cores"]
    return f"takes {figures['threads']} threads on {cores} core{'' if cores == '1' else 's'}"


EVIDENCE: Mapping[str, Callable[[Texts], str]] = {
    "optimizer loop": _optimizer,
    "fills": "fills gradients {fill_times} a step, {moved_bytes} ({operator})".format_map,
    "waits": _waits,
    "reads": "reads a number from a tensor: {counts} a step ({operator})".format_map,
    "copies": "copies between host and device: {counts} a step".format_map,
    "odd products": (
        "{odd_products} of {products} products have a length that {multiple} does not divide: {shapes}"
    ).format_map,
    "collections": "collects garbage: {counts} a step".format_map,
    "float64": "calls with float64: {counts}, moving {moved_bytes}".format_map,
    "conversions": "converts floats: {counts}, moving {moved_bytes}".format_map,
    "copy": "pageable batches take {time_s} to copy, {share} of the feeding loop".format_map,
    "data": "fetching a batch takes {time_s}, {share} of the feeding loop".format_map,
    "too many threads": _too_many_threads,
    "own threads": "sets its own threads: {threads} asked for, {threads_left} afterwards".format_map,
    "default allocator": "{ratio} times as long under the default allocator".format_map,
    "waits for data": "waits {time_s} a step for its DataLoader, {share} of it".format_map,
    "fetches itself": _fetches,
    "workers too slow": _fetches,
    "waits for workers": _fetches,
    "waits at lines": _waits_at_lines,
    "optimizer not fused": "{optimizer} goes through {tensors} tensors, {share} of the step".format_map,
    "compiled again": "compiled {again_times} again while it ran, {place}: {why}".format_map,
    "graph breaks": "compiled code falls back to Python {break_times}: {place} ({why})".format_map,
    "memory grows": "grows by {kept_bytes} a step {place}, {grown_bytes} so far".format_map,
}
READ_LATER = "read it every hundredth step, or keep the tensor and read it later"
TRY_LOADERS = "nncore-bench loader tries other settings within the script's own loop"
NEXT_STEPS = {
    "optimizer loop": "fused=True, where the optimizer has it, as Adam, AdamW and SGD have",
    "fills": "zero_grad(set_to_none=True), the default",
    "waits": READ_LATER,
    "reads": READ_LATER,
    "copies": "make tensors on the device, or copy them before the loop",
    "odd products": "make batch, widths and classes multiples of {multiple}",
    "collections": "take gc.collect() out of the loop",
    "float64": "make the inputs and the model float32 before the loop",
    "conversions": "make the inputs and the model one type before the loop",
    "copy": "DataLoader(..., pin_memory=True) and .to(device, non_blocking=True)",
    "data": "DataLoader workers with prefetch, or tensors that stay on the device",
    "too many threads": "--step-threads={cores}, or torch.set_num_threads({cores})",
    "own threads": "take out what sets them, or torch.set_num_threads({threads})",
    "default allocator": (
        "set MALLOC_MMAP_THRESHOLD_, MALLOC_TRIM_THRESHOLD_ and MALLOC_TOP_PAD_ as the suite does"
    ),
    "waits for data": TRY_LOADERS,
    "fetches itself": f"workers: {TRY_LOADERS}",
    "workers too slow": f"{{needed}} workers would keep up, or a cheaper dataset: {TRY_LOADERS}",
    "waits for workers": TRY_LOADERS,
    "waits at lines": READ_LATER,
    "optimizer not fused": "fused=True",
    "compiled again": "keep shapes alike (drop_last=True, padding), or torch._dynamo.mark_dynamic",
    "graph breaks": "take it out of what is compiled, or compile the parts around it",
    "memory grows": "keep numbers instead of tensors with their graphs: loss.item(), or loss.detach()",
}
BASES = {
    "above fused": "at most its time above two dispatches, or above moving Adam's bytes once",
    "fused unknown": "unknown: what a fused one would take was not measured",
    "fewer than two moments": "unknown: this is no optimizer with two moments, such as Adam",
    "zero_grad and additions": "zero_grad, and aten::add_ in backward by its profiled time",
    "zero_grad alone": "zero_grad alone: no profile shows what backward adds to them",
    "no zero_grad": "unknown: zero_grad was not measured",
    "host in reads": "at most the host's time in aten::_local_scalar_dense, profiled",
    "no profile of waits": "unknown: no profile shows the wait",
    "reads on the CPU": "little on the CPU; a GPU's host would stop for it at every step",
    "copying alone": "at most the profiled copying while no kernel runs",
    "not profiled": "unknown: not profiled",
    "depends on kernels": "unknown: it depends on the kernels that cuBLAS has",
    "collections not timed": "unknown: a collection is not timed by itself",
    "half of float64": "half the float64 share of phases limited by memory or compute",
    "no limited phase": "unknown: no phase of these is limited by memory or compute",
    "profiled conversions": "the profiled time of aten::_to_copy",
    "whole copy": "at most the whole copy, where it is hidden behind the step",
    "time of data": "at most the time of data, in a loop that feeds",
    "threads": "unknown: measure both numbers of threads",
    "allocator difference": "the difference, for a script that runs without",
    "waits measured": "at most what these calls took",
    "whole optimizer": "at most the whole optimizer; nncore-bench advise measures it",
    "compiling spread": "what compiling took, spread over all steps",
    "compiling not timed": "unknown: compiling was not timed",
    "breaks not timed": "unknown: a break is not timed by itself",
    "no time": "unknown: it costs memory",
}
REASONS = {
    "no CUDA": "no case of this run ran on CUDA",
    "uncounted": "what a step does was not counted",
    "no case": "no case of this run was measured",
    "no tensor cores": "float32 products without TF32 do not run on tensor cores",
    "float64 chosen": "float64 is what was asked for",
    "precision converts": "a precision other than float32 converts on purpose",
    "no copy": "the phase copy was not measured",
    "no data": "the phase data was not measured",
    "threads on CUDA": "threads are chosen for cases of the CPU alone",
    "cores unknown": "how many cores there are is not on record",
    "no default allocator": "the step was not measured under the default allocator",
    "no interval of default allocator": "the interval of the step under the default allocator is unknown",
}


def evidence(finding: Finding) -> str:
    """Return what was seen, in words."""
    return EVIDENCE[finding.sight](_texts(finding))


def next_step(finding: Finding) -> str:
    """Return what to do about it, in words."""
    return NEXT_STEPS[finding.sight].format_map(_texts(finding))


def costliest(findings: Sequence[Finding]) -> str | None:
    """Return the next step of the costliest finding and what it may save; None without findings."""
    for one in _worst(findings):
        return f"{next_step(one)} ({one.check}, may save {_gain(one)} in {one.case.key if one.case else ''})"
    return None


def finding_table(findings: Sequence[Finding]) -> Table | None:
    """Return a line for each kind of finding, at the case where it costs most; files have every case.

    Without a finding, the table is not printed and lists checks that do not apply; None if there are none.
    """
    if not findings:
        return None
    # As objects, batch sizes stay whole numbers beside a line that has none.
    raw = pd.DataFrame([_record(one) for one in findings], dtype=object)
    worst, skipped = _worst(findings), [one for one in findings if one.case is None]
    if not worst:
        columns = [
            Column("check", "", attrgetter("check"), words=True),
            Column("why it does not apply", "", _reason, words=True),
        ]
        caption = "Every other check was made, and found nothing."
        return Table.of("findings", "No findings", caption, columns, skipped, raw=raw, on_screen=False)
    cases = Counter(one.check for one in findings)
    columns = [
        Column("finding", "", attrgetter("check"), words=True),
        Column("cases", "", lambda one: cases[one.check]),
        Column("worst case", "", attrgetter("case.key"), words=True),
        Column("evidence there", "", evidence, words=True),
        Column("may save", "", _gain),
        Column("next step", "", next_step, words=True),
    ]
    return Table.of("findings", TITLE, _caption(worst, skipped), columns, worst, raw=raw)


def watched_finding_table(findings: Sequence[Finding]) -> Table | None:
    """Return a line for each finding of a watched run; None without any."""
    if not findings:
        return None
    columns = [
        Column("finding", "finding", attrgetter("check"), words=True),
        Column("", "phase", attrgetter("phase")),
        Column("evidence", "evidence", evidence, words=True),
        Column("may save", "gain_s", attrgetter("gain_s"), _duration),
        Column("", "gain", lambda one: BASES[one.basis]),
        Column("next step", "next_step", next_step, words=True),
    ]
    return Table.of("findings", TITLE, _caption(findings, []), columns, findings)


def _worst(findings: Sequence[Finding]) -> list[Finding]:
    """Return the costliest finding of each kind, in order of cost, unknown ones last."""
    costliest_first = sorted((one for one in findings if one.case), key=_cost, reverse=True)
    of_check: dict[str, Finding] = {}
    for one in costliest_first:
        of_check.setdefault(one.check, one)
    return list(of_check.values())


def _cost(finding: Finding) -> float:
    return -1.0 if finding.gain_s is None else finding.gain_s


def _caption(worst: Sequence[Finding], skipped: Sequence[Finding]) -> str:
    """Return how each gain was estimated, and which checks do not apply."""
    estimates = "; ".join(f"{one.check}: {BASES[one.basis]}" for one in worst)
    caption = f"may save: time per step there, by estimate ({estimates})."
    if skipped:
        caption += f" Not checked, for reasons in the CSV: {', '.join(one.check for one in skipped)}."
    return caption


def _record(one: Finding) -> dict[str, object]:
    """Return the line of a finding in files; a check that applies to no case has a reason and no more."""
    return {
        "finding": one.check,
        "status": "found" if one.case else "does not apply",
        **{name: getattr(one.case, name, None) for name in CASE_COLUMNS},
        "phase": one.phase or None,
        "evidence": evidence(one) if one.case else None,
        "next_step": next_step(one) if one.case else None,
        "gain_s": one.gain_s,
        "gain": BASES[one.basis] if one.case else None,
        "reason": _reason(one) or None,
    }


def _reason(finding: Finding) -> str:
    return "; ".join(REASONS[reason] for reason in finding.reasons)


def _gain(finding: Finding) -> str:
    return _duration(finding.gain_s)


def _duration(gain_s: float | None) -> str:
    return "unknown" if gain_s is None else duration(gain_s)


def _texts(finding: Finding) -> Texts:
    counts = ", ".join(f"{phase} {number:,}" for phase, number in finding.counts.items() if number)
    return {"counts": counts, **{name: _text(name, value) for name, value in finding.figures.items()}}


def _text(name: str, value: float | str) -> str:
    """Return a figure with the unit that its name ends in: 814 kB, 41 µs, 41 %, 3 times, 1.10."""
    if isinstance(value, str):
        return value
    if name.endswith("_bytes"):
        small = value < 10 * KILO
        return f"{count(round(value))} bytes" if small else f"{count(round(value / KILO))} kB"
    if name.endswith("_s"):
        microseconds = value / MICROSECONDS.seconds
        short = f"{count(round(microseconds)) if microseconds >= 10 else decimals(microseconds, 1)} µs"  # noqa: PLR2004 - two digits
        return duration(value) if value >= MILLI else short
    if name.endswith("_times"):
        return "once" if value == 1 else f"{count(value)} times"
    if name == "share":
        return f"{decimals(100 * value, 0)} %"
    return decimals(value, 2) if name == "ratio" else count(value)
