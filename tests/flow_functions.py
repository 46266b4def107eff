"""Functions that flows run in workers, which import them from here by name."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any


def process_of(x: int) -> list[Any]:
    return [x, os.getpid()]


def is_odd(x: int) -> bool:
    return x % 2 == 1


def up_to(x: int) -> Iterator[int]:
    return iter(range(x))


def deadly(x: int) -> int:
    if x == 7:
        os._exit(3)
    return x
