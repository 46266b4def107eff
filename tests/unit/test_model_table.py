"""Tables as programs have them become columns, or are refused with the place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlports.ml import FormulaError, ModelError
from mlports.ml.formula import read
from mlports.ml.table import columns_of, needed


def test_rows_columns_and_files_are_the_same_table(tmp_path: Path) -> None:
    """Guards every way in: values, order of columns and missing values are the same."""
    table = {"title": ["Mad Max", "300", "9"], "gross": [99.5, None, 3.0], "year": [1979, 2006, 2009]}
    rows = [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]
    (tmp_path / "a.csv").write_text("title,gross,year\nMad Max,99.5,1979\n300,,2006\n\n9,3.0,2009\n")
    (tmp_path / "a.json").write_text(
        '[{"title": "Mad Max", "gross": 99.5, "year": 1979}, {"title": "300", "year": 2006},'
        '{"title": "9", "gross": 3.0, "year": 2009}]'
    )
    (tmp_path / "a.jsonl").write_text(
        '{"title": "Mad Max", "gross": 99.5, "year": 1979}\n\n{"title": "300", "year": 2006}\n'
        '{"title": "9", "gross": 3.0, "year": 2009}\n'
    )
    sparse: list[dict[str, Any]] = [{k: v for k, v in row.items() if v is not None} for row in rows]
    for source in (table, rows, sparse, iter(rows), tmp_path / "a.csv", str(tmp_path / "a.json"), tmp_path / "a.jsonl"):
        assert columns_of(source) == table


def test_a_data_frame_is_a_table() -> None:
    """Guards frames: numbers stay an array, and what pandas calls missing is None."""
    pandas = pytest.importorskip("pandas", reason="pandas is not installed: it comes with the extra `ml`")
    frame = pandas.DataFrame(
        {"x": [1.5, 2.5], "n": pandas.array([1, None], "Int64"), "g": pandas.Categorical(["a", None])}
    )
    columns = columns_of(frame)
    assert columns["x"].tolist() == [1.5, 2.5]
    assert [None if value != value else value for value in columns["n"]] == [1, None]
    assert columns["g"] == ["a", None]
    with pytest.raises(ModelError, match="two columns 'x'"):
        columns_of(pandas.DataFrame([[1, 2]], columns=["x", "x"]))


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("t.csv", "", "is empty"),
        ("t.csv", "x,y\n", "no rows; it has the columns 'x', 'y'"),
        ("t.csv", "x,y,x\n1,2,3\n", "two columns 'x'"),
        ("t.csv", "x,\n1,2\n", "a column's name"),
        ("t.csv", "x,y\n1,2\n1\n", "t.csv:3: 1 cells"),
        ("t.csv", b"x,y\n\xff,2\n", "not UTF-8"),
        ("t.json", '[{"x": 1, "x": 2}]', "two columns 'x'"),
        ("t.json", "[1, 2", "no JSON"),
        ("t.json", "[1, 2]", "row 0: a row is a dict"),
        ("t.json", '{"x": 1}', "an object of lists"),
        ("t.json", '{"x": [1], "y": [1, 2]}', "differ in length: 'x' 1, 'y' 2"),
        ("t.jsonl", '{"x": 1}\n{"x": }\n', "t.jsonl:2 is no JSON"),
        ("t.parquet", "PAR1", "CSV or JSON"),
    ],
)
def test_a_file_that_is_no_table_is_told(tmp_path: Path, name: str, text: str | bytes, told: str) -> None:
    """Guards against half a table: the message has the file and the line."""
    (tmp_path / name).write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ModelError) as caught:
        columns_of(tmp_path / name)
    assert told in str(caught.value)


@pytest.mark.parametrize("source", [[], {}, {"x": []}, [1, 2], {"x": "text"}, {"x": 5}, 7, {1: [2]}, "nowhere.csv"])
def test_what_is_no_table_is_refused(source: Any) -> None:
    """Guards against nothing that looks like something."""
    with pytest.raises(ModelError):
        columns_of(source)


def test_only_what_the_formula_names_is_sent() -> None:
    """Guards the frame's size, and columns that nobody meant to show."""
    columns = {"y": [1], "x": [2], "secret": [3]}
    assert set(needed(columns, read("y ~ log(x)"))) == {"y", "x"}
    assert set(needed(columns, read("y ~ ."))) == {"y", "x", "secret"}
    with pytest.raises(FormulaError, match="the table has no column 'sercet'; did you mean 'secret'"):
        needed(columns, read("y ~ x + sercet"))


def test_rows_may_come_from_a_generator() -> None:
    """Guards readers of files: rows are taken once."""

    def rows() -> Iterator[dict[str, int]]:
        yield from ({"x": number} for number in range(3))

    assert columns_of(rows()) == {"x": [0, 1, 2]}
