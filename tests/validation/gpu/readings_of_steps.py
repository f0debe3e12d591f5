"""Readings of whole training steps, written anew in plain PyTorch: forms of the step, kernels, compiling."""

import time
from collections import Counter
from collections.abc import Callable
from statistics import median
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

DEVICE = "cuda"
SIZES = ((32, 128), (1024, 512))
"""Batch and hidden width; both are in the default grid."""

FORMS: dict[str, dict[str, bool]] = {
    "eager": {},
    "foreach": {"foreach": True},
    "fused": {"fused": True},
    "capturable": {"capturable": True},
}
WARM_UP, TRIED, FEWEST = 30, 50, 20
"""Steps before anything is timed, those that say how long one takes, and those of a repeat at least."""

REPEAT_S = 0.15
REPEATS = 5
PROFILED = 10

Step: TypeAlias = Callable[[int], object]


class Network:
    """Hold the reference network with Adam and eight batches on the device."""

    def __init__(self, batch: int, hidden: int, **adam: bool) -> None:
        torch.manual_seed(0)
        self.model: Callable[[Tensor], Tensor] = nn.Sequential(
            nn.Linear(784, hidden), nn.ReLU(), nn.Linear(hidden, 10)
        ).to(DEVICE)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.001, **adam)
        self.loss = nn.CrossEntropyLoss()
        self.batches = [
            (torch.rand(batch, 784, device=DEVICE), torch.randint(10, (batch,), device=DEVICE))
            for _ in range(8)
        ]

    def step(self, number: int) -> None:
        """Train on one batch."""
        self.train(*self.batches[number % len(self.batches)])

    def train(self, inputs: Tensor, targets: Tensor) -> None:
        """Train on these inputs of shape [batch, 784] and their targets."""
        self.optimizer.zero_grad()
        self.loss(self.model(inputs), targets).backward()
        self.optimizer.step()

    def captured(self) -> Step:
        """Return the step as one CUDA graph, by torch's own recipe."""
        inputs, targets = (tensor.clone() for tensor in self.batches[0])
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.train(inputs, targets)
        torch.cuda.current_stream().wait_stream(side)
        self.optimizer.zero_grad(set_to_none=True)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.train(inputs, targets)

        def replay(number: int) -> None:
            own_inputs, own_targets = self.batches[number % len(self.batches)]
            inputs.copy_(own_inputs)
            targets.copy_(own_targets)
            graph.replay()

        return replay


def walls_us(step: Step) -> dict[str, float]:
    """Return the wall time of a step in microseconds over repeats of some 150 ms, and the host's own."""
    for number in range(WARM_UP):
        step(number)
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for number in range(TRIED):
        step(number)
    torch.cuda.synchronize()
    count = max(FEWEST, int(REPEAT_S / ((time.perf_counter() - begin) / TRIED)))
    walls, hosts = [], []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        for number in range(count):
            step(number)
        enqueued = time.perf_counter()
        torch.cuda.synchronize()
        walls.append((time.perf_counter() - begin) / count * 1e6)
        hosts.append((enqueued - begin) / count * 1e6)
    return {"median": median(walls), "least": min(walls), "most": max(walls), "host": median(hosts)}


def steps() -> dict[str, Any]:
    """Return the wall times of whole steps by size and form."""
    found = {}
    for batch, hidden in SIZES:
        for name, adam in FORMS.items():
            found[f"b{batch}-h{hidden}-{name}"] = walls_us(Network(batch, hidden, **adam).step)
        found[f"b{batch}-h{hidden}-cudagraph"] = walls_us(
            Network(batch, hidden, **FORMS["capturable"]).captured()
        )
    return found


def kernels() -> dict[str, Any]:
    """Return what two profiler sessions of one process see: kernels, launches, busy microseconds a step."""
    found = {}
    for batch, hidden in SIZES:
        step = Network(batch, hidden).step
        for number in range(5):
            step(number)
        for session in (1, 2):
            found[f"b{batch}-h{hidden}-session-{session}"] = _session(step)
    return found


def _session(step: Step) -> dict[str, Any]:
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiler:
        for number in range(PROFILED):
            step(number)
    seen = profiler.profiler.kineto_results.events()
    # Copies and fills are no kernels, nor are the optimizer's labels, which the device's side repeats.
    own = [
        event
        for event in seen
        if event.device_type() == DeviceType.CUDA
        and not event.name().startswith(("Mem", "Optimizer."))
        and not event.is_user_annotation()
    ]
    on_host = (event.name() for event in seen if event.device_type() == DeviceType.CPU)
    calls = Counter(name for name in on_host if name.startswith("cu"))
    return {
        "kernels": len(own) / PROFILED,
        "busy_us": sum(event.duration_ns() for event in own) / 1000 / PROFILED,
        "launches": sum(n for name, n in calls.items() if "Launch" in name and "Kernel" in name) / PROFILED,
        "calls": dict(calls.most_common(8)),
    }


def compiled() -> dict[str, Any]:
    """Return what the first step of a compiled network takes, and the others."""
    found = {}
    for mode in ("default", "reduce-overhead"):
        torch._dynamo.reset()
        network = Network(*SIZES[0])
        network.model = torch.compile(network.model, mode=mode, dynamic=False)
        begin = time.perf_counter()
        network.step(0)
        torch.cuda.synchronize()
        found[mode] = {"first_s": time.perf_counter() - begin, **walls_us(network.step)}
    return found
