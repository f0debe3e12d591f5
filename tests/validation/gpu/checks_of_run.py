"""Whether a run is whole, and was made on the GPU that torch uses."""

from collections.abc import Iterator

from claims import Claim, Finding, Told, listed
from day import Day, Measured

from nncore_bench.cases import SIMPLENN, Case
from nncore_bench.variants import misfit, words_of

MOST_UNKNOWN = 3
"""Facts that a driver may not tell: MIG mode of a card without, ECC, the link of a virtual machine."""


def checks_of_run(run: Measured, day: Day) -> Iterator[Finding | Told]:
    """Check a run's state, cases, notices and machine."""
    own = run.source.run
    yield Finding(Claim.FINISHED, own.state == "finished", own.state)
    wrong = [
        f"{record.case.key}: {record.status}, {record.reason}"
        for record in (*own.cases, *own.companions)
        if record.status != "ok" and not cannot_be(record.case)
    ]
    yield listed(Claim.MEASURED, wrong, f"{len(own.cases)} and {len(own.companions)}")
    yield from (Told("notice", notice.cause) for notice in own.notices)
    if own.campaign is not None:
        done, planned = own.campaign.rounds_done, own.campaign.rounds_planned
        figure = (
            f"{done} of {planned} rounds in {own.campaign.wall_s:.0f} s, after {own.campaign.warm_up_s:.0f} s"
        )
        yield Told("campaign", figure)
    yield from _gpu(run, day)


def cannot_be(case: Case) -> bool:
    """Tell whether a case is one that advice tries though it cannot run, and shows with the reason."""
    no_images = "channels-last" in words_of(case.variant) and case.subject == SIMPLENN
    return no_images or bool(misfit(case.variant, case.precision, case.device))


def _gpu(run: Measured, day: Day) -> Iterator[Finding | Told]:
    facts = {name: fact for name, fact in run.source.run.machine.items() if name.startswith("gpu")}
    unknown = [name for name, fact in facts.items() if fact == "unknown"]
    known = "gpu" in facts and len(unknown) <= MOST_UNKNOWN
    yield Finding(Claim.GPU_FACTS, known, f"{facts.get('gpu')}; unknown: {', '.join(unknown) or 'none'}")
    probed = day.probe.get("facts")
    uuid = str(probed.get("uuid", "")) if isinstance(probed, dict) else ""
    if uuid:
        said = str(facts.get("gpu_uuid"))
        yield Finding(Claim.SAME_GPU, uuid in said, f"NVML {said}, torch {uuid}")
    clock = [facts.get(f"gpu_sm_mhz_{moment}") for moment in ("before", "after", "max")]
    yield Told("SM clock before, after, at most", "{}, {}, {} MHz".format(*clock))
