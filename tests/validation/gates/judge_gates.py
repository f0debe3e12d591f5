"""Say how often the gate was right, and what other tools' rules say of the same samples.

    python tests/validation/gates/judge_gates.py DIR|FILE [DIR|FILE...]
    python tests/validation/gates/judge_gates.py DIR --pack FILE.json.xz
    python tests/validation/gates/judge_gates.py --pooled FILE [FILE...]
    python tests/validation/gates/judge_gates.py --runs FILE [FILE...]

Series of different code have lines of their own, but where gate_code.py accepts it, and with --pooled.
With --runs a line of CSV for each gate is printed instead.
Reads what gates.py left in a folder, or what was packed of it, with every pair in nanoseconds.
"""

import json
import lzma
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np
import pandas as pd
from arms import DIFFERENCES, ONE, ONE_CASE
from gate_code import series_of
from gates import SAME
from rules import RULES, Samples
from scipy import stats

from nncore_bench.selftest.checks import bounds

sys.path.append(str(Path(__file__).parents[1]))  # where slices.py, burner.py and loudness.py are

from loudness import Probe, loudness_table
from slices import SETTINGS_FILE, recorded_loudness

CONFIDENCE = 0.95
ALL_CODES = "several"
POOLED = "--pooled"
RUNS = "--runs"


class JudgeError(RuntimeError):
    """Say in one sentence why a folder cannot be judged."""


@dataclass(frozen=True)
class Gates:
    """Hold the gates of one series: which scenario and load, and the record of each run."""

    scenario: str
    load: str
    records: Sequence[dict[str, Any]]
    code: str = "unknown"
    seed: int | None = None
    """Of the load; None of several series, and where it was not recorded."""
    loudness: Sequence[Probe] = ()
    """What was probed before each slice; empty where it was not recorded."""

    @property
    def target(self) -> str | None:
        """Return the column that must be found slower."""
        slower = DIFFERENCES[self.scenario].slower if self.scenario != SAME else None
        if slower != ONE:
            return slower
        ending = f"b{ONE_CASE[0]}-h{ONE_CASE[1]}"
        return next(name for name in verdicts(self.records[0], "case") if name.endswith(ending))


def packed(gates: Gates) -> bytes:
    """Return a series for a file: whole nanoseconds, and log-ratios to a hundredth of a per mille."""

    def slim(pair: dict[str, Any]) -> dict[str, Any]:
        ratios = {kind: {phase: round(y, 5) for phase, y in pair[kind].items()} for kind in ("low", "mean")}
        times = {kind: np.rint(pair[kind]).astype(int).tolist() for kind in ("low_ns", "mean_ns")}
        return {"stage": pair["stage"], **ratios, **times}

    records = [
        {**record, "measured": {case: list(map(slim, pairs)) for case, pairs in record["measured"].items()}}
        for record in gates.records
    ]
    text = json.dumps(msgspec.to_builtins(replace(gates, records=records)))  # nan as it is
    return lzma.compress(text.encode(), preset=9)


def read_gates(folder: Path) -> Gates:
    """Read a series, from its folder or packed."""
    if folder.is_file():
        return msgspec.convert(json.loads(lzma.decompress(folder.read_bytes())), Gates)
    try:
        settings = json.loads((folder / SETTINGS_FILE).read_bytes())
    except OSError as error:
        raise JudgeError(f"{str(folder)!r} is no series of gates ({error.strerror})") from None
    files = sorted(folder.glob("[0-9]*.json"))
    if not files:
        raise JudgeError(f"{str(folder)!r} has no finished gate")
    records = [json.loads(file.read_bytes()) for file in files]
    known = {name: settings[name] for name in ("scenario", "load", "code", "seed") if name in settings}
    return Gates(**known, records=records, loudness=recorded_loudness(folder))


def joined(series: Sequence[Gates], *, pooled: bool = False) -> list[Gates]:
    """Return a series for each scenario, load and code, or of all codes together."""
    groups: dict[tuple[str, str, str], list[Gates]] = {}
    for gates in series:
        code = ALL_CODES if pooled else series_of(gates.code)
        groups.setdefault((gates.scenario, gates.load, code), []).append(gates)
    return [
        Gates(
            *(scenario, load, [record for one in group for record in one.records], code),
            loudness=[probe for one in group for probe in one.loudness],
        )
        for (scenario, load, code), group in sorted(groups.items())
    ]


def verdicts(record: dict[str, Any], kind: str | None = None) -> dict[str, str]:
    """Return the verdict of each column by name, of one kind or of all."""
    return {one["name"]: one["verdict"] for one in record["decisions"] if kind in (None, one["kind"])}


def slower(record: dict[str, Any]) -> set[str]:
    """Return the columns that were called slower."""
    return {name for name, verdict in verdicts(record).items() if verdict == "slower"}


def gate_table(series: Sequence[Gates]) -> str:
    """Return a line for each series: how often it was right, false alarms, and what it left open."""
    return pd.DataFrame([_line(gates) for gates in series]).to_markdown(index=False, disable_numparse=True)


def _line(gates: Gates) -> dict[str, str]:
    records, runs = gates.records, len(gates.records)
    found = sum(finds(record, gates) for record in records)
    passed = sum(passes(record, gates) for record in records)
    is_open = sum("undecided" in verdicts(record).values() for record in records)
    seconds = [record["seconds"] for record in records]
    return {
        "scenario": gates.scenario,
        "load": gates.load,
        "found": "-" if gates.scenario == SAME else bounds(found, runs),
        "false alarms": bounds(sum(alarms(record, gates) for record in records), runs)
        if gates.scenario == SAME or DIFFERENCES[gates.scenario].slower == ONE
        else "-",
        "false passes": "-" if gates.scenario == SAME else bounds(passed, runs),
        "with something undecided": bounds(is_open, runs),
        "seconds, median (most)": f"{median(seconds):.0f} ({max(seconds):.0f})",
    }


