"""Whether two values are the same on the wire, where 1 is not 1.0, "a" not b"a" and NaN is NaN."""

from __future__ import annotations

import math
from typing import Any

import msgpack

from mlports_protocol.errors import shown

NDARRAY = 1
_KINDS = {
    type(None): "nil",
    bool: "boolean",
    int: "integer",
    float: "float",
    str: "str",
    bytes: "bin",
    list: "array",
    dict: "map",
    msgpack.Timestamp: "timestamp",
    msgpack.ExtType: "extension",
}


def same(one: Any, other: Any) -> bool:
    """Whether both are of one type and equal. Maps may differ in order, arrays (extension 1) in the form of their head.

    Two NaNs are the same, 0.0 and -0.0 are not.
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (one == other and _sign(one) == _sign(other))
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        # True and 1 are one key to Python.
        theirs = {(type(key), key): value for key, value in other.items()}
        return len(one) == len(other) and all(
            (type(key), key) in theirs and same(value, theirs[type(key), key]) for key, value in one.items()
        )
    if isinstance(one, msgpack.ExtType) and one.code == other.code == NDARRAY:
        return one.data == other.data or _array(one.data) == _array(other.data)
    return bool(one == other)


def described(value: Any) -> str:
    """A value and its type, short."""
    return f"{shown(value)} ({_KINDS.get(type(value), type(value).__name__)})"


def difference(sent: Any, came: Any) -> tuple[str, str]:
    """The first place in which two values differ, as (expected, came)."""
    if isinstance(sent, list) and isinstance(came, list) and len(sent) == len(came):
        for index, (one, other) in enumerate(zip(sent, came, strict=True)):
            if not same(one, other):
                expected, got = difference(one, other)
                return f"{expected} at [{index}]", got
    if isinstance(sent, str | bytes) and type(sent) is type(came) and len(sent) != len(came):
        return f"{described(sent)}, {len(sent)} long", f"{described(came)}, {len(came)} long"
    return described(sent), described(came)


def _sign(value: float) -> float:
    return math.copysign(1, value)


def _array(data: bytes) -> tuple[Any, bytes] | None:
    unpacker = msgpack.Unpacker(max_buffer_size=max(len(data), 1))
    unpacker.feed(data)
    try:
        return unpacker.unpack(), data[unpacker.tell() :]
    except Exception:
        return None
