"""Readings that need a process of their own: a fork under CUDA's nose, and a capture that fails."""

import json
import subprocess
import sys
from typing import Any

PATIENCE_S = 60.0

FORKED = """
import json, os, time
os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
import torch
seen = torch.cuda.is_available()
read, write = os.pipe()
begin = time.perf_counter()
if not os.fork():
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK")
    try:
        a = torch.ones(64, 64, device="cuda", requires_grad=True)
        (a @ a).sum().backward()
        torch.cuda.synchronize()
        said = {"works": bool((a.grad == 128).all()), "seconds": time.perf_counter() - begin}
    except Exception as error:
        said = {"works": False, "why": str(error)}
    os.write(write, json.dumps(said).encode())
    os._exit(0)
print(json.dumps({"seen_by_nvml": seen, **json.loads(os.read(read, 4096))}))
"""

FAILED_CAPTURE = """
import json, torch
def first_line(error):
    return f"{type(error).__name__}: {error}".splitlines()[0]
usual = torch.cuda.current_stream()
x = torch.ones(8, device="cuda")
said = {}
try:
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        (x * 2).sum().item()
except Exception as error:
    said["last_error"] = first_line(error)
    while error.__context__ is not None:
        error = error.__context__
    said["first_error"] = first_line(error)
said["stream_is_back"] = torch.cuda.current_stream() == usual
for name, work in {"adds": lambda: x + 1, "drops": lambda: torch.nn.functional.dropout(x, 0.5),
                   "empties": torch.cuda.empty_cache}.items():
    try:
        work()
        torch.cuda.synchronize()
        said[name] = "works"
    except Exception as error:
        said[name] = first_line(error)
print(json.dumps(said))
"""


def forked() -> dict[str, Any]:
    """Return whether a child of a process that has imported torch, and not touched CUDA, may use it."""
    return in_python(FORKED)


def failed_capture() -> dict[str, Any]:
    """Return what a capture that fails says, and what still works after it."""
    return in_python(FAILED_CAPTURE)


def in_python(program: str) -> dict[str, Any]:
    """Return what a program in a process of its own prints as a line of JSON, or how it ended."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        return {"error": f"exit code {done.returncode}: {done.stderr[-300:]}"}
    found: dict[str, Any] = json.loads(lines[-1])
    return found
