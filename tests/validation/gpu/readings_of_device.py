"""Readings of the device itself: events, launches, waits, copies, ceilings, precision, clocks."""

import time
from collections.abc import Callable
from itertools import pairwise
from math import gcd
from statistics import median
from typing import Any

import torch
from torch import Tensor

DEVICE = "cuda"
MICRO = 1e-6
MIBI = 2**20
EVENTS = 600
LAUNCHES = 2000
QUEUED = 3000
BLOCKED_NS = 5_000_000
"""A launch that takes longer than this waits for a place in the queue."""

BATCHES = (1, 32, 128, 1024, 8192)
SIDES = (4096, 8192)
COPIED_MIB = (4, 16, 256, 2048)
LOADED = 4096
"""The side of the matrices that keep the device at work while its clock is read."""

IDLE_S, LOAD_S = 1.0, 0.5


def facts() -> dict[str, Any]:
    """Return what torch says of the device."""
    seen = torch.cuda.get_device_properties(0)
    names = ("name", "major", "minor", "total_memory", "multi_processor_count", "L2_cache_size", "uuid")
    said = {name: str(getattr(seen, name, "unknown")) for name in names}
    supported = sorted(str(kind) for kind in torch.profiler.supported_activities())
    return {**said, "torch": torch.__version__, "cuda": torch.version.cuda, "profiler": supported}


def events() -> dict[str, Any]:
    """Return what an event costs, and what the span between two neighbours is, idle and behind other work."""
    pool = [torch.cuda.Event(enable_timing=True) for _ in range(EVENTS)]
    for event in pool:
        event.record()
    stream = torch.cuda.current_stream()
    found = {}
    for name, cycles in (("idle", 0), ("busy", 40_000_000)):
        torch.cuda.synchronize()
        if cycles:
            torch.cuda._sleep(cycles)
        begin = time.perf_counter_ns()
        for event in pool:
            event.record(stream)
        host_ns = (time.perf_counter_ns() - begin) / EVENTS
        torch.cuda.synchronize()
        spans = [round(a.elapsed_time(b) * 1e6) for a, b in pairwise(pool)]
        found[name] = {
            "host_ns": host_ns,
            "span_ns": {
                "median": median(spans),
                "least": min(spans),
                "most": max(spans),
                "zeros": spans.count(0),
            },
            "tick_ns": gcd(*spans),
            "device_ns_each": pool[0].elapsed_time(pool[-1]) * 1e6 / (EVENTS - 1),
        }
    return found


def launches() -> dict[str, Any]:
    """Return the host's nanoseconds of a small operator, its wall time, and how many fit in the queue."""
    x = torch.zeros(8, device=DEVICE)
    for _ in range(100):
        x.add_(1)
    torch.cuda.synchronize()
    begin = time.perf_counter_ns()
    for _ in range(LAUNCHES):
        x.add_(1)
    host = time.perf_counter_ns()
    torch.cuda.synchronize()
    wall = time.perf_counter_ns()
    torch.cuda._sleep(100_000_000)  # some 50 ms
    read = [time.perf_counter_ns()]
    for _ in range(QUEUED):
        x.add_(1)
        read.append(time.perf_counter_ns())
    torch.cuda.synchronize()
    blocked = next((place for place, (a, b) in enumerate(pairwise(read)) if b - a > BLOCKED_NS), None)
    return {
        "host_ns": (host - begin) / LAUNCHES,
        "wall_ns": (wall - begin) / LAUNCHES,
        "queue_holds": blocked,
    }


def waits() -> dict[str, float]:
    """Return what it costs to wait for nothing, and to read a number."""
    x = torch.ones((), device=DEVICE)
    return {"synchronize_us": each_us(torch.cuda.synchronize, 300), "item_us": each_us(x.item, 300)}


def each_us(work: Callable[[], object], count: int) -> float:
    """Return the median microseconds of a call."""
    times = []
    for _ in range(count):
        begin = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - begin)
    return median(times) / 1000