def run_table(series: Sequence[Gates]) -> str:
    """Return a CSV line for each gate: its pairs by stage, its seconds, and what was slower or open."""
    rows = [
        {
            "scenario": gates.scenario,
            "load": gates.load,
            "code": gates.code,
            "number": number,
            "base": record["base"],
            "candidate": record["candidate"],
            "pairs": " ".join(str(pairs) for pairs in record["pairs"]),
            "seconds": round(record["seconds"]),
            "slower": " ".join(sorted(slower(record))),
            "undecided": " ".join(name for name, said in verdicts(record).items() if said == "undecided"),
        }
        for gates in series
        for number, record in enumerate(gates.records, 1)
    ]
    return pd.DataFrame(rows).to_csv(index=False)


def finds(record: dict[str, Any], gates: Gates) -> bool:
    """Say whether what is slower was called so; of a tail, which every case has, whether any case was."""
    cases = set(verdicts(record, "case"))
    return bool(slower(record) & (cases if gates.target is None else {gates.target}))


def alarms(record: dict[str, Any], gates: Gates) -> bool:
    """Say whether anything was called slower that is not; in which means over cases count as well."""
    return bool(slower(record) - {gates.target})


def passes(record: dict[str, Any], gates: Gates) -> bool:
    """Say whether what is slower was called the same or faster; of a tail, whether any case was."""
    found = verdicts(record) if gates.target else verdicts(record, "case")
    wanted = [found[gates.target]] if gates.target else list(found.values())
    return any(verdict in ("same", "faster") for verdict in wanted)


def bias_table(series: Sequence[Gates]) -> str:
    """Return for each case the mean log-ratio of all screening pairs of revisions that are the same.

    Two-sided, by Student's t; the pairs of the screening stage alone, since those of the confirming one were
    picked by what was seen.
    """
    records = [record for gates in series if gates.scenario == SAME for record in gates.records]
    cases = list(records[0]["measured"]) if records else []
    lines = []
    for case in cases:
        values = np.array(
            [
                pair["low"]["step"]
                for record in records
                for pair in record["measured"][case]
                if pair["stage"] == 1
            ]
        )
        test = stats.ttest_1samp(values, 0.0)
        interval = test.confidence_interval(CONFIDENCE)
        lines.append(
            {
                "case": case,
                "pairs": str(len(values)),
                "mean %": f"{100 * values.mean():+.3f}",
                "95 %": f"{100 * interval.low:+.3f} to {100 * interval.high:+.3f}",
                "deviation of a pair %": f"{100 * values.std(ddof=1):.2f}",
                "p of all cases": f"{min(1.0, len(cases) * float(test.pvalue)):.3f}",
            }
        )
    return pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)


def rules_table(series: Sequence[Gates]) -> str:
    """Return how often each rule calls anything slower, of all cases of a run; ours as well."""
    lines = []
    for gates in series:
        line = {"scenario": gates.scenario, "load": gates.load}
        reds = {name: sum(red_by(name, record) for record in gates.records) for name in RULES}
        ours = sum(bool(slower(record)) for record in gates.records)
        for name, count in {"this gate": ours, **reds}.items():
            line[name] = f"{count} of {len(gates.records)}"
        lines.append(line)
    return pd.DataFrame(lines).to_markdown(index=False, disable_numparse=True)


def red_by(name: str, record: dict[str, Any]) -> bool:
    """Say whether a rule calls any case of a gate slower, by all samples that the gate had of it."""
    return any(RULES[name](samples_of(pairs)) for pairs in record["measured"].values())


def samples_of(pairs: Sequence[dict[str, Any]]) -> Samples:
    """Return the samples of a case in both stages."""
    low, mean = (
        np.concatenate([np.array(pair[kind], float) for pair in pairs]) for kind in ("low_ns", "mean_ns")
    )
    return Samples((low[:, 0], low[:, 1]), (mean[:, 0], mean[:, 1]))


def judge(folders: Sequence[Path], *, pooled: bool = False) -> str:
    """Return all tables."""
    read = [read_gates(folder) for folder in folders]
    series = joined(read, pooled=pooled)
    parts = [
        gate_table(series),
        f"Measured and judged by: {' | '.join(dict.fromkeys(gates.code for gates in read))}",
        "Red by any case, other tools' rules on the same samples:",
        rules_table(series),
    ]
    if any(gates.scenario == SAME for gates in series):
        parts += ["Log-ratios of arms that are the same:", bias_table(series)]
    parts.append(
        loudness_table([({"scenario": one.scenario, "load": one.load}, one.loudness) for one in series])
    )
    return "\n\n".join(parts)


if __name__ == "__main__":
    try:
        if sys.argv[2:3] == ["--pack"]:
            Path(sys.argv[3]).write_bytes(packed(read_gates(Path(sys.argv[1]))))
        else:
            names = [Path(name) for name in sys.argv[1:] if name not in (POOLED, RUNS)]
            runs = RUNS in sys.argv
            said = (
                run_table([read_gates(name) for name in names])
                if runs
                else judge(names, pooled=POOLED in sys.argv)
            )
            print(said, end="" if runs else "\n")  # noqa: T201 - the edge
    except JudgeError as error:
        sys.exit(str(error))
