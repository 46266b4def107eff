"""Where two results differ first, arrays and NaNs included. numpy is never imported: without it there are no arrays.

The rules
- Numbers are equal by value, as 1 and 1.0; NaN equals NaN; a bool is no number.
- Where one of two numbers is a float they are equal within `tolerance`: if they differ by at most that, or by at
  most that share of the larger one. Whole numbers are equal or not.
- A tuple is as a list, the order of a dict's keys does not matter, and the dtypes of two arrays do not as long as
  their values are equal. An array is not a list.
- What is nested more than 500 deep counts as different.
"""

from __future__ import annotations

import math
import reprlib
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

_DEEPEST = 500
_LONGEST = 120  # characters of a value that are shown

_PLAIN = frozenset({str, int, float, bytes})

_Pairs = Iterator[tuple[object, Any, Any]]


class Difference(NamedTuple):
    """`place` leads from the whole to the part, as `[3]['scores']`; "" is the whole. `one` and `two` are short."""

    place: str
    one: str
    two: str


def difference(one: object, two: object, tolerance: float = 0.0) -> Difference | None:
    """The first difference in two results; None when they are equal.

    Raises `ValueError` for a tolerance that is negative, infinite or NaN.
    """
    if not 0 <= tolerance < math.inf:
        raise ValueError(f"tolerance must be a finite number of at least 0, not {tolerance}")
    levels: list[_Pairs] = [iter([(None, one, two)])]
    path: list[object] = [None]  # what each level is at
    while levels:
        pair = next(levels[-1], None)
        if pair is None:
            levels.pop()
            path.pop()
            continue
        path[-1], a, b = pair
        found = _at(a, b, tolerance)
        if found is None:
            continue
        if isinstance(found, Difference):
            return found._replace(place="".join(_step(step) for step in path[1:]) + found.place)
        if len(levels) > _DEEPEST:
            return Difference("".join(_step(step) for step in path[1:4]) + "…", *["nested too deep to compare"] * 2)
        levels.append(found)
        path.append(None)
    return None


def shown(value: object) -> str:
    """A value in short, for people."""
    if isinstance(value, bytes | bytearray) and len(value) > _LONGEST:
        return f"{len(value)} bytes"
    try:
        text = _short.repr(value)
    except Exception:  # its own repr, or an integer too long to be written out
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


_short = reprlib.Repr()
_short.maxstring = _short.maxother = _short.maxlong = _LONGEST


def _step(step: object) -> str:
    return f"[{shown(step)}]"


def _at(a: Any, b: Any, tolerance: float) -> Difference | _Pairs | None:
    """Whether two values are equal (None) or not, or the pairs of their parts on which that depends."""
    if a is b or (type(a) is type(b) and type(a) in _PLAIN and a == b):
        return None
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        a, b = (value.item() if isinstance(value, numpy.generic) else value for value in (a, b))
        if isinstance(a, numpy.ndarray) and isinstance(b, numpy.ndarray):
            return _arrays(numpy, a, b, tolerance)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        if len(a) != len(b):
            return Difference("", _items(a), _items(b))
        return ((index, *pair) for index, pair in enumerate(zip(a, b, strict=True)))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return _entries(a, b)
    return None if _equal(a, b, tolerance) else Difference("", shown(a), shown(b))


class _Nothing:
    def __repr__(self) -> str:
        return "nothing"


_NOTHING = _Nothing()


def _entries(a: Mapping[Any, Any], b: Mapping[Any, Any]) -> _Pairs:
    for key, value in a.items():
        yield key, value, b.get(key, _NOTHING)
    for key, value in b.items():
        if key not in a:
            yield key, _NOTHING, value


def _items(value: list[Any] | tuple[Any, ...]) -> str:
    return f"{len(value)} item{'s' if len(value) != 1 else ''}"


def _equal(a: Any, b: Any, tolerance: float) -> bool:
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    numbers = isinstance(a, int | float | complex) and isinstance(b, int | float | complex)
    if not numbers and type(a) is not type(b):
        return False
    try:
        if a == b or (a != a and b != b):
            return True
    except Exception:  # it is no plain value, and cannot say
        return False
    if not numbers or not tolerance or (isinstance(a, int) and isinstance(b, int)):
        return False
    if isinstance(a, complex) or isinstance(b, complex):
        a, b = complex(a), complex(b)
        return _equal(a.real, b.real, tolerance) and _equal(a.imag, b.imag, tolerance)
    try:
        return math.isclose(a, b, rel_tol=tolerance, abs_tol=tolerance)
    except OverflowError:  # an integer that no float comes near
        return False


def _arrays(numpy: Any, a: Any, b: Any, tolerance: float) -> Difference | _Pairs | None:
    """Two arrays; those of objects and of records by their elements."""
    kinds = {a.dtype.kind, b.dtype.kind}
    if a.shape != b.shape:
        return Difference("", f"shape {a.shape}", f"shape {b.shape}")
    if len(kinds) > 1 and not kinds <= set("iufc"):
        return Difference("", f"dtype {a.dtype}", f"dtype {b.dtype}")
    if kinds <= {"O", "V"}:
        return iter([(index, a[index], b[index]) for index in numpy.ndindex(a.shape)])
    with numpy.errstate(all="ignore"):
        same = (a == b) | ((a != a) & (b != b))
        if tolerance and kinds & set("fc") and not same.all():
            largest = numpy.maximum(numpy.maximum(abs(a), abs(b)), 1.0)
            same |= (abs(a - b) <= tolerance * largest) & numpy.isfinite(a) & numpy.isfinite(b)
    if same.all():
        return None
    index = tuple(int(part) for part in numpy.unravel_index(numpy.argmin(same), a.shape))
    return Difference(
        f"[{', '.join(map(str, index))}]" if index else "", shown(a[index].item()), shown(b[index].item())
    )
