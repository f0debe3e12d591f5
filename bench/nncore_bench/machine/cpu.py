"""Facts of the processor: its model, its instruction sets and caches, and its clock and who sets it."""

import platform
from pathlib import Path
from typing import Any

import psutil

from nncore_bench.machine.reading import ROOT, UNKNOWN, known, text

DECISIVE_FLAGS = (
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"),
    *("avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16"),
    *("asimd", "asimddp", "asimdhp", "fphp", "bf16", "i8mm", "sve", "sve2", "svebf16", "sme"),
)
"""The instruction sets by which a matrix product or an elementwise loop selects its code."""

CPUS = "sys/devices/system/cpu"
SWITCH: dict[str | None, str] = {"1": "on", "0": "off"}
KIBI_PER_UNIT = {"K": 1, "M": 2**10, "G": 2**20}


def processor_facts(root: Path = ROOT) -> dict[str, Any]:
    """Return what the processor is and how it is set, by name; caches are in KiB, clocks in MHz."""
    info = _cpu_info(root)
    flags = set((info.get("flags") or info.get("Features") or "").split())
    return {
        "cpu_model": info.get("model name") or platform.processor() or platform.machine(),
        "cpu_vendor": known(lambda: info.get("vendor_id") or info.get("CPU implementer")),
        "cpu_architecture": known(platform.machine),
        "cpu_flags": known(lambda: " ".join(flag for flag in DECISIVE_FLAGS if flag in flags)),
        "cpu_microcode": known(info.get, "microcode"),
        "cores_physical": known(lambda: psutil.cpu_count(logical=False)),
        "cores_logical": known(psutil.cpu_count),
        "hyper_threading": SWITCH.get(text(root / CPUS / "smt/active"), UNKNOWN),
        "numa_nodes": known(lambda: len(list((root / "sys/devices/system/node").glob("node[0-9]*"))) or None),
        **{f"cache_{name}_kib": known(_cache_kib, name, root) for name in ("l1d", "l2", "l3")},
        "cpu_governor": known(_governors, root),
        "cpu_turbo": _turbo(root),
        "cpu_mhz": known(lambda: round(psutil.cpu_freq().current)),
        "cpu_mhz_max": known(lambda: round(psutil.cpu_freq().max) or None),
        "virtual_machine": known(lambda: ("no", "yes")["hypervisor" in flags] if info.get("flags") else None),
        "product": known(_product, root),
        "power_supply": known(_power_supply),
    }


def _cpu_info(root: Path) -> dict[str, str]:
    """Return the entries of the first processor in the kernel's list, by name."""
    first, *_ = (text(root / "proc/cpuinfo") or "").split("\n\n")
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _cache_kib(name: str, root: Path) -> int | None:
    """Return the KiB of a cache (l1d, l2 or l3) that the first processor uses, alone or shared."""
    for index in sorted((root / CPUS / "cpu0/cache").glob("index*")):
        kind = text(index / "type")  # an instruction cache holds no tensors
        if text(index / "level") == name[1] and kind in ("Data", "Unified"):
            size = text(index / "size")
            return int(size[:-1]) * KIBI_PER_UNIT[size[-1]] if size else None
    return None


def _governors(root: Path) -> str:
    """Return the frequency governors in use, each once."""
    paths = (root / CPUS).glob("cpu[0-9]*/cpufreq/scaling_governor")
    return " ".join(sorted({name for path in paths if (name := text(path))}))


def _turbo(root: Path) -> str:
    """Tell whether the clock may rise above its nominal rate: on, off or unknown."""
    forbidden, allowed = text(root / CPUS / "intel_pstate/no_turbo"), text(root / CPUS / "cpufreq/boost")
    return {"0": "on", "1": "off"}.get(forbidden or "", SWITCH.get(allowed, UNKNOWN))


def _product(root: Path) -> str:
    """Return the maker and the model of the machine, virtual or not."""
    names = (text(root / "sys/class/dmi/id" / name) for name in ("sys_vendor", "product_name"))
    return " ".join(name for name in names if name)


def _power_supply() -> str | None:
    """Tell whether the machine runs on battery or mains; None if it has no battery."""
    battery = psutil.sensors_battery()
    plugged = battery.power_plugged if battery else None
    return None if plugged is None else "mains" if plugged else "battery"
