"""A real case on the CPU, in this process, and the worker that answers for it."""

import os
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from nncore_bench.campaign.launcher import Launcher, WorkerError
from nncore_bench.cases import BLOCK_LAPS, Case
from nncore_bench.worker import messages
from nncore_bench.worker.blocks import IncorrectError, run_block
from nncore_bench.worker.clock import HostClock
from nncore_bench.worker.processes import NVML_CHECK, ask_driver_for_cuda
from nncore_bench.worker.references.known_answers import busy_wait
from nncore_bench.worker.server import Worker, in_one_sentence
from nncore_bench.worker.subjects.subject import Subject

CASE = Case("simplenn", "digits", "cpu", 1, "float32", "eager", 32, 16)


@pytest.fixture
def subject() -> Subject:
    """Return a small case that has passed its check."""
    made = Subject(CASE)
    made.check()
    made.save()
    return made


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    """Leave torch's thread count as it was."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_block_with_laps_trains_exactly_as_a_plain_block(subject: Subject) -> None:
    """The clock reads change nothing that is computed: same parameters, to the last bit."""
    after = []
    for kind in ("laps", "plain"):
        run_block(subject, HostClock(), kind, 6)  # type: ignore[arg-type] # two of the kinds
        after.append([parameter.detach().clone() for parameter in subject.step.model.parameters()])
    for lapped, plain in zip(*after, strict=True):
        assert torch.equal(lapped, plain)


def test_restoring_puts_parameters_and_the_optimizers_state_back(subject: Subject) -> None:
    """Also Adam's step count, on which its bias correction depends."""
    before = [tensor.detach().clone() for tensor in subject.state()]
    run_block(subject, HostClock(), "plain", 5)
    assert not all(torch.equal(a, b) for a, b in zip(before, subject.state(), strict=True))
    subject.restore()
    assert all(torch.equal(a, b) for a, b in zip(before, subject.state(), strict=True))
    assert len(before) == 4 + 4 * 3  # four parameters; step, mean and mean square of each


def test_inference_runs_in_eval_mode_without_gradients_and_the_mode_comes_back(subject: Subject) -> None:
    """A forward pass in train mode would be another thing."""
    seen: list[tuple[bool, bool]] = []
    subject.step.model.register_forward_hook(
        lambda module, _inputs, _output: seen.append((module.training, torch.is_grad_enabled()))
    )
    run_block(subject, HostClock(), "inference", 3)
    assert seen == [(False, False)] * 4
    assert subject.step.model.training


def test_no_kind_of_block_changes_how_many_laps_it_has(subject: Subject) -> None:
    """Each iteration records the laps its kind names."""
    for kind in subject.kinds:
        assert run_block(subject, HostClock(), kind, 4).host.shape == (5, len(BLOCK_LAPS[kind]))


def broken_no_gradient(subject: Subject) -> None:
    next(subject.step.model.parameters()).requires_grad_(requires_grad=False)


def broken_no_movement(subject: Subject) -> None:
    subject.step.torch_optimizer.param_groups[0]["lr"] = 0.0


def broken_loss(subject: Subject) -> None:
    with torch.no_grad():
        next(subject.step.model.parameters()).fill_(float("nan"))


@pytest.mark.parametrize(
    ("breaking", "said"),
    [
        (broken_no_gradient, "75% of the parameters got a finite gradient"),
        (broken_no_movement, "only 0% of the parameters moved"),
        (broken_loss, "the loss of the first step is nan"),
    ],
)
def test_a_case_that_does_not_train_is_refused(breaking: Callable[[Subject], None], said: str) -> None:
    """Adam without gradients takes 14 µs instead of 869, and no error: such times must never be believed."""
    subject = Subject(CASE)
    breaking(subject)
    with pytest.raises(IncorrectError, match=said):
        subject.check()


def test_every_backward_runs_on_the_forward_of_its_own_step(subject: Subject) -> None:
    """A graph that is kept to be run again makes backward 25 % slower; here each is freed as it is used."""
    losses: list[torch.Tensor] = []
    backward = subject.step.backward

    def watched(loss: torch.Tensor) -> None:
        losses.append(loss)
        backward(loss)

    subject.step.backward = watched  # type: ignore[method-assign]
    run_block(subject, HostClock(), "laps", 4)
    assert len({id(loss.grad_fn) for loss in losses}) == 5
    for loss in losses:
        with pytest.raises(RuntimeError, match="a second time"):
            torch.autograd.backward(loss)


