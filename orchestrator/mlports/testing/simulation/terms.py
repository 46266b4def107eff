"""Exit reasons and the like as Erlang writes them: text is an atom, a tuple a tuple."""

from __future__ import annotations

import re

_PLAIN_ATOM = re.compile(r"[a-z][a-zA-Z0-9_@]*")
_RESERVED = frozenset(
    {"after", "and", "andalso", "band", "begin", "bnot", "bor", "bsl", "bsr", "bxor", "case", "catch", "cond", "div"}
    | {"end", "fun", "if", "let", "not", "of", "or", "orelse", "receive", "rem", "try", "when", "xor"}
)
_ESCAPES = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def as_erlang(term: object) -> str:
    """The term on one line."""
    if isinstance(term, bool):
        return "true" if term else "false"
    if isinstance(term, int):
        return str(term)
    if isinstance(term, str):
        if _PLAIN_ATOM.fullmatch(term) and term not in _RESERVED:
            return term
        return "'" + "".join(_ESCAPES.get(letter, letter) for letter in term) + "'"
    if isinstance(term, tuple):
        return "{" + ",".join(map(as_erlang, term)) + "}"
    if isinstance(term, list):
        return "[" + ",".join(map(as_erlang, term)) + "]"
    raise TypeError(f"{term!r} is no term that a trace could hold")
