"""A batch by columns: one array for each argument instead of one for each call."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

_MOST = 16 * 1024  # bytes of one call's array; what is larger is better sent from where it lies


def columns_of(rows: Sequence[Sequence[Any]]) -> list[Any] | None:
    """The argument lists of a batch as one column for each argument; None where that gains nothing.

    A column of small arrays that agree in dtype and shape is one array with an axis more, in front; others are lists.
    """
    numpy = sys.modules.get("numpy")  # without it there are no arrays
    first = rows[0]
    if numpy is None or not any(type(value) is numpy.ndarray for value in first):
        return None
    if len(set(map(len, rows))) > 1:
        return None
    columns: list[Any] = []
    gains = False
    for values in zip(*rows, strict=True):
        if _is_stackable(numpy, values):
            columns.append(numpy.stack(values))
            gains = True
        else:
            columns.append(list(values))
    return columns if gains else None


def _is_stackable(numpy: Any, values: Sequence[Any]) -> bool:
    if set(map(type, values)) != {numpy.ndarray}:
        return False
    dtype, shape = values[0].dtype, values[0].shape
    if not shape or not 0 < values[0].nbytes <= _MOST or dtype.kind not in "biufc":
        return False
    return all(value.shape == shape and value.dtype == dtype for value in values)
