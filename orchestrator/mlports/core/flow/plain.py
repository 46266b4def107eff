"""Values as plain JSON, and back: what a checkpoint holds of a stage's state.

Tuples, sets, bytes and dicts with keys other than text are kept as what they are, marked by a map whose only key begins
with "$". Nothing is pickled: a journal from a stranger can hold wrong values, but can run nothing.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

_AS_THEY_ARE = (bool, int, float, str)


class NotPlain(TypeError):
    """A value that cannot be kept: says what and where."""


def to_plain(value: Any, where: str = "value") -> Any:
    """A value that `json.dumps` takes and `from_plain` turns back into an equal one of the same type.

    Raises `NotPlain` for what is neither None, bool, int, float, str, bytes, list, tuple, set, frozenset, dict,
    datetime, date, timedelta nor Decimal, or holds anything else.
    """
    kind = type(value)
    if value is None or kind in _AS_THEY_ARE:
        return value
    if kind is list:
        return [to_plain(each, where) for each in value]
    if kind is dict:
        if all(type(key) is str and not key.startswith("$") for key in value):
            return {key: to_plain(each, f"{where}[{key!r}]") for key, each in value.items()}
        return {"$dict": [[to_plain(key, where), to_plain(each, where)] for key, each in value.items()]}
    if kind in (tuple, set, frozenset):
        return {f"${kind.__name__}": [to_plain(each, where) for each in value]}
    if kind is bytes:
        return {"$bytes": base64.b64encode(value).decode()}
    if kind in (datetime, date):
        return {f"${kind.__name__}": value.isoformat()}
    if kind is timedelta:
        return {"$timedelta": [value.days, value.seconds, value.microseconds]}
    if kind is Decimal:
        return {"$Decimal": str(value)}
    raise NotPlain(
        f"{where} is a {kind.__module__}.{kind.__qualname__}, which a checkpoint cannot keep. "
        "Make it of plain values: None, bool, int, float, str, bytes, list, tuple, set, dict, datetime, Decimal"
    )


_MADE: dict[str, Callable[[Any], Any]] = {
    "$dict": lambda pairs: {from_plain(key): from_plain(each) for key, each in pairs},
    "$tuple": lambda items: tuple(map(from_plain, items)),
    "$set": lambda items: set(map(from_plain, items)),
    "$frozenset": lambda items: frozenset(map(from_plain, items)),
    "$bytes": base64.b64decode,
    "$datetime": datetime.fromisoformat,
    "$date": date.fromisoformat,
    "$timedelta": lambda parts: timedelta(*parts),
    "$Decimal": Decimal,
}


def from_plain(plain: Any) -> Any:
    """What `to_plain` was given. Raises `ValueError` for a mark that is none of ours."""
    if isinstance(plain, list):
        return [from_plain(each) for each in plain]
    if not isinstance(plain, dict):
        return plain
    if len(plain) == 1:
        ((mark, content),) = plain.items()
        if mark.startswith("$"):
            if mark not in _MADE:
                raise ValueError(f"no value is marked {mark!r}")
            return _MADE[mark](content)
    return {key: from_plain(each) for key, each in plain.items()}
