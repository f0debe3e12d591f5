"""Select cases by an expression in the syntax of pytest's `-k`."""

import re
from collections.abc import Callable
from typing import TypeAlias

from nncore_bench.errors import UserError

Matches: TypeAlias = Callable[[str], bool]
_TOKEN = re.compile(r"\s*(\(|\)|[^\s()]+)")
_WORDS = ("and", "or", "not")


def selection(flag: str, text: str) -> Matches:
    """Compile an expression to a predicate on names; raises UserError.

    As with `-k`, a word matches names that contain it, ignoring case; `and`, `or`, `not` and parentheses
    combine.
    """
    return _Reader(flag, text).whole()


class _Reader:
    """A recursive-descent parser: or, and, not, parentheses."""

    def __init__(self, flag: str, text: str) -> None:
        self._error = UserError(f"{flag}: {text!r} is not an expression (example: 'b32 and not h512')")
        self._tokens = _TOKEN.findall(text)
        self._index = 0

    def whole(self) -> Matches:
        found = self._either()
        if self._index < len(self._tokens):
            raise self._error
        return found

    def _next_is(self, *words: str) -> bool:
        if self._index < len(self._tokens) and self._tokens[self._index] in words:
            self._index += 1
            return True
        return False

    def _either(self) -> Matches:
        options = [self._both()]
        while self._next_is("or"):
            options.append(self._both())
        return lambda name: any(matches(name) for matches in options)

    def _both(self) -> Matches:
        needed = [self._one()]
        while self._next_is("and"):
            needed.append(self._one())
        return lambda name: all(matches(name) for matches in needed)

    def _one(self) -> Matches:
        if self._next_is("not"):
            inner = self._one()
            return lambda name: not inner(name)
        if self._next_is("("):
            inner = self._either()
            if not self._next_is(")"):
                raise self._error
            return inner
        if self._index >= len(self._tokens) or self._tokens[self._index] in (*_WORDS, ")"):
            raise self._error
        word = self._tokens[self._index].lower()
        self._index += 1
        return lambda name: word in name.lower()
