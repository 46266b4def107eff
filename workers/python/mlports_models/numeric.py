"""Numbers that callers send, as arrays of finite floats."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlports_worker import Failure

Array = np.ndarray[Any, Any]


def numbers(value: Any, what: str) -> Array:
    """A number, nested lists or an array as finite float64s, of whatever shape. Raises `Failure` for anything else."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise Failure("invalid_argument", f"{what} is ragged: its rows differ in length") from error
    if array.dtype.kind not in "biuf":
        raise Failure("invalid_argument", f"{what} is a number, or rows of numbers, not {value!r:.80}")
    array = array.astype(float, copy=False)
    if not array.size:
        raise Failure("invalid_argument", f"{what} is empty")
    if not np.isfinite(array).all():
        raise Failure("invalid_argument", f"{what} holds NaN or infinity: leave such rows out, or fill them in")
    return array


def sendable(array: Array) -> Any:
    """An array as it is, one without axes as a float."""
    return array if array.ndim else float(array)
