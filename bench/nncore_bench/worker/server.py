"""The measuring side of a worker process: it holds cases and answers requests; `processes` runs it."""

import gc
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from nncore_bench.cases import BlockKind
from nncore_bench.runs import NANO, Block
from nncore_bench.worker import messages
from nncore_bench.worker.blocks import LEAST_ITERATIONS, IncorrectError, least_iterations, run_block
from nncore_bench.worker.catalog import CaseWorkload, workload_of
from nncore_bench.worker.clock import Clock, EventClock, HostClock
from nncore_bench.worker.counters.count import count_case
from nncore_bench.worker.device_memory import give_back_cached, seen_gpu
from nncore_bench.worker.profile.profile import profile_case
from nncore_bench.worker.references.known_answers import busy_wait, second_clock
from nncore_bench.worker.references.probes import release_buffers
from nncore_bench.worker.subjects.cuda_graph import CaptureError
from nncore_bench.worker.subjects.own_step import OwnStep
from nncore_bench.worker.subjects.subject import Subject, release_batches
from nncore_bench.worker.users_code import line_of

STEADY_WITHIN = 0.10
WARM_UP_HALF_S = 0.010
WARM_UP_TRIES = 6
CAPTURE_GOES_ON_FAILING = "previous error during capture"
"""How CUDA ends a capture in which something else had failed before."""

HINTS = {
    "device-side assert": "often an index out of range, such as a target that is none of the classes; the"
    " same case on the CPU, or a plain script with CUDA_LAUNCH_BLOCKING=1, says which",
    "busy or unavailable": "another process holds the GPU for itself, or its compute mode is prohibited;"
    " nvidia-smi -q -d COMPUTE,PIDS tells",
}
"""The usual cause of some errors of CUDA, by a part of their text, and where to look."""

MOST_THROWN_OUT = 3
"""Give up on a case after this many blocks in a row in which torch.compile recompiled."""


