"""Which code a recorded series of gates was measured by, and whether other code may go on with it.

    python tests/validation/gates/gate_code.py             the code here, and the series it belongs to
    python tests/validation/gates/gate_code.py FRESH...    whether fresh gates let it join the recorded ones

A series goes on with other code in one of two cases; what was accepted stands in ACCEPTED with its reason.
In both, `rejudge_gates.py results/reference/gates/*.json.xz` must give all recorded verdicts again.

- What measures pairs has the same syntax tree. Imports, docstrings, comments, layout, names of modules that
  are used, and which file a definition stands in have no part in it.
- Or fresh gates agree: of 12 of equal code none calls anything slower, and 6 of 6 find +5 % in one case. They
  are counted over all series of the code that are given, since slices of them may lie in several files.
"""

import argparse
import ast
import hashlib
import subprocess
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[3]
PACKAGES = ("bench/nncore_bench", "nncore")
MODULES = (
    *("gate/pairs", "gate/ratios", "gate/cores", "gate/templates", "selftest/injected"),
    *("worker/processes", "worker/server", "worker/blocks", "worker/clock", "worker/waiting"),
    *("subjects/subject", "subjects/apply_variant"),
    *("nncore/model", "nncore/step", "nncore/data"),
)
"""The modules of what measures pairs, in whatever folder: the end of a path that no other module has."""

DEFINITIONS = ("Gate._stage", "Gate._pair", "Sides.pair", "cores")
"""What else measures pairs: definitions in whatever module, under a name that no other has."""

OWN_PACKAGES = ("bench", "nncore_bench", "nncore")
FRESH_SAME, FRESH_SLOWER = 12, 6
SERIES = "gate of one rule"

ACCEPTED: Mapping[str, str] = {
    "2ed208fead": "bytes of 18 files; its gates stand under the present rule (rejudge_gates.py)",
    "0fe8cad95b": "bytes of 18 files; its gates stand under the present rule (rejudge_gates.py)",
    "eff86e3f90": "bytes of 18 files; its gates stand under the present rule (rejudge_gates.py)",
    "7fe43be07a": "bytes of 18 files; the present rule, 150 gates of it",
    "2410520d2e": "the syntax trees at 57c44c7, whose bytes are 7fe43be07a",
}
"""Digests of the code that one series was measured by, each with the reason why it may go on with it."""


def code_here(python: str, root: Path = ROOT) -> str:
    """Return a digest of what measures pairs in a checkout, and the version of a Python's torch."""
    ask = [python, "-c", "import importlib.metadata as m; print(m.version('torch'))"]
    torch = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    return f"gate {digest_of(root)}, torch {torch}"


def series_of(code: str) -> str:
    """Return the name under which gates of a code are counted together: accepted digests share one."""
    digest, _, torch = code.removeprefix("gate ").partition(", ")
    return f"{SERIES}, {torch}" if digest in ACCEPTED else code


def digest_of(root: Path) -> str:
    """Return the digest of the syntax trees of MODULES and DEFINITIONS in a checkout.

    They are taken as a set, so that moving one from file to file changes nothing. Raises LookupError where
    one of them is missing or has a namesake: the digest would be of something else.
    """
    files = [path for package in PACKAGES for path in sorted((root / package).rglob("*.py"))]
    sources = {path.relative_to(root).as_posix(): path.read_text() for path in files}
    found = [one for name in MODULES for one in statements_of(_only(name, _modules(name, sources)))]
    found += [_only(name, _of_name(name, sources.values())) for name in DEFINITIONS]
    return hashlib.sha256("\n".join(sorted(found)).encode()).hexdigest()[:10]


def _only(name: str, found: Sequence[str]) -> str:
    if len(found) != 1:
        raise LookupError(
            f"{name} is there {len(found)} times (edit MODULES and DEFINITIONS in gate_code.py)"
        )
    return found[0]


def _modules(name: str, sources: Mapping[str, str]) -> list[str]:
    return [source for path, source in sources.items() if f"/{path}".endswith(f"/{name}.py")]


