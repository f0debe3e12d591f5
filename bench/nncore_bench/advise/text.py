"""Advice as a ranked table, the best combination, and what to write."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, isinf
from operator import attrgetter
from pathlib import Path

from nncore_bench.cases import Case
from nncore_bench.estimate.gains import Gain
from nncore_bench.estimate.rows import CASE_COLUMNS
from nncore_bench.text.format import NOT_AVAILABLE, decimals, from_to, magnitude, micro, several, signed
from nncore_bench.text.frame import identity_column, shown_columns
from nncore_bench.text.table import Column, Table, only_in_files
from nncore_bench.variants import EAGER, PLAIN_LOSS, code_of

TITLES = {
    "step": ("advice", "What makes this training step faster"),
    "feeding": ("advice_feeding", "What makes the loop faster that fetches a batch and trains on it"),
    "inference": ("advice_inference", "What makes inference faster"),
}
CAPTION = (
    "speed-up: how many times as fast as the plain step, by the smallest laps of the same processes, with an"
    " interval from how these differ that holds for all rows together; no difference: it is surely less than"
    " 5 %; undecided: neither that nor faster or slower is sure. error: how far loss, gradients or"
    " parameters are off after 3 steps, at most; beyond the tolerance of its precision a row is not ranked."
    " once: what its first step takes longer, compiling included (in advise from an empty cache, the"
    " compiler being imported; what two variants compile alike the first of them pays); pays after: the steps"
    " that save as much."
)
AT_ONCE = "at once"
OWN_LOSS = "loss = loop.training_step(batch)"
ORDER = ("faster", "undecided", "no difference", "slower", "other numbers", "cannot run")


@dataclass(frozen=True)
class Advice:
    """The gain of each variant over the plain step of a case, and of the best of them together.

    `plain_s` is the plain step in seconds; `together` is empty if there was nothing to join. `assumed` are
    the defaults for what the subject left out; `folders` are where the runs are; `left_out` names the changes
    for which there was no time.
    """

    base: Case
    plain_s: float
    found: Sequence[Gain]
    together: Sequence[Gain]
    assumed: Sequence[str]
    seconds: float
    folders: Sequence[Path]
    left_out: Sequence[str] = ()


def name_of(case: Case, base: Case) -> str:
    """Return the changes of a case from the base, in words."""
    parts = [] if case.variant == EAGER else [case.variant]
    parts += [case.precision] if case.precision != base.precision else []
    parts += [f"{case.threads} threads"] if case.threads != base.threads else []
    return " + ".join(parts)


def ranked(found: Sequence[Gain]) -> list[Gain]:
    """Sort gains for a reader: surely faster ones first, of equals the fastest."""
    return sorted(
        found,
        key=lambda gain: (ORDER.index(gain.judgement), -(gain.speed_up.value if gain.speed_up else 0.0)),
    )


def advice_tables(found: Mapping[Case, Sequence[Gain]]) -> list[Table]:
    """Return a table for each aim that has variants, from the gains by plain case."""
    names = shown_columns(found) if len(found) > 1 else ()
    columns = _columns({gain.case: base for base, gains in found.items() for gain in gains}, names)
    tables = []
    for about, (name, title) in TITLES.items():
        here = [
            gain for gains in found.values() for gain in ranked([one for one in gains if one.about == about])
        ]
        if here:
            tables.append(Table.of(name, title, CAPTION if about == "step" else "", columns, here))
    return tables


def _columns(base_of: Mapping[Case, Case], names: Iterable[str]) -> list[Column]:
    """Return the columns of gains, beginning with the parameters `names` of the plain case."""

    def of_base(name: str) -> Callable[[Gain], str]:
        return lambda gain: str(getattr(base_of[gain.case], name))

    return [
        *(replace(identity_column(name), name="", value=of_base(name)) for name in names),
        Column("change", "", lambda gain: name_of(gain.case, base_of[gain.case]), words=True),
        Column("µs", "", attrgetter("time_s"), micro),
        Column("speed-up", "", attrgetter("speed_up"), from_to),
        Column("verdict", "", attrgetter("judgement"), words=True),
        Column("error", "", attrgetter("error"), magnitude),
        Column("memory kB", "", attrgetter("extra_bytes"), _kilobytes),
        Column("once s", "", attrgetter("once_s"), lambda seconds: decimals(seconds, 1)),
        Column("pays after", "", _steps, words=True),
        Column("code, or why not", "", lambda gain: gain.reason or "; ".join(code_for(gain)), words=True),
        *(Column("", name, attrgetter(f"case.{name}")) for name in CASE_COLUMNS),
        *only_in_files(["about", "judgement", "reason"]),
        Column("", ("speed_up", "low", "high"), attrgetter("speed_up")),
        *only_in_files(["time_s", "error", "extra_bytes", "once_s", "pays_after", "optimizer_code"]),
    ]


def _kilobytes(extra_bytes: int | None) -> str:
    return NOT_AVAILABLE if extra_bytes is None else signed(extra_bytes / 1000, 0)


def _steps(gain: Gain) -> str:
    if gain.pays_after is None or gain.judgement == "undecided":
        return NOT_AVAILABLE
    if gain.judgement != "faster" or isinf(gain.pays_after):
        return "never"
    return AT_ONCE if gain.pays_after < 1 else several(ceil(gain.pays_after), "step")


def best_of(found: Sequence[Gain], together: Sequence[Gain] = ()) -> Gain | None:
    """Return the change to recommend first: a single one, unless a combination is surely faster."""
    worth = [gain for gain in ranked(found) if gain.worth_it]
    alone = next((gain for gain in worth if gain.about == "step"), None)
    joined = max((gain for gain in together if gain.worth_it), key=attrgetter("least_speed_up"), default=None)
    if joined and (not alone or not alone.speed_up or joined.least_speed_up > alone.speed_up.value):
        return joined
    return alone or next(iter(worth), None)


def advice_sentences(base: Case, found: Sequence[Gain], together: Sequence[Gain] = ()) -> list[str]:
    """Return the recommendations as sentences with figures."""
    worth = {gain.about: gain for gain in reversed(ranked(found)) if gain.worth_it}
    joined = best_of([], together)
    lines = []
    if not worth and not joined:
        lines.append("Nothing here is worth it: no change makes the plain step surely faster by 1 % or more.")
    alone = worth.get("step")
    if alone:
        lines.append(_recommended("Best by itself", alone, base))
    if not joined:
        lines += [
            f"Together ({name_of(gain.case, base)}) they are not surely faster:"
            f" {gain.reason or gain.judgement}"
            for gain in together
        ]
    elif alone and best_of(found, together) is alone:
        lines.append(
            f"Together, measured and not multiplied: {_said(joined, base)}, which is not surely more than"
            f" {name_of(alone.case, base)} by itself"
        )
    else:
        lines.append(_recommended("Best together, measured and not multiplied", joined, base))
    others = [about for about in TITLES if about in worth and about != "step"]
    lines += [_recommended(f"Of {about}", worth[about], base) for about in others]
    hoped = [_said(gain, base) for gain in ranked(found) if gain.may_be_worth_it]
    if hoped:
        lines.append(
            f"Undecided by itself, and may be worth it: {'; '.join(hoped)}. A larger --step-budget and more"
            " --step-launches, or a quieter machine, decide more."
        )
    return lines


def _recommended(what: str, gain: Gain, base: Case) -> str:
    steps = _steps(gain)
    pays = f", which pays {steps if steps == AT_ONCE else f'after {steps}'}"
    once = pays if (gain.once_s or 0.0) > 0.05 else ""  # noqa: PLR2004 - s
    return "\n    ".join([f"{what}: {_said(gain, base)}{once}. Write:", *code_for(gain)])


def code_for(gain: Gain) -> list[str]:
    """Return the lines of code that make the change."""
    lines = code_of(gain.case.variant, gain.case.precision, gain.case.threads, gain.optimizer_code)
    return [line.replace(PLAIN_LOSS, OWN_LOSS) for line in lines] if gain.own_step else lines


def _said(gain: Gain, base: Case) -> str:
    return f"{name_of(gain.case, base)}, {from_to(gain.speed_up, ' times as fast')}"


def advice_text(advice: Advice) -> str:
    """Return the text that `advise` prints."""
    base, assumed, found = advice.base, "; ".join(advice.assumed), advice.found
    head = f"# Advice for {base.key}: the plain step takes {micro(advice.plain_s)} µs"
    taken = [f"Of this subject: {assumed}.\n"] if assumed else []
    tables = [table.markdown() for table in advice_tables({base: found})]
    lines = [f"- {line}" for line in advice_sentences(base, found, advice.together)]
    if advice.left_out:
        lines.append(f"- Left out, for lack of time: {', '.join(advice.left_out)} (--budget=10m tries more).")
    ending = f"\n{decimals(advice.seconds, 0)} s; the runs: {', '.join(map(str, advice.folders))}"
    return "\n".join([head, "", *taken, *tables, *lines, ending])
