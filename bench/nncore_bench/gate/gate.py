"""The regression gate from its options: lay out the revisions and judge the cases."""

import os
import random
import sys
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from nncore_bench.campaign.conductor import Progress
from nncore_bench.campaign.session import NO_CUDA, Suite
from nncore_bench.cases import SIMPLENN, STEP_PHASES, Case
from nncore_bench.errors import UserError
from nncore_bench.gate.outcome import Outcome
from nncore_bench.gate.pairs import BASE, CANDIDATE
from nncore_bench.gate.revisions import WORKING_TREE, Layout, Repository, Revision
from nncore_bench.gate.rule import Rule
from nncore_bench.gate.sides import Sides
from nncore_bench.gate.stages import Gate, GateError
from nncore_bench.gate.templates import HASH_SEEDS, Templates
from nncore_bench.machine.gpu import EXCLUSIVE, chosen_gpu, gpu_facts
from nncore_bench.options import Options
from nncore_bench.selection import selection

PACKAGE = "nncore"
BUDGET_S = 600.0
"""The default budget for each device: on CUDA every launch imports torch."""


@dataclass(frozen=True)
class GateOptions:
    """The arguments of `gate`; the default base is the merge base with main.

    `again` are the typed words without the choice of cases and the files to write.
    """

    base: str | None
    candidate: str | None
    margin: float
    alpha: float
    budget_s: float | None
    cases: str | None
    base_python: str | None
    candidate_python: str | None
    again: tuple[str, ...]
    options: Options


def gate(asked: GateOptions, progress: Progress) -> Outcome:
    """Run the gate on two revisions; raises UserError."""
    rule = _rule(asked)
    repository = Repository(Path.cwd())
    candidate = repository.revision(asked.candidate or WORKING_TREE)
    base = _base(asked, repository, candidate)
    pythons = (asked.base_python or sys.executable, asked.candidate_python or sys.executable)
    cases = chosen_cases(asked)
    names = (base.short, candidate.short)
    with closing(Layout(repository.lay_out, base, candidate)) as layout:
        if asked.options.subject == SIMPLENN:
            _check_packages(layout, names)
        budget_s = asked.budget_s or BUDGET_S * len({case.device for case in cases})
        environment = chosen_gpu(asked.options.gpu_number, os.environ)
        outcome = judged(names, cases, layout, rule, budget_s, progress, pythons, environment)
        return replace(outcome, again=asked.again)


def judged(  # noqa: PLR0913, PLR0917 - a gate is made of these
    names: tuple[str, str],
    cases: Sequence[Case],
    layout: Layout,
    rule: Rule,
    budget_s: float,
    progress: Progress,
    pythons: tuple[str, str] = (sys.executable, sys.executable),
    environment: Mapping[str, str] | None = None,
) -> Outcome:
    """Run a gate with fresh coins; `environment` is set for its workers."""
    coins = random.Random(random.SystemRandom().randrange(HASH_SEEDS))  # noqa: S311 - coins, and no secret
    with closing(Templates(pythons, coins, more=environment)) as templates:
        if len(set(pythons)) > 1:
            base, candidate = (
                f"{names[side]} with torch {templates.torch(side)} of {pythons[side]}"
                for side in (BASE, CANDIDATE)
            )
            names = (base, candidate)
        sides = Sides(cases, layout, templates, progress, coins)
        return Gate(names, cases, rule, budget_s, progress, coins, sides).run()


def _base(asked: GateOptions, repository: Repository, candidate: Revision) -> Revision:
    """Return the base, by default that of the branch, or the same code where two Pythons are compared."""
    if asked.base is not None:
        return repository.revision(asked.base)
    if asked.base_python or asked.candidate_python:
        return candidate
    base = repository.merge_base()
    if base.commit == candidate.commit:
        raise GateError(
            f"{candidate.short} is the {base.name} itself (name what to compare with: --base REV)"
        )
    return base


def _check_packages(layout: Layout, names: tuple[str, str]) -> None:
    """Raise GateError if a revision has no code of its own: the instrument's would be measured."""
    for name, path in zip(names, layout.paths(swapped=False), strict=True):
        if not (path / PACKAGE).is_dir():
            raise GateError(
                f"{name} has no package {PACKAGE}, which is what is measured (name a REV that has)"
            )


def _rule(asked: GateOptions) -> Rule:
    try:
        return Rule(margin=asked.margin, alpha=asked.alpha, suite_margin=min(Rule.suite_margin, asked.margin))
    except ValueError as error:
        raise UserError(f"--{error}") from None


def chosen_cases(asked: GateOptions) -> list[Case]:
    """Return the chosen cases of the grid; raises UserError if there is none or one cannot run here."""
    with closing(Suite(asked.options)) as suite:
        cases = _matching(suite.cases, asked.cases)
        cannot = next(filter(None, map(suite.skip_reason, cases)), "")
    if cannot == NO_CUDA:
        raise UserError(f"--step-devices: {cannot} (use --step-devices=cpu)")
    if cannot:
        raise UserError(f"--step-variants, --step-precisions: {cannot} (leave it out)")
    shown = {**os.environ, **chosen_gpu(asked.options.gpu_number, os.environ)}
    if {case.device for case in cases} - {"cpu"} and gpu_facts(shown).get("gpu_compute_mode") in EXCLUSIVE:
        raise UserError(
            "--step-devices: the GPU lets one process in at a time (its compute mode), and a gate has two"
            " take turns (set it to default with nvidia-smi -c DEFAULT, or use --step-devices=cpu)"
        )
    whole = [case.variant for case in cases if not set(STEP_PHASES) <= set(case.phases())]
    if whole:
        raise UserError(f"--step-variants: {whole[0]} has no phases of a step to compare (leave it out)")
    return cases


def _matching(cases: list[Case], expression: str | None) -> list[Case]:
    if expression is None:
        return cases
    matches = selection("--cases", expression)
    chosen = [case for case in cases if matches(case.key)]
    if not chosen:
        raise UserError(f"--cases: {expression!r} matches no case of the grid (nncore-bench gate --help)")
    return chosen