class Worker:
    """The cases of one launch, and the requests on them."""

    def __init__(self) -> None:
        self.subjects: dict[int, CaseWorkload] = {}
        self.threads: dict[int, int] = {}
        self.clocks: dict[tuple[str, bool], Clock] = {}
        self.last: int | None = None
        self._answers: dict[type, Callable[[Any], messages.Reply]] = {
            messages.Prepare: self._prepare,
            messages.Measure: self._measure,
            messages.SpinUp: self._spin_up,
            messages.Profile: self._profile,
            messages.Count: self._count,
            messages.ReadClock: self._read_clock,
            messages.Forget: self._forget,
            messages.Look: lambda _: seen_gpu(),
        }

    def answer(self, request: messages.Request) -> messages.Reply:
        """Carry out a request; a failure in a case is an answer, and the worker goes on."""
        try:
            return self._answers[type(request)](request)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a case may fail in any way, and the sweep goes on
            kind = messages.Ended if ends_the_process(error) else messages.Refused
            return kind(in_one_sentence(error))

    def _prepare(self, request: messages.Prepare) -> messages.Reply:
        case = request.case
        self.subjects.pop(request.number, None)  # if this one is refused, no other must answer for it
        if isinstance(case.threads, int):
            self.threads[request.number] = case.threads
        self._set_threads(request.number)
        self._turn_to(request.number, case.device)
        subject = workload_of(case)
        put_right = self._put_right(request.number)
        correct = subject.begin() if request.checked else subject.check()
        subject.save()
        self.subjects[request.number] = subject
        code = subject.optimizer_code if isinstance(subject, Subject) else ""
        assumed = (*subject.assumed, *put_right)
        answer: dict[str, Any] = {"correct": correct, "assumed": assumed, "optimizer_code": code}
        if not request.warm_up:
            return messages.Prepared({}, steady=True, **answer)
        wanted = request.kinds or subject.kinds
        kinds = [kind for kind in wanted if kind in subject.kinds]
        seconds, steady = self._warm_up(request.number, kinds, known=request.checked)
        if isinstance(subject, Subject):
            answer["parts"] = subject.parts
        correct["denormals"] = subject.denormals()
        subject.restore()
        return messages.Prepared(seconds, steady=steady, **answer)

    def _warm_up(
        self, number: int, kinds: Sequence[BlockKind], *, known: bool
    ) -> tuple[dict[BlockKind, float], bool]:
        """Run the first kind until two halves agree, then a few of each other kind; return their seconds.

        What takes so long that its blocks are shorter has warmed up within four iterations of the first
        kind, whose time then stands for those of the other kinds: they hold such a step or a part of it.
        Where times are `known` from another process, half as long will do.
        """
        first, *others = kinds
        seconds, steady = self._seconds(number, first, 1), False
        if least_iterations(seconds) < LEAST_ITERATIONS:
            halves = [seconds, self._seconds(number, first, 1)]
            seconds, steady = min(halves), max(halves) <= (1 + STEADY_WITHIN) * min(halves)
            if least_iterations(seconds) < LEAST_ITERATIONS:
                return dict.fromkeys(kinds, seconds), steady
        half_s = WARM_UP_HALF_S / 2 if known else WARM_UP_HALF_S
        for _ in range(WARM_UP_TRIES):
            iterations = max(LEAST_ITERATIONS, int(1.5 * half_s / seconds))
            halves = [self._seconds(number, first, iterations) for _ in range(2)]
            seconds = min(halves)
            steady = max(halves) <= (1 + STEADY_WITHIN) * seconds
            if steady and iterations * seconds >= half_s:
                break
        rest = {kind: self._seconds(number, kind, 1 if known else LEAST_ITERATIONS) for kind in others}
        return {first: seconds, **rest}, steady

    def _seconds(self, number: int, kind: BlockKind, iterations: int) -> float:
        block = self._block(number, kind, iterations)
        on_cpu = self.subjects[number].device.type == "cpu"
        return (float(block.each_ns.min()) if on_cpu else block.wall_mean_ns) * NANO

    def _measure(self, request: messages.Measure) -> messages.Reply:
        for thrown_out in range(MOST_THROWN_OUT):
            before = compilations()
            block = self._block(request.number, request.kind, request.iterations)
            if compilations() == before:
                return messages.Measured.of(block, thrown_out)
        raise IncorrectError(
            f"torch.compile compiled inside each of {MOST_THROWN_OUT} timed blocks in a row, so it never"
            " settles (TORCH_LOGS=recompiles,graph_breaks tells why)"
        )

    def _block(self, number: int, kind: BlockKind, iterations: int) -> Block:
        subject = self.subjects[number]
        self._set_threads(number)
        self._turn_to(number, subject.device.type)
        laps = subject.laps if isinstance(subject, OwnStep) and kind == "laps" else None
        return run_block(subject, self._clock(subject.device.type, kind), kind, iterations, laps)

    def _turn_to(self, number: int, device: str) -> None:
        """Free the cached memory of the previous case on a GPU."""
        if number != self.last and device != "cpu":
            give_back_cached()
        self.last = number

    def _set_threads(self, number: int) -> None:
        wanted = self.threads.get(number)
        if wanted is not None and wanted != torch.get_num_threads():
            torch.set_num_threads(wanted)

    def _put_right(self, number: int) -> list[str]:
        """Set the threads of a case again, and return in words which others its code has set."""
        wanted, found = self.threads.get(number), torch.get_num_threads()
        if wanted in (None, found):
            return []
        self._set_threads(number)
        return [f"its code sets {found} threads; each case has its own number instead (--step-threads)"]

    def _clock(self, device: str, kind: BlockKind) -> Clock:
        events = kind not in ("plain", "inference")
        key = (device, events)
        if key not in self.clocks:
            self.clocks[key] = HostClock() if device == "cpu" else EventClock(torch.cuda, events=events)
        return self.clocks[key]

    def _spin_up(self, request: messages.SpinUp) -> messages.Reply:
        matrix = torch.ones(2048, 2048, device="cuda")
        end = time.monotonic() + request.seconds
        while time.monotonic() < end:
            matrix @ matrix
            torch.cuda.synchronize()
        return messages.Done()

    def _subject(self, number: int) -> Subject:
        if number not in self.subjects:
            raise LookupError(f"case {number} is not held by this worker")
        subject = self.subjects[number]
        if not isinstance(subject, Subject):
            raise TypeError(f"case {number} is no network, so that it has no phases to look into")
        return subject

    def _profile(self, request: messages.Profile) -> messages.Reply:
        if request.number not in self.subjects:
            self._prepare(messages.Prepare(request.number, request.case, warm_up=False))
        self._set_threads(request.number)
        subject = self._subject(request.number)
        trace = Path(request.trace)
        return messages.Profiled(profile_case(subject, request.case, request.steps, trace, fed=request.fed))

    def _read_clock(self, request: messages.ReadClock) -> messages.Reply:
        clock = HostClock()
        for _ in range(request.readings):
            clock.mark()
        between, spans = clock.host_laps().tobytes(), []
        for _ in range(request.spans):
            before, start, begun = second_clock(), clock.now(), second_clock()
            busy_wait(request.span_ns)
            ended, end, after = second_clock(), clock.now(), second_clock()
            spans.append((end - start, ended - begun, after - before))
        return messages.ClockRead(between, spans)

    def _count(self, request: messages.Count) -> messages.Reply:
        self._set_threads(request.number)
        return messages.Counted(count_case(self._subject(request.number)))

    def _forget(self, request: messages.Forget) -> messages.Reply:
        self.subjects.pop(request.number, None)
        release_batches()
        release_buffers()
        gc.collect()
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.empty_cache()
        return messages.Done()