class Slowing:
    """A case whose iterations take longer and longer."""

    kinds = ("plain",)
    device = torch.device("cpu")
    assumed = ()

    def __init__(self, growth: float) -> None:
        self.growth, self.wait_ns = growth, 100_000.0

    def check(self) -> dict[str, float]:
        return {}

    begin = check

    def save(self) -> None: ...

    def restore(self) -> None:
        self.wait_ns *= self.growth

    def denormals(self) -> int:
        return 0

    def mode(self, _kind: str) -> nullcontext[None]:
        return nullcontext()

    def iteration(self, _kind: str) -> Callable[[int, Callable[[], None]], None]:
        def wait(_number: int, mark: Callable[[], None]) -> None:
            mark()
            busy_wait(int(self.wait_ns))

        return wait


@pytest.mark.machine
def test_a_case_that_never_becomes_steady_is_flagged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Warming up ends when two halves agree within 10 %; these differ by half again each time."""
    for growth, steady in ((1.5, False), (1.0, True)):
        monkeypatch.setattr(
            "nncore_bench.worker.server.workload_of", lambda _, growth=growth: Slowing(growth)
        )
        prepared = Worker().answer(messages.Prepare(0, CASE, warm_up=True))
        assert isinstance(prepared, messages.Prepared)
        assert prepared.steady is steady


class Clocked(Slowing):
    """A case whose iterations take as long as they say, by a clock that they advance, and are counted."""

    kinds = ("laps", "plain", "feed", "inference")  # type: ignore[assignment]

    def __init__(self, seconds: float) -> None:
        super().__init__(1.0)
        self.lap_ns, self.time_ns, self.done = int(seconds * 1e9), 0, 0

    def iteration(self, kind: str) -> Callable[[int, Callable[[], None]], None]:
        laps = len(BLOCK_LAPS[kind])  # type: ignore[index]

        def run(_number: int, mark: Callable[[], None]) -> None:
            self.done += 1
            for _ in range(laps):
                mark()
                self.time_ns += self.lap_ns // laps

        return run


@pytest.mark.parametrize(
    ("seconds", "iterations", "checked"),
    [
        (0.001, 49, False),
        (0.001, 24, True),
        (0.7, 27, False),
        (0.7, 18, True),
        (0.9, 4, True),
        (2.5, 4, False),
    ],
)
def test_warming_up_a_long_step_takes_few_of_its_iterations(
    seconds: float, iterations: int, *, checked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two blocks of one iteration each, with the leading ones four; and every kind has its time.

    A short one has a block of one, two of 4, of 1 ms two of 15, and one of 4 for each of the three other
    kinds. What another process has checked has half as long, and single iterations of the other kinds.
    """
    case = Clocked(seconds)
    monkeypatch.setattr("nncore_bench.worker.server.workload_of", lambda _: case)
    worker = Worker()
    worker.clocks = {("cpu", events): HostClock(lambda: case.time_ns) for events in (True, False)}
    prepared = worker.answer(messages.Prepare(0, CASE, warm_up=True, checked=checked))
    assert isinstance(prepared, messages.Prepared)
    assert prepared.seconds == pytest.approx(dict.fromkeys(Clocked.kinds, seconds), rel=1e-4)
    assert prepared.steady
    assert case.done == iterations


def test_a_block_in_which_something_is_compiled_is_thrown_out_and_measured_again(subject: Subject) -> None:
    """A recompilation takes milliseconds to seconds, and would be one sample among others."""
    worker = Worker()
    worker.subjects[0] = subject
    subject.step.model = torch.compile(subject.step.model, backend="eager")  # type: ignore[assignment]
    for thrown_out in (1, 0):
        measured = worker.answer(messages.Measure(0, "plain", 2))
        assert isinstance(measured, messages.Measured)
        assert measured.thrown_out == thrown_out


def test_a_case_that_is_compiled_again_and_again_is_refused(subject: Subject) -> None:
    """A network that is given something new in each block never settles."""
    worker, plain = Worker(), subject.step.model
    worker.subjects[0] = subject

    def restore() -> None:
        torch._dynamo.reset()
        subject.step.model = torch.compile(plain, backend="eager")  # type: ignore[assignment]

    subject.restore = restore  # type: ignore[method-assign]
    refused = worker.answer(messages.Measure(0, "plain", 2))
    assert isinstance(refused, messages.Refused)
    assert "inside each of 3 timed blocks in a row" in refused.reason


