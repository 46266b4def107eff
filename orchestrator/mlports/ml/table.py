"""Tables as programs have them, made into columns to be sent: rows, columns, a data frame, or a CSV or JSON file."""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mlports.ml.errors import ModelError
from mlports.ml.formula import Formula, suggestion

Table = Mapping[str, Sequence[Any]]
"""Lists or arrays of the same length, by the columns' names."""


def columns_of(source: Any) -> dict[str, Any]:
    """A table's columns.

    `source` is a list of rows, each a dict (one that lacks a column misses that value); a dict of lists or arrays; a
    pandas or polars data frame; or the path of a .csv, .json or .jsonl file. Raises `ModelError` for anything else, for
    a table without rows, and for two columns of one name.
    """
    if isinstance(source, str | os.PathLike):
        columns = _from_file(Path(source))
    elif isinstance(source, Mapping):
        columns = dict(source)
    elif hasattr(source, "columns") and hasattr(source, "__getitem__"):
        names = [*source.columns]
        _check_names(names, "the data frame")
        columns = {name: _plain(source[name]) for name in names}
    elif isinstance(source, Iterable):
        columns = from_rows(source, "the table")
    else:
        raise ModelError(f"a table is rows, columns, a data frame or a file's path, not {source!r:.80}")
    _check_lengths(columns)
    return columns


def from_rows(rows: Iterable[Any], what: str) -> dict[str, list[Any]]:
    """The columns of rows, in the order in which they first appear. Raises `ModelError`."""
    kept = []
    names: dict[str, None] = {}
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise ModelError(f"{what}, row {number}: a row is a dict from columns to values, not {row!r:.80}")
        names.update(dict.fromkeys(row))
        kept.append(row)
    return {name: [row.get(name) for row in kept] for name in names}


def needed(columns: Mapping[str, Any], formula: Formula) -> dict[str, Any]:
    """Those columns that a formula names; all of them where it has a `.`. Raises `FormulaError` for an unknown one."""
    formula.check_columns(columns, "the table has")
    return dict(columns) if formula.rest else {name: columns[name] for name in formula.columns}


def _from_file(path: Path) -> dict[str, Any]:
    readers = {".csv": _read_csv, ".json": _read_json, ".jsonl": _read_json_lines, ".ndjson": _read_json_lines}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        known = suggestion(path.suffix, readers)
        raise ModelError(f"{path}: a table's file is CSV or JSON, told by its suffix; {known}")
    try:
        return reader(path)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path} is not UTF-8: {error.reason} at byte {error.start}. Convert it first") from error


def _read_csv(path: Path) -> dict[str, Any]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        try:
            head = next(lines, None)
            if not head:
                raise ModelError(f"{path} is empty: it has no header and no rows")
            _check_names(head, str(path))
            rows = []
            for row in lines:
                if row and len(row) != len(head):
                    raise ModelError(
                        f"{path}:{lines.line_num}: {len(row)} cells, and the header has {len(head)} columns"
                    )
                if row:
                    rows.append(row)
        except csv.Error as error:
            raise ModelError(f"{path}:{lines.line_num}: {error}") from error
    return {name: _cells([row[place] for row in rows]) for place, name in enumerate(head)}


def _cells(texts: list[str]) -> list[Any]:
    """A CSV file's column: numbers if every cell is one, else texts; None where a cell is empty."""
    given = [None if text == "" else text for text in texts]
    try:
        return [None if text is None else _number(text) for text in given]
    except ValueError:
        return list(given)


def _number(text: str) -> float:
    if "_" in text:  # which Python would take
        raise ValueError(text)
    return float(text)


def _read_json(path: Path) -> dict[str, Any]:
    return _from_json(path, _parsed(path.read_text("utf-8"), str(path)))


def _read_json_lines(path: Path) -> dict[str, Any]:
    lines = path.read_text("utf-8").splitlines()
    rows = [_parsed(line, f"{path}:{number}") for number, line in enumerate(lines, 1) if line.strip()]
    return _from_json(path, rows)


def _from_json(path: Path, value: Any) -> dict[str, Any]:
    if isinstance(value, list):
        return from_rows(value, str(path))
    if isinstance(value, dict) and all(isinstance(column, list) for column in value.values()):
        return value
    raise ModelError(f"{path}: a table in JSON is a list of objects, or an object of lists")


def _parsed(text: str, where: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        _check_names([name for name, _ in pairs], where)
        return dict(pairs)

    try:
        return json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{where} is no JSON: {error}") from error


def _check_names(names: Sequence[Any], where: str) -> None:
    seen = set()
    for name in names:
        if not isinstance(name, str) or not name:
            raise ModelError(f"{where}: a column's name is a text, not {name!r:.80}")
        if name in seen:
            raise ModelError(f"{where} has two columns {name!r}: which is meant? Rename one")
        seen.add(name)


def _check_lengths(columns: Mapping[str, Any]) -> None:
    _check_names([*columns], "the table")
    lengths = {}
    for name, values in columns.items():
        if isinstance(values, str | bytes) or not hasattr(values, "__len__"):
            raise ModelError(f"column {name!r} is a list or an array of values, not {values!r:.80}")
        lengths[name] = len(values)
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name!r} {length}" for name, length in [*lengths.items()][:10])
        raise ModelError(f"the columns differ in length: {told}")
    if not any(lengths.values()):
        told = f"; it has the columns {', '.join(map(repr, columns))}" if columns else ""
        raise ModelError(f"the table has no rows{told}. Nothing can be learned from it")


def _plain(column: Any) -> Any:
    """A data frame's column as an array of numbers, or a list in which None is a missing value."""
    kind = getattr(getattr(column, "dtype", None), "kind", "O")
    if kind in "biuf" and hasattr(column, "to_numpy"):
        array = column.to_numpy()
        if getattr(array, "dtype", None) is not None and array.dtype.kind in "biuf":
            return array
    values = column.to_list() if hasattr(column, "to_list") else list(column)
    return [_value(value) for value in values]


def _value(value: Any) -> Any:
    if isinstance(value, str | int) or value is None:
        return value
    if isinstance(value, float):
        return None if math.isnan(value) else value
    # pandas.NA and NaT equal nothing, themselves included.
    return None if type(value).__name__ in ("NAType", "NaTType") else value