def copies() -> dict[str, Any]:
    """Return microseconds of a batch to the device, pageable and pinned, and the bandwidth both ways."""
    found: dict[str, Any] = {}
    for batch in BATCHES:
        pageable = torch.rand(batch, 784)
        found[f"batch_{batch}_us"] = {
            "pageable": each_us(_to_device(pageable), 50),
            "pinned": each_us(_to_device(pageable.pin_memory()), 50),
        }
    size = max(COPIED_MIB[:3]) * MIBI
    on_device = torch.empty(size, dtype=torch.uint8, device=DEVICE)
    host = torch.empty(size, dtype=torch.uint8)
    pinned = host.pin_memory()
    ways = {
        "to_device_pageable": (on_device, host),
        "to_device_pinned": (on_device, pinned),
        "to_host_pinned": (pinned, on_device),
    }
    for name, (target, source) in ways.items():
        found[f"{name}_gb_per_s"] = size / 1000 / each_us(_copied(target, source), 5)
    return found


def _to_device(source: Tensor) -> Callable[[], None]:
    def work() -> None:
        source.to(DEVICE, non_blocking=True)  # of pageable memory torch waits all the same
        torch.cuda.synchronize()

    return work


def _copied(target: Tensor, source: Tensor) -> Callable[[], None]:
    def work() -> None:
        target.copy_(source)
        torch.cuda.synchronize()

    return work


def ceilings() -> dict[str, float]:
    """Return the rates of matrix products and copies, by events around several of them, on random data."""
    found = {}
    kinds = (
        ("float32", torch.float32, "highest"),
        ("tf32", torch.float32, "high"),
        ("bfloat16", torch.bfloat16, "highest"),
    )
    for side in SIDES:
        for name, dtype, precision in kinds:
            torch.set_float32_matmul_precision(precision)
            a, b = (torch.randn(side, side, device=DEVICE).to(dtype) for _ in range(2))
            out = torch.empty_like(a)
            rate = 2 * side**3 / span_s(lambda: torch.mm(a, b, out=out), 8)
            found[f"gemm_{side}_{name}_tflop_per_s"] = rate / 1e12
    torch.set_float32_matmul_precision("highest")
    for mebi in COPIED_MIB:
        source = torch.ones(mebi * MIBI // 4, device=DEVICE)
        target = torch.zeros_like(source)
        rate = 2 * source.nbytes / span_s(lambda: target.copy_(source), 40)
        found[f"copy_{mebi}_mib_tb_per_s"] = rate / 1e12
    return found


def span_s(work: Callable[[], object], count: int) -> float:
    """Return the device's seconds of some work, the best of three spans of several."""
    spans = []
    for _ in range(4):  # the first one warms up
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda._sleep(2_000_000)  # so that the host is ahead
        start.record()
        for _ in range(count):
            work()
        end.record()
        torch.cuda.synchronize()
        spans.append(start.elapsed_time(end) / 1000 / count)
    return min(spans[1:])


def convolution() -> dict[str, float]:
    """Return how far convolutions and products of float32 are off float64, at torch's own settings.

    Some 3e-4 is TF32, some 1e-7 is float32.
    """
    x, w = torch.randn(8, 64, 56, 56, device=DEVICE), torch.randn(64, 64, 3, 3, device=DEVICE)
    a, b = torch.randn(512, 512, device=DEVICE), torch.randn(512, 512, device=DEVICE)
    convolved = torch.nn.functional.conv2d
    return {
        "conv": off(convolved(x, w), convolved(x.double(), w.double())),
        "product": off(a @ b, a.double() @ b.double()),
        "cudnn_allow_tf32": float(torch.backends.cudnn.allow_tf32),
    }


def off(found: Tensor, exact: Tensor) -> float:
    """Return the share by which a tensor is off."""
    return float((found.double() - exact).norm() / exact.norm())


def clocks() -> dict[str, Any]:
    """Return how the clock rises under load."""
    import pynvml  # noqa: PLC0415 - a machine without it loses this reading alone

    pynvml.nvmlInit()
    gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
    matrix = torch.randn(LOADED, LOADED, device=DEVICE)

    def while_loaded(seconds: float, read: Callable[[], float]) -> list[tuple[float, float]]:
        begin, seen = time.perf_counter(), list[tuple[float, float]]()
        while (now := time.perf_counter() - begin) < seconds:
            torch.mm(matrix, matrix)
            torch.cuda.synchronize()
            seen.append((round(now, 3), read()))
        return seen

    time.sleep(IDLE_S)
    idle_mhz = pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM)
    mhz = while_loaded(LOAD_S, lambda: pynvml.nvmlDeviceGetClockInfo(gpu, pynvml.NVML_CLOCK_SM))
    return {
        "idle_mhz": idle_mhz,
        "mhz": [*[pair for pair in mhz if pair[1] != idle_mhz][:3], mhz[-1]],
    }
