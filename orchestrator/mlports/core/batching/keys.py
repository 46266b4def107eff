"""Which calls may share a batch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Final, Literal

from mlports.core.routing.keys import ABSENT

_NUMBER, _TEXT, _BYTES, _NONE, _MAP = "number", "text", "bytes", "none", "map"
_FAMILIES: Final[dict[type, str]] = {
    **dict.fromkeys((int, float, bool, complex), _NUMBER),
    **dict.fromkeys((bytes, bytearray, memoryview), _BYTES),
    **{str: _TEXT, type(None): _NONE, dict: _MAP},
}
_DEEPEST = 8  # lists in lists
_NUMERIC = frozenset("biufc")  # kinds of dtypes; a single one of those is a number like any other
_NAN = "NaN", "NaN"


def batch_key(params: Sequence[Any], place: int | Literal["shape"] | None) -> Hashable:
    """Calls whose batch keys differ never share a batch.

    `place` is that of the argument whose value is the key, counted from 0; a call that has no such argument shares with
    others that have none. None and "shape" mean the shape of all arguments: of arrays dtype and shape, of lists their
    length and the shape of their first item, of all else only whether it is a number, a text, bytes, None or a dict.
    Raises `TypeError` for a value that cannot be a key.
    """
    if place is None or place == "shape":
        families = _FAMILIES
        shapes: list[Hashable] = []
        for value in params:
            kind = type(value)
            if kind in families:
                shapes.append(families[kind])
            elif kind is list:
                # The commonest of all, a list of plain values, without a call.
                family = families.get(type(value[0])) if value else _NONE
                shapes.append((len(value), family) if family else _list_shape(value, 0))
            else:
                shapes.append(_shape(value, 0))
        return tuple(shapes)
    return _value(params[place], place) if 0 <= place < len(params) else ABSENT


def _shape(value: Any, depth: int) -> Hashable:
    family = _FAMILIES.get(type(value))
    if family is not None:
        return family
    try:
        shape, dtype = value.shape, value.dtype
    except AttributeError:
        return _list_shape(value, depth) if isinstance(value, list | tuple) else _other(value)
    if shape:
        return dtype, shape  # the dtype stands for its text, which would be made anew each time
    return _NUMBER if getattr(dtype, "kind", "") in _NUMERIC else _other(value)


def _list_shape(value: Sequence[Any], depth: int) -> Hashable:
    if not value:
        return 0, _NONE
    return len(value), _shape(value[0], depth + 1) if depth < _DEEPEST else None


def _other(value: Any) -> str:
    if isinstance(value, int | float):
        return _NUMBER
    if isinstance(value, str):
        return _TEXT
    if isinstance(value, bytes):
        return _BYTES
    return _MAP if isinstance(value, dict) else type(value).__name__


def _value(value: Any, place: int) -> Hashable:
    try:
        hash(value)
    except TypeError:
        raise TypeError(
            f"argument {place}, counted from 0, is the batch key (batch = {{ key = {place} }} in the service's "
            f"configuration), and its value of type {type(value).__name__} cannot be one: give a number, a text or a "
            'tuple there, or take key = "shape", by which calls with arguments of the same shape share a batch'
        ) from None
    if isinstance(value, float) and value != value:
        return _NAN  # NaN is never equal to itself: each would be a group of its own, for ever
    return value  # type: ignore[no-any-return]  # it has a hash