def _of_name(name: str, sources: Iterable[str]) -> list[str]:
    """Return the normal form of each definition of a name; a method's is `Class.method`."""
    trees = [ast.parse(source) for source in sources if f"def {name.rpartition('.')[2]}(" in source]
    return [
        ast.dump(_Normal(_own_modules(tree)).visit(definition))
        for tree in trees
        for qualified, definition in _definitions(tree)
        if qualified == name
    ]


def statements_of(source: str) -> list[str]:
    """Return the normal form of each statement of a module."""
    tree = ast.parse(source)
    normal = _Normal(_own_modules(tree))
    return [ast.dump(normal.visit(one)) for one in tree.body if not _says_nothing(one)]


def _definitions(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    for one in ast.iter_child_nodes(tree):
        if isinstance(one, ast.FunctionDef | ast.ClassDef):
            yield f"{prefix}{one.name}", one
            yield from _definitions(one, f"{prefix}{one.name}.")


def _own_modules(tree: ast.Module) -> set[str]:
    """Return the names under which a module knows other modules of this project."""
    imports = [one for one in ast.walk(tree) if isinstance(one, ast.ImportFrom)]
    names = [
        n.asname or n.name
        for one in imports
        if (one.module or "").split(".")[0] in OWN_PACKAGES
        for n in one.names
    ]
    return {name for name in names if name.islower()}


def _says_nothing(statement: ast.stmt) -> bool:
    """Tell whether a statement is an import, or a string that nothing reads."""
    is_string = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Import | ast.ImportFrom) or is_string


class _Normal(ast.NodeTransformer):
    """Take out what has no part in what a program does: imports, docstrings, and names of modules."""

    def __init__(self, modules: Collection[str]) -> None:
        self._modules = modules

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [one for one in body if not _says_nothing(one)] or [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id in self._modules:
            return ast.Name(node.attr, node.ctx)
        return self.generic_visit(node)


def agreement(same: Sequence[str], slower: Sequence[str]) -> str:
    """Return why fresh gates do not let code join a series, or nothing where they do.

    Each gate is `right`, or a word for what it was instead: of equal code right is that nothing is slower, of
    +5 % in one case that it is found.
    """
    for name, found, least in (("equal code", same, FRESH_SAME), ("+5 %", slower, FRESH_SLOWER)):
        if len(found) < least:
            return f"{len(found)} gates of {name} are too few ({least} are asked)"
        if wrong := [one for one in found if one != "right"]:
            return f"{len(wrong)} of {len(found)} gates of {name} disagree: {', '.join(wrong)}"
    return ""


def outcomes_of(fresh: Sequence[Path], here: str) -> tuple[list[str], list[str]]:
    """Return how each gate of equal code came out, and each with +5 % in one case; raises ValueError."""
    # judge_gates reads series with gates.py, which takes the digest from here.
    from judge_gates import alarms, finds, read_gates  # noqa: PLC0415

    outcomes: dict[str, list[str]] = {"same": [], "case-5": []}
    for path in fresh:
        gates = read_gates(path)
        if gates.code != here:
            raise ValueError(f"{str(path)!r} was measured by {gates.code}, and here is {here}")
        if gates.scenario not in outcomes:
            raise ValueError(f"{str(path)!r} has gates of {gates.scenario} (give same and case-5)")
        for record in gates.records:
            if alarms(record, gates):
                outcomes[gates.scenario].append("false alarm")
            else:
                right = gates.scenario == "same" or finds(record, gates)
                outcomes[gates.scenario].append("right" if right else "missed")
    return outcomes["same"], outcomes["case-5"]


def main() -> None:
    """Print which code is here, or whether fresh gates let it join."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fresh", nargs="*", type=Path, help="series of fresh gates, in folders or packed")
    given = parser.parse_args()
    here = code_here(sys.executable)
    if not given.fresh:
        print(f"{here}: {series_of(here)}")  # noqa: T201 - the edge
        return
    try:
        reason = agreement(*outcomes_of(given.fresh, here))
    except (ValueError, RuntimeError) as error:  # one of them is judge_gates' own
        parser.error(str(error))
    print(f"{here}: {reason or 'agrees (add its digest to ACCEPTED)'}")  # noqa: T201 - the edge
    sys.exit(1 if reason else 0)


if __name__ == "__main__":
    main()