def test_denormal_values_are_counted(subject: Subject) -> None:
    """One planted in a parameter is one found."""
    before = subject.denormals()
    with torch.no_grad():
        next(subject.step.model.parameters())[0, 0] = 1e-40
    assert subject.denormals() == before + 1


def test_resident_batches_are_shared_by_all_cases_of_a_size() -> None:
    """24 cases do not hold 24 copies of the data."""
    wide = Subject(replace(CASE, hidden=64))
    assert wide.batches[0][0].data_ptr() == Subject(CASE).batches[0][0].data_ptr()


def test_a_worker_prepares_measures_and_forgets_a_case() -> None:
    """In its own terms: seconds per kind, laps as bytes, and an answer to everything."""
    worker = Worker()
    prepared = worker.answer(messages.Prepare(7, CASE, warm_up=True))
    assert isinstance(prepared, messages.Prepared)
    assert set(prepared.seconds) == set(Subject.kinds)
    assert prepared.correct["moved"] == 1.0
    measured = worker.answer(messages.Measure(7, "laps", 5))
    assert isinstance(measured, messages.Measured)
    assert np.frombuffer(measured.host, np.int64).reshape(6, 6).min() > 0
    assert torch.get_num_threads() == 1
    assert isinstance(worker.answer(messages.Forget(7)), messages.Done)
    assert isinstance(worker.answer(messages.Measure(7, "laps", 5)), messages.Refused)


def test_a_case_that_a_worker_does_not_hold_is_prepared_to_be_profiled(tmp_path: Path) -> None:
    """As where the worker that had timed it died."""
    reply = Worker().answer(messages.Profile(0, CASE, 1, str(tmp_path / "trace.json.gz")))
    assert isinstance(reply, messages.Profiled)
    assert reply.profile.steps == 1


def test_whatever_goes_wrong_in_a_case_is_an_answer() -> None:
    """The worker and its other cases go on."""
    worker = Worker()
    refused = worker.answer(messages.Prepare(0, replace(CASE, hidden=10**12), warm_up=True))
    assert isinstance(refused, messages.Refused)
    assert refused.reason.startswith("out of memory")
    assert isinstance(worker.answer(messages.Prepare(1, CASE, warm_up=False)), messages.Prepared)


def test_threads_that_a_factory_sets_are_put_right_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The case has one; a factory that sets as many, or none, is not mentioned."""
    monkeypatch.chdir(tmp_path)
    for name, threads in (("two", 2), ("one", 1)):
        code = f"torch.set_num_threads({threads})\ndef make(): return torch.nn.Linear(3, 2)"
        Path(f"{name}.py").write_text(f"import torch\n{code}")
        case = Case(f"./{name}.py:make", "-", "cpu", 1, "float32", "eager", 4, "-")
        prepared = Worker().answer(messages.Prepare(0, case, warm_up=False))
        assert isinstance(prepared, messages.Prepared)
        said = [sentence for sentence in prepared.assumed if "threads" in sentence]
        assert said == [
            f"its code sets {threads} threads; each case has its own number instead (--step-threads)"
        ] * (threads > 1)
        assert torch.get_num_threads() == 1


def test_a_failure_is_told_in_one_line() -> None:
    """Of a long message the first line, and of an empty one the name."""
    assert in_one_sentence(ValueError("first\nsecond")) == "ValueError: first"
    assert in_one_sentence(MemoryError()) == "out of memory: MemoryError"


@pytest.mark.parametrize("usual", [None, "0"])
def test_workers_ask_for_cuda_as_a_users_script_does(
    usual: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adam asks several times a step; by way of the driver's library each step took 0.15 ms longer."""
    monkeypatch.setattr(os, "environ", {} if usual is None else {NVML_CHECK: usual})
    ask_as_usual = ask_driver_for_cuda()
    assert os.environ[NVML_CHECK] == "1"
    ask_as_usual()
    assert os.environ.get(NVML_CHECK) == usual


@pytest.mark.machine
def test_a_dead_launcher_is_a_worker_error_and_not_a_crash() -> None:
    """Whoever asks for a worker then is told in words."""
    with closing(Launcher()) as launcher:
        launcher.fork()
        psutil.Process().children()[-1].kill()
        with pytest.raises(WorkerError, match="launcher of the workers was killed by signal 9"):
            launcher.fork()
