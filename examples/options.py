"""Numbers that options take, as types for argparse: what makes no sense is refused with a sentence, and status 2."""

from __future__ import annotations

import math
from argparse import ArgumentTypeError
from collections.abc import Callable


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """Whole numbers from `least` on, and to `most` if there is one."""
    allowed = f"{least} or more" if most is None else f"from {least} to {most}"

    def number(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ArgumentTypeError(f"{text!r} is no whole number") from None
        if value < least or (most is not None and value > most):
            raise ArgumentTypeError(f"it is {allowed}, and not {value}")
        return value

    return number


def positive(text: str) -> float:
    """Numbers above 0 that are finite."""
    try:
        value = float(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is no number") from None
    if not 0 < value < math.inf:
        raise ArgumentTypeError(f"it is a number above 0, and not {text}")
    return value
