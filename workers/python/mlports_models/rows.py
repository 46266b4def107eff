"""Rows and tables: what callers send as arrays, many of them as one table, and the results given back to each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from mlports_worker import Failure

Array = np.ndarray[Any, Any]
Row = Literal["vector", "item"]
"""What one row is: a vector of features, or a single thing such as a text, so that a table of them is a list."""


class Table(NamedTuple):
    """What one caller sent: its rows, and whether it was just one row."""

    rows: Array
    single: bool


def as_array(value: Any, what: str) -> Array:
    """Nested lists, or an array, as an array that may be written to; texts among them stay what they are.

    None among numbers is a missing one (NaN). Raises `Failure` for what has no rectangular shape.
    """
    if isinstance(value, np.ndarray):
        array = value if value.flags.writeable else value.copy()
    elif isinstance(value, list):
        try:
            array = np.asarray(value)
        except ValueError as error:
            raise Failure(
                "invalid_argument", f"{what} is ragged: its rows differ in length. Make them equally long"
            ) from error
        if array.dtype.kind == "U" and not all(isinstance(item, str) for item in np.asarray(value, object).flat):
            array = np.asarray(value, object)
        elif array.dtype.kind == "O" and all(isinstance(item, int | float | None) for item in array.flat):
            array = array.astype(float)
    else:
        raise Failure("invalid_argument", f"{what} is a list or an array, not {value!r:.80}")
    if array.dtype.kind not in "biufUO":
        raise Failure("invalid_argument", f"{what} holds numbers or texts, not elements of dtype {array.dtype}")
    return array


def as_table(value: Any, row: Row, width: int | None, owner: str, what: str = "X") -> Table:
    """One argument of `predict` and its like. `width` is the number of features that `owner` wants, if it is known.

    Raises `Failure` for another number of dimensions or features, and for a table without rows.
    """
    if row == "item":
        if not isinstance(value, list | np.ndarray):
            return Table(_items([value]), True)
        rows = _items(value) if isinstance(value, list) else as_array(value, what)
        if not rows.ndim or not len(rows):
            raise Failure("invalid_argument", f"{what} has no rows; {owner} takes one item, or a list of them")
        return Table(rows, False)
    rows = as_array(value, what)
    if rows.dtype.kind == "U":
        rows = rows.astype(object)
    if rows.ndim not in (1, 2):
        raise Failure(
            "invalid_argument",
            f"{what} has {rows.ndim} dimensions, of shape {rows.shape}; {owner} takes one row, of 1 dimension, or a "
            "table, of 2. Flatten each row",
        )
    if not rows.shape[0]:
        raise Failure("invalid_argument", f"{what} is empty; {owner} takes one row, or a table of at least one")
    single = rows.ndim == 1
    if single:
        rows = rows.reshape(1, -1)
    if width is not None and rows.shape[1] != width:
        hint = f". If it is one row, flatten it: {rows.size} values" if rows.size == width else ""
        raise Failure(
            "invalid_argument",
            f"{what} has rows of {rows.shape[1]} values; {owner} was fitted to rows of {width}{hint}",
        )
    return Table(rows, single)


def apply(values: list[Any], to_table: Callable[[Any], Table], call: Callable[[Array], Any]) -> list[Any]:
    """What `call` makes of each value, by as few calls as possible: rows of the same kind go together.

    In place of a result stands the `Failure` of a value that is wrong, or that `call` refused.
    """
    outcomes: list[Any] = [None] * len(values)
    alike: dict[Any, list[tuple[int, Table]]] = {}
    for index, value in enumerate(values):
        try:
            table = to_table(value)
        except Failure as failure:
            outcomes[index] = failure
        else:
            # Stacked with others, an array takes the widest dtype, and then the answer could differ from its own.
            alike.setdefault((table.rows.dtype, table.rows.shape[1:]), []).append((index, table))
    for group in alike.values():
        _apply_together(group, call, outcomes)
    return outcomes


def _apply_together(group: list[tuple[int, Table]], call: Callable[[Array], Any], outcomes: list[Any]) -> None:
    tables = [table.rows for _, table in group]
    stacked = tables[0] if len(tables) == 1 else np.concatenate(tables)
    try:
        result = _columns(call(stacked), len(stacked))
    except Failure as failure:
        if len(group) == 1 or failure.code != "invalid_argument":
            for index, _ in group:
                outcomes[index] = failure
            return
        # Some of the rows are at fault: the halves tell which.
        middle = len(group) // 2
        _apply_together(group[:middle], call, outcomes)
        _apply_together(group[middle:], call, outcomes)
        return
    start = 0
    for index, table in group:
        end = start + len(table.rows)
        parts = [_row(column[start]) if table.single else sendable(column[start:end]) for column in result.columns]
        outcomes[index] = parts if result.several else parts[0]
        start = end


class _Result(NamedTuple):
    columns: list[Array]
    several: bool  # an array for each output, which scikit-learn gives in a list


def _columns(result: Any, rows: int) -> _Result:
    several = isinstance(result, list) and bool(result) and all(isinstance(output, np.ndarray) for output in result)
    columns = [
        np.asarray(output.toarray() if hasattr(output, "toarray") else output)
        for output in (result if several else [result])
    ]
    for column in columns:
        if not column.ndim or len(column) != rows:
            raise Failure(
                "unimplemented", f"{rows} rows gave a result of shape {column.shape}, which is not one for each row"
            )
    return _Result(columns, several)


def sendable(array: Array) -> Any:
    """An array of numbers as it is, others as nested lists: not every language has arrays of texts."""
    return array if array.dtype.kind in "biuf" else array.tolist()


def _row(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return sendable(value)
    return value.item() if isinstance(value, np.generic) else value


def _items(values: list[Any]) -> Array:
    """A list as an array of one dimension, whatever is in it."""
    if all(isinstance(value, int | float) for value in values):
        return np.asarray(values)
    array = np.empty(len(values), object)
    array[:] = values
    return array