def compilations() -> int:
    """Return how many frames torch.compile has compiled in this process, and its graph breaks.

    Each takes milliseconds to seconds.
    """
    dynamo = sys.modules.get("torch._dynamo.utils")
    if dynamo is None:
        return 0
    frames, breaks = dynamo.counters["frames"]["total"], sum(dynamo.counters["graph_break"].values())
    return int(frames + breaks)


def ends_the_process(error: BaseException) -> bool:
    """Return whether an error leaves this process unable to measure anything else on its device.

    After most CUDA errors every later call fails with the same one (CUDA Runtime API, error handling), and a
    failed capture leaves torch on its stream. After running out of memory, other cases still work.
    """
    if runs_out_of_memory(error):
        return False
    if isinstance(error, torch.AcceleratorError | CaptureError):
        return True
    try:  # some libraries hide the errors of a device, which then no longer answers
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False


def in_one_sentence(error: BaseException) -> str:
    """Return the reason of a failure in one line, with the user's line if the error arose in their code.

    It begins with `out of memory` if that is the reason.
    """
    while CAPTURE_GOES_ON_FAILING in str(error) and error.__context__ is not None:
        error = error.__context__
    first_line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    if isinstance(error, IncorrectError):
        return first_line
    hint = "".join(f" ({hint})" for part, hint in HINTS.items() if part in first_line)
    at = f" at {line}" if (line := line_of(error)) else ""
    if isinstance(error, SystemExit):
        return f"the subject's code ended its process with exit code {error.code or 0}{at}"
    name = "out of memory" if runs_out_of_memory(error) else type(error).__name__ + at
    return f"{name}: {first_line}{hint}"


def runs_out_of_memory(error: BaseException) -> bool:
    """Return whether an error is a lack of memory, on the host or on a device."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    out_of_memory = isinstance(error, torch.AcceleratorError) and "out of memory" in str(error)
    return out_of_memory or "can't allocate memory" in str(error)
