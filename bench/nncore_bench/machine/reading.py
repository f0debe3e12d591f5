"""Reading one fact: what cannot be read is the word unknown, and never ends a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

UNKNOWN = "unknown"
ROOT = Path("/")


def known(read: Callable[..., Any], *arguments: object) -> Any:  # noqa: ANN401 - facts are of any plain kind
    """Return what a call reads, or the word unknown if it fails or finds nothing."""
    try:
        value = read(*arguments)
    except Exception:  # noqa: BLE001 - drivers, kernels and containers refuse in many ways; a fact is worth no run
        return UNKNOWN
    return UNKNOWN if value is None or value == "" else value


def text(path: Path) -> str | None:
    """Return the text of a file without surrounding space, or None if it cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def gib(size: float) -> float:
    """Return a size in bytes as GiB, to one decimal."""
    return round(size / 2**30, 1)


def figure(value: object) -> float | None:
    """Return a fact as a number, or None if it is a word."""
    return None if isinstance(value, bool) or not isinstance(value, int | float) else float(value)
