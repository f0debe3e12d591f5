"""Select cases by an expression in the syntax of pytest's `-k`."""

import ast
import re
from collections.abc import Callable
from typing import TypeAlias

from nncore_bench.errors import UserError

Matches: TypeAlias = Callable[[str], bool]
_TOKEN = re.compile(r"[()]|[^\s()]+")
_OURS = ("(", ")", "and", "or", "not")


def selection(flag: str, text: str) -> Matches:
    """Compile an expression to a predicate on names; raises UserError.

    As with `-k`, a word matches names that contain it, ignoring case; `and`, `or`, `not` and parentheses
    combine.
    """
    tokens = _TOKEN.findall(text)
    # Python's own grammar combines words as `-k` does, once a number stands for each of them.
    numbered = (token if token in _OURS else str(index) for index, token in enumerate(tokens))
    try:
        return _matches(ast.parse(" ".join(numbered), mode="eval").body, [token.lower() for token in tokens])
    except (SyntaxError, TypeError):
        raise UserError(f"{flag}: {text!r} is not an expression (example: 'b32 and not h512')") from None


def _matches(node: ast.expr, words: list[str]) -> Matches:
    """Return the predicate of a part of the expression; raises TypeError for what only Python knows."""
    match node:
        case ast.BoolOp(op=operator, values=values):
            parts = [_matches(value, words) for value in values]
            combine = all if isinstance(operator, ast.And) else any
            return lambda name: combine(part(name) for part in parts)
        case ast.UnaryOp(operand=operand):
            inner = _matches(operand, words)
            return lambda name: not inner(name)
        case ast.Constant(value=int(index)):
            return lambda name: words[index] in name.lower()
    raise TypeError(node)
