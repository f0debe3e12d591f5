"""What all pictures share: colours, axes and sizes of Altair charts, and the script that draws them."""

import hashlib
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from nncore_bench.runs import replace_file

SNIPPET = "window.vegaEmbed = vegaEmbed;"
CACHE = "nncore-bench"
Spec = dict[str, Any]
INK = "currentColor"
"""The colour of the text around a picture, so that one drawing serves light and dark alike."""

PALETTE = ("#4c78a8", "#f58518", "#54a24b", "#e45756", "#72b7b2", "#b279a2", "#9d755d", "#bab0ac")
"""Eight colours that differ on light and on dark (Vega's tableau10, without its yellow and pink)."""

AXIS = dict.fromkeys(("labelColor", "titleColor", "tickColor", "domainColor", "gridColor"), INK)
CONFIG: Spec = {
    "axis": {**AXIS, "gridOpacity": 0.15, "labelFontSize": 11, "titleFontSize": 12},
    "legend": {"labelColor": INK, "titleColor": INK, "orient": "top", "labelLimit": 300, "symbolOpacity": 1},
    "view": {"stroke": None},
    "range": {"category": list(PALETTE)},
    **{mark: {"color": INK} for mark in ("text", "rule", "title")},
}
CASES = alt.Y("case:N", sort=None, title=None, axis=alt.Axis(labelLimit=260))
"""A line for each case, in their order."""

ROW_HEIGHT = 22
MOST_ROWS = 48
"""A picture holds this many cases, those of the default grid of two devices; the tables have all."""


@dataclass(frozen=True)
class Figure:
    """A picture: its file name, its title, its content in words, and its Vega-Lite specification."""

    name: str
    title: str
    alternative: str
    spec: Spec


def drawn(name: str, title: str, alternative: str, chart: alt.TopLevelMixin, height: int = 260) -> Figure:
    """Return a chart as a picture in the ink of the page, as wide as it; `height` is in pixels."""
    spec: Spec = chart.to_dict()
    del spec["$schema"]  # an address, and the page has none
    autosize = {"type": "fit-x", "contains": "padding"}
    spec |= {"config": CONFIG, "background": None, "autosize": autosize, "width": "container"}
    spec |= {"height": height, "description": alternative}  # Vega passes it on to screen readers
    return Figure(name, title, alternative, spec)


def logarithmic(title: str) -> dict[str, Any]:
    """Return scale and title of a logarithmic axis."""
    return {"scale": alt.Scale(type="log", nice=False, padding=8), "title": title}


def bundle() -> str:
    """Return the script of Vega, Vega-Lite and Vega-Embed, which takes seconds to make and is cached."""
    key = hashlib.sha256(f"{version('vl-convert-python')} {SNIPPET}".encode()).hexdigest()[:16]
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    kept = Path(home) / CACHE / f"vega-{key}.js"
    try:
        return kept.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        made: str = vl_convert.javascript_bundle(SNIPPET).replace("</script", "<\\/script")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        replace_file(kept, made.encode())
    except OSError:
        pass  # a home that cannot be written costs the next page three seconds
    return made
