"""Tables as callers send them, rows or columns, made into arrays of one kind each: numbers, or categories.

A column of numbers is an array of float64 in which NaN is a missing value; one of categories has texts and None.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mlports_worker import Failure

from . import registry
from .rows import Array

Columns = dict[str, Array]
"""Arrays of the same length, by name."""


def columns_of(table: Any, what: str = "rows") -> tuple[dict[str, Any], int, bool]:
    """The columns of a table, how many rows it has, and whether it was a single row.

    A table is a list of rows, each a map from columns to values; or a map from columns to lists or arrays; one row may
    stand by itself. A row without some column that others have misses that value. Raises `Failure` for anything else.
    """
    if isinstance(table, list):
        return _from_rows(table, what), len(table), False
    if not isinstance(table, dict):
        raise _invalid(
            f"{what} is a list of rows such as {{'x': 1.5}}, or a map from columns to lists, not {table!r:.80}"
        )
    _check_names(table, what)
    lists = {name: value for name, value in table.items() if isinstance(value, list | np.ndarray)}
    if not lists:
        return {name: [value] for name, value in table.items()}, 1, True
    if len(lists) < len(table):
        odd = next(name for name in table if name not in lists)
        raise _invalid(
            f"{what}: {odd!r} has one value, other columns have lists. Give one row, or lists for all columns"
        )
    lengths = {name: len(value) for name, value in table.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name!r} {length}" for name, length in list(lengths.items())[:10])
        raise _invalid(f"{what}: the columns differ in length: {told}")
    return dict(table), next(iter(lengths.values())), False


def _from_rows(table: Sequence[Any], what: str) -> dict[str, Any]:
    names: dict[str, None] = {}
    for index, row in enumerate(table):
        if not isinstance(row, dict):
            raise _invalid(f"{what}: row {index} is {row!r:.80}, not a map from columns to values")
        if row.keys() - names.keys():
            _check_names(row, what)
            names.update(dict.fromkeys(row))
    return {name: [row.get(name) for row in table] for name in names}


def check_columns(given: Iterable[str], wanted: Sequence[str], target: Sequence[str] = ()) -> None:
    """Raises `Failure` that names every column that is missing or unknown; `target` are those that are predicted."""
    there = list(given)
    missing = [name for name in wanted if name not in there]
    unknown = [name for name in there if name not in wanted]
    problems = []
    if missing:
        problems.append(f"missing: {', '.join(map(repr, missing))}")
    for name in unknown:
        near = registry.nearest(name, missing or wanted)
        hint = " (it is what the model predicts)" if name in target else f" (did you mean {near!r}?)" if near else ""
        problems.append(f"unknown: {name!r}{hint}")
    if problems:
        raise Failure(
            "invalid_argument",
            f"the columns do not fit the model's: {'; '.join(problems)}. It takes: {', '.join(map(repr, wanted))}",
            data={"missing": missing, "unknown": unknown, "columns": list(wanted)},
        )


def kind_of(values: Any) -> str:
    """ "number" for a column of numbers, truth values and missing ones; "category" as soon as it holds one text."""
    if isinstance(values, np.ndarray):
        if values.dtype.kind in "biuf":
            return "number"
        values = values.tolist()
    return "category" if any(isinstance(value, str) for value in values) else "number"


def typed(name: str, values: Any, kind: str) -> Array:
    """One column as an array of its kind. Raises `Failure` that names the column and the row which does not fit."""
    return numbers(name, values) if kind == "number" else levels(values, name)


def numbers(name: str, values: Any) -> Array:
    """A column of numbers, NaN where one is missing. Raises `Failure` for texts and for infinite values."""
    array = np.asarray(values) if _is_plain(values) else None
    if array is None or array.dtype.kind not in "biuf" or array.ndim != 1:
        array = np.fromiter((_number(name, row, value) for row, value in enumerate(values)), float, len(values))
    result: Array = array.astype(float)
    infinite = np.flatnonzero(np.isinf(result))
    if infinite.size:
        raise _invalid(
            f"column {name!r} is infinite in {_rows(infinite)}. Take these rows out, or say None for a missing value"
        )
    return result


def _is_plain(values: Any) -> bool:
    return isinstance(values, np.ndarray) or all(type(value) in (float, int) for value in values)


def _number(name: str, row: int, value: Any) -> float:
    if value is None:
        return math.nan
    if isinstance(value, int | float | np.number | np.bool_):
        try:
            return float(value)
        except OverflowError:
            raise _invalid(f"column {name!r}, row {row}: {value!r:.40}… is too large for a number here") from None
    raise _invalid(f"column {name!r} is of numbers, and row {row} has {value!r:.80}")


def levels(values: Any, name: str = "") -> Array:
    """A column of categories: texts as they are, numbers as they are written, None where one is missing."""
    items = values.tolist() if isinstance(values, np.ndarray) else values
    array = np.empty(len(items), object)
    array[:] = [_level(value, row, name) for row, value in enumerate(items)]
    return array


def _level(value: Any, row: int, name: str) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        if math.isnan(value):
            return None
        return str(int(value)) if value.is_integer() else repr(value)
    raise _invalid(f"column {name!r}, row {row}: a category is a text or a number, not {value!r:.80}")


def missing_in(column: Array) -> Array:
    """Where a column has no value, as truth values."""
    found: Array = np.isnan(column) if column.dtype.kind == "f" else column == np.asarray(None, object)
    return found


def take(columns: Mapping[str, Array], rows: Array) -> Columns:
    """These rows of every column."""
    return {name: column[rows] for name, column in columns.items()}


def _rows(indices: Array) -> str:
    first = ", ".join(str(index) for index in indices[:3])
    count = f"{indices.size:,} row{'s' if indices.size > 1 else ''}"
    return f"{count} (row {first}{', …' if indices.size > 3 else ''})"


def rows_told(indices: Array) -> str:
    """Such as "3 rows (row 0, 4, 17)", for a message."""
    return _rows(indices)


def _check_names(row: Mapping[Any, Any], what: str) -> None:
    for name in row:
        if not isinstance(name, str) or not name:
            raise _invalid(f"{what}: a column's name is a text, not {name!r:.80}")


def _invalid(message: str) -> Failure:
    return Failure("invalid_argument", message)
