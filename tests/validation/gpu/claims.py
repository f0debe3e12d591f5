"""What a day with a GPU must show, claim by claim, and how a claim came out."""

from dataclasses import dataclass
from enum import StrEnum


class Claim(StrEnum):
    """Name an assertion; each is made of all runs that have something to make it of, and of one at least."""

    STAGES = "every stage ended well"

    READINGS = "every reading of the probe was made"
    SPANS = "no span between neighbouring events is zero"
    GRAPH_OF_PROBE = "in plain PyTorch, a graph is faster than the eager step"
    SESSIONS = "in plain PyTorch, two profiler sessions see the kernels that were launched"

    FINISHED = "the run is finished"
    MEASURED = "every case and companion was measured"
    GPU_FACTS = "the GPU's facts are known"
    SAME_GPU = "NVML's GPU is torch's"

    DEVICE_LAPS = "laps on the device are there where they belong"
    NO_ZERO_LAP = "no lap on the device is zero or less"
    FILLED = "laps on the device fill the wall clock and do not exceed it"
    EVENTS = "events cost a step a tenth at most"

    PROBED_STEP = "the plain step takes what the probe's takes"
    PHASES = "the phases add up to the step within 3 %"
    CEILINGS = "nothing is faster than its ceiling"

    COUNTED = "every plain case was counted"
    UNDISTURBED = "a plain step neither waits nor copies nor leaks"
    FLOP = "FLOP are those of the closed form"

    PROFILED = "every profile that was asked for was made"
    AGREEMENT = "the profiler saw the operators that were counted"
    ACCOUNT = "the account of a step is the step by the clock"
    BUSY = "the busy share is a share"
    KERNELS = "every launch has its kernel"
    BUSY_OF_PLAIN = (
        "the device is as busy in the plain step as in the profiled one, or more, and has time for it"
    )

    NUMBERS = "the numbers of variants are those of the step"
    GRAPH = "a graph of the SimpleNN is one and a half times as fast"
    WORTH = "there is an answer for each width and way of feeding"

    GATED = "the gate decided cases on the device"
    EQUAL_CODE = "equal code is never slower in the gate"


@dataclass(frozen=True)
class Finding:
    """Hold how a claim came out on one run, with its figure in words."""

    claim: Claim
    passed: bool
    figure: str


@dataclass(frozen=True)
class Told:
    """Hold a figure that is to be looked at, and can be neither right nor wrong."""

    about: str
    figure: str


def listed(claim: Claim, wrong: list[str], otherwise: str) -> Finding:
    """Return a claim that fails by naming what is wrong, and passes with another figure."""
    return Finding(claim, not wrong, "; ".join(wrong) if wrong else otherwise)
