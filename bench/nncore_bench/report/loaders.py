"""Which settings of a DataLoader make the steps of a script fastest, from the trial of some."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import numpy as np

from nncore_bench.estimate.estimates import Estimate, launch_spread
from nncore_bench.text.format import from_to, unit_for
from nncore_bench.text.table import Column, Table

WORTH = 1.02
"""A speed-up below which a setting is not worth the change."""

ALIKE = 0.01
"""Of settings whose speed-ups differ by less, the one with the fewest workers is chosen."""

CAPTION = (
    "Seconds of a whole step of the script's own loop, while its batches come from a DataLoader of these"
    " settings; the speed-up over the script's own ones is from windows of the same rounds, with its 95 %"
    " interval. A setting that was far behind was tried no more."
)


@dataclass(frozen=True)
class TriedSetting:
    """A setting with its mean step and its speed-up over that of the script."""

    workers: int
    prefetch: int | None
    persistent: bool
    pinned: bool
    windows: int
    step_s: float
    speed_up: Estimate | None

    @property
    def code(self) -> str:
        """Return the arguments of a DataLoader with this setting."""
        words = [f"num_workers={self.workers}"]
        if self.workers:
            words += [f"prefetch_factor={self.prefetch}", f"persistent_workers={self.persistent}"]
        return ", ".join([*words, *(["pin_memory=True"] if self.pinned else [])])


def settings_of(facts: Mapping[str, Any]) -> list[TriedSetting]:
    """Return the settings that were tried at least twice, that of the script first."""
    tried = [one for one in facts.get("tried", ()) if len(one["step_s"]) > 1]
    if not tried:
        return []
    own = dict(zip(tried[0]["rounds"], tried[0]["step_s"], strict=True))
    found = []
    for number, one in enumerate(tried):
        logs = [
            np.log(own[turn] / step_s)
            for turn, step_s in zip(one["rounds"], one["step_s"], strict=True)
            if turn in own
        ]
        spread = launch_spread(np.array(logs), averaged=True) if len(logs) > 1 else None
        ratio = Estimate.around_ratio(float(np.exp(np.mean(logs))), spread.half_width if spread else None)
        setting = {name: one[name] for name in ("workers", "prefetch", "persistent", "pinned")}
        found.append(
            TriedSetting(
                **setting,
                windows=len(one["step_s"]),
                step_s=float(np.mean(one["step_s"])),
                speed_up=ratio if number else None,
            )
        )
    return found


def chosen(settings: Sequence[TriedSetting]) -> TriedSetting:
    """Return the setting to use: the fastest, if it is surely faster than that of the script by WORTH."""
    own, *others = settings
    sure = [
        one
        for one in others
        if one.speed_up and one.speed_up.low and one.speed_up.low > 1 and one.speed_up.value >= WORTH
    ]
    if not sure:
        return own
    best = max(one.speed_up.value for one in sure if one.speed_up)
    near = [one for one in sure if one.speed_up and one.speed_up.value >= best * (1 - ALIKE)]
    return min(near, key=lambda one: (one.workers, one.prefetch or 0))


def loader_table(settings: Sequence[TriedSetting], name: str) -> Table:
    """Return the settings with their times."""
    unit = unit_for(one.step_s for one in settings)
    columns = [
        Column("workers", "workers", attrgetter("workers")),
        Column(
            "prefetch",
            "prefetch",
            attrgetter("prefetch"),
            lambda number: "-" if number is None else str(number),
        ),
        Column("persistent", "persistent", attrgetter("persistent"), _yes),
        Column("pinned", "pinned", attrgetter("pinned"), _yes),
        Column("windows", "windows", attrgetter("windows")),
        Column(f"step {unit.symbol}", "step_s", attrgetter("step_s"), unit.text),
        Column(
            "speed-up",
            ("speed_up", "speed_up_low", "speed_up_high"),
            attrgetter("speed_up"),
            lambda ratio: "as it is" if ratio is None else from_to(ratio),
        ),
    ]
    return Table.of("loaders", f"Settings of the DataLoader of {name}", CAPTION, columns, settings)


def _yes(value: object) -> str:
    return "yes" if value else "no"
