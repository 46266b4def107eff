"""The keys by which calls are routed: which values can be one, and the number that each of them is everywhere.

The rules
- A key is a str, bytes, an int, a float, a bool, None, or a tuple or list of those, at most 32 deep.
- What some language cannot tell apart is one key: a text and its UTF-8 bytes, 1 and 1.0, 0.0 and -0.0, a tuple and
  a list of the same keys; and all NaNs are one. True is not 1, and "1" is not 1.
- A key's number depends on its value alone: not on the process, the machine or the version of Python.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import Enum
from typing import Any, Final
from zlib import crc32

_DEEPEST = 32
# Where each kind begins. Any numbers do.
_NUMBER, _FRACTION, _BOOL, _NONE, _LIST = 0x9E3779B9, 0x7F4A7C15, 0xF39CC060, 0x5CEDC834, 0x2545F491


class _Absent(Enum):
    ABSENT = "absent"


ABSENT: Final = _Absent.ABSENT
"""No key was given; None is one."""


def key_of(params: Sequence[Any], place: int | None, given: object = ABSENT) -> object:
    """A call's key: what its caller has `given`, else the argument at `place`, counted from 0.

    Raises `ValueError` when there is neither.
    """
    if given is not ABSENT:
        return given
    if place is None:
        raise ValueError(
            'it has no key, and its service routes by one (route = "hash"): give key=… with the call, '
            "or say which argument is the key, as key = 0 in the service's configuration"
        )
    if not 0 <= place < len(params):
        count = len(params)
        raise ValueError(
            f"it has no key: that is argument {place}, counted from 0 (key = {place} in the service's configuration), "
            f"and the call has {count} argument{'s' if count != 1 else ''}"
        )
    return params[place]


def key_number(key: object) -> int:
    """A key as a number from 0 to 2³²−1. Raises `TypeError` for what cannot be one, `ValueError` for one too deep."""
    if type(key) is str:
        try:
            return crc32(key.encode())
        except UnicodeEncodeError:  # it has half of a surrogate pair
            return crc32(key.encode("utf-8", "surrogatepass"))
    if type(key) is int:
        return _whole(key)
    return _number(key, 0)


def _number(key: object, depth: int) -> int:
    if isinstance(key, str):
        return crc32(key.encode("utf-8", "surrogatepass"))
    if isinstance(key, bytes):
        return crc32(key)
    if isinstance(key, bool):
        return crc32(b"\1" if key else b"\0", _BOOL)
    if isinstance(key, int):
        return _whole(key)
    if isinstance(key, float):
        if key.is_integer():
            return _whole(int(key))
        return crc32(b"NaN" if key != key else struct.pack(">d", key), _FRACTION)
    if key is None:
        return _NONE
    if isinstance(key, tuple | list):
        if depth == _DEEPEST:
            raise ValueError(f"a key may be a list in a list at most {_DEEPEST} deep, and this one is deeper")
        number = _LIST
        for item in key:
            number = crc32(_number(item, depth + 1).to_bytes(4, "big"), number)
        return number
    raise TypeError(
        "a key must be str, bytes, int, float, bool, None, or a tuple or list of those, and this one "
        f"{'has a part' if depth else 'is'} of type {type(key).__name__}: give what tells it from others instead"
    )


def _whole(key: int) -> int:
    return crc32(key.to_bytes(key.bit_length() // 8 + 1, "big", signed=True), _NUMBER)
