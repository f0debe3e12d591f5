"""Readings of a probe that nothing has read: for tests of `check`, and for a rehearsal without a GPU.

    python made_up_probe.py probe.json

The figures are those that were expected of an H100 before one was seen.
"""

import json
import sys
from pathlib import Path
from typing import Any

from readings_of_steps import SIZES

UUID = "f2a1b0c9-0000-4000-8000-00000badcafe"
STEP_US = {"eager": 250.0, "foreach": 250.0, "fused": 180.0, "capturable": 280.0, "cudagraph": 60.0}
KERNELS = 45.0


def made_up_probe() -> dict[str, Any]:
    """Return all readings, as the probe writes them."""
    sizes = [f"b{batch}-h{hidden}" for batch, hidden in SIZES]
    return {
        "idle_gpu": {"used_mib": 0.0, "sm_mhz": 345, "watt": 70.0, "uuid": f"GPU-{UUID}", "compute_mode": 0},
        "start_up": {
            "import_s": 4.0,
            "context_s": 1.0,
            "first_product_s": 0.5,
            "used_mib": 520.0,
            "threads": 8,
        },
        "facts": {"name": "Made-up GPU", "uuid": UUID, "torch": "2.11.0", "cuda": "13.0"},
        "events": {
            "idle": _event(host_ns=3000.0, span_ns=3000),
            "busy": _event(host_ns=3000.0, span_ns=1000),
        },
        "launches": {"host_ns": 5000.0, "wall_ns": 5000.0, "queue_holds": 1000},
        "waits": {"synchronize_us": 8.0, "item_us": 15.0},
        "copies": {"batch_32_us": {"pageable": 20.0, "pinned": 12.0}, "to_device_pinned_gb_per_s": 50.0},
        "ceilings": {"gemm_4096_float32_tflop_per_s": 50.0, "copy_256_mib_tb_per_s": 2.8},
        "convolution": {"conv": 3e-4, "product": 1e-7, "cudnn_allow_tf32": 1.0},
        "steps": {f"{size}-{form}": _step(us) for size in sizes for form, us in STEP_US.items()},
        "kernels": {f"{size}-session-{number}": _session() for size in sizes for number in (1, 2)},
        "clocks": {"idle_mhz": 345, "mhz": [[0.01, 1980]]},
        "forked": {"seen_by_nvml": True, "works": True, "seconds": 1.5},
        "failed_capture": {"last_error": "AcceleratorError", "stream_is_back": False, "adds": "works"},
        "compiled": {"default": {"first_s": 10.0, "median": 200.0}},
    }


def _event(host_ns: float, span_ns: int) -> dict[str, Any]:
    spans = {"median": span_ns, "least": span_ns - 500, "most": 3 * span_ns, "zeros": 0}
    return {"host_ns": host_ns, "span_ns": spans, "tick_ns": 32, "device_ns_each": float(span_ns)}


def _step(us: float) -> dict[str, float]:
    return {"median": us, "least": us - 5, "most": us + 20, "host": us - 10}


def _session() -> dict[str, Any]:
    return {"kernels": KERNELS, "busy_us": 80.0, "launches": KERNELS, "calls": {"cudaLaunchKernel": 450}}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(made_up_probe(), indent=1), encoding="utf-8")
