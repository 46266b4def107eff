"""Rows as the network takes them: numbers in one array, symbols in another."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from mlports_worker import Failure

from .factors import NOTHING
from .layers import Array


class Rows(NamedTuple):
    """What a caller sent: the numbers in n rows (n × inputs, 0 where there is none), and the rows if any has others."""

    x: Array
    entries: list[list[Any]] | None
    single: bool  # it was one row, not a table of them


class Batch(NamedTuple):
    """n rows for the network: their numbers, and the slots of their symbols (n × inputs), if any may have one."""

    x: Array
    slots: Array | None

    def part(self, which: Any) -> Batch:
        """Some of the rows."""
        return Batch(self.x[which], None if self.slots is None else self.slots[which])


def rows_of(value: Any, inputs: int, dtype: Any) -> Rows:
    """A row or a table, of numbers, texts (symbols) and None (not known).

    Raises `Failure` for anything else, and for rows of another length than `inputs`.
    """
    array = value if isinstance(value, np.ndarray) else _as_numbers(value)
    if array is not None and array.dtype.kind in "biuf":
        single = array.ndim == 1
        table = array.reshape(1, -1) if single else array
        _check_shape(table.shape, inputs)
        x = table.astype(dtype, copy=False)
        _check_finite(x)
        return Rows(x, None, single)
    rows = value.tolist() if isinstance(value, np.ndarray) else value
    if not isinstance(rows, list):
        raise Failure("invalid_argument", f"a row is a list of {inputs} numbers and symbols, not {value!r:.80}")
    single = bool(rows) and not any(isinstance(row, list | np.ndarray) for row in rows)
    return _mixed([rows] if single else rows, inputs, dtype, single)


def joined(batches: list[Batch]) -> Batch:
    """Several as one, in order."""
    if len(batches) == 1:
        return batches[0]
    x = np.concatenate([batch.x for batch in batches])
    if all(batch.slots is None for batch in batches):
        return Batch(x, None)
    slots = [np.full(batch.x.shape, NOTHING) if batch.slots is None else batch.slots for batch in batches]
    return Batch(x, np.concatenate(slots))


def _as_numbers(value: Any) -> Array | None:
    try:
        array = np.asarray(value)
    except (ValueError, TypeError):
        return None  # ragged, or of arrays and texts: the rows are looked at one by one
    return array if array.ndim else None


def _mixed(rows: list[Any], inputs: int, dtype: Any, single: bool) -> Rows:
    if not rows:
        raise Failure("invalid_argument", "there are no rows")
    entries = []
    for at, given in enumerate(rows):
        row = given.tolist() if isinstance(given, np.ndarray) else given
        if not isinstance(row, list) or len(row) != inputs:
            size = f"a row of {len(row)} entries" if isinstance(row, list) else f"{row!r:.80}"
            raise Failure("invalid_argument", f"row {at} is {size}; this network takes rows of {inputs}")
        wrong = [entry for entry in row if not isinstance(entry, str | int | float | None)]
        if wrong:
            raise Failure("invalid_argument", f"row {at} holds {wrong[0]!r:.80}, which is no number and no symbol")
        entries.append(row)
    x = np.array([[0.0 if isinstance(entry, str | None) else entry for entry in row] for row in entries], dtype)
    _check_finite(x)
    return Rows(x, entries, single)


def _check_shape(shape: tuple[int, ...], inputs: int) -> None:
    if len(shape) != 2 or shape[1] != inputs or not shape[0]:
        raise Failure(
            "invalid_argument",
            f"the network takes a row of {inputs} entries or a table of such rows, not an array of shape {shape}",
        )


def _check_finite(x: Array) -> None:
    if not np.isfinite(x).all():
        row = int(np.argmin(np.isfinite(x).all(axis=1)))
        raise Failure("invalid_argument", f"row {row} holds NaN or infinity; say None for what is not known")
