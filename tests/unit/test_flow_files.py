"""Files as sources and sinks: what is read, what is written, and what is said of files that are no good."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from mlports.flow import Flow, FlowError, SourceError


def written(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_csv_values_are_text_unless_they_are_converted(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", 'name,age\n"a, b",01\n"two\nlines",2.5\n\n')
    assert Flow.from_file(path).collect() == [{"name": "a, b", "age": "01"}, {"name": "two\nlines", "age": "2.5"}]
    assert [row["age"] for row in Flow.from_file(path, converters={"age": float})] == [1.0, 2.5]


@pytest.mark.parametrize("text", ["a,b\r\n1,2\r\n", "\ufeffa,b\n1,2\n", "a,b\n1,2", "\n\na,b\n\n1,2\n"])
def test_csv_files_as_other_programs_write_them(tmp_path: Path, text: str) -> None:
    assert Flow.from_file(written(tmp_path / "a.csv", text)).collect() == [{"a": "1", "b": "2"}]


def test_csv_of_other_kinds(tmp_path: Path) -> None:
    assert Flow.from_file(written(tmp_path / "a.tsv", "a\tb\n1\t2\n")).collect() == [{"a": "1", "b": "2"}]
    path = written(tmp_path / "x.txt", "é;2\n".encode("latin-1"))
    flow = Flow.from_file(path, format="csv", delimiter=";", columns=["a", "b"], encoding="latin-1")
    assert flow.collect() == [{"a": "é", "b": "2"}]


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.csv", "", "is empty: a CSV file begins with a line of column names"),
        ("a.csv", "a,b\n", "has a header and no rows"),
        ("a.csv", "a,a\n1,2\n", "two columns are called 'a'"),
        ("a.csv", 'a,b\n1,"2\n3,4\n', r"a.csv:3: no CSV: .*a quote that is never closed"),
        ("a.csv", b"a,b\n1,\xff\n", r"a.csv:2: not utf-8, at byte 2 of the line"),
        ("a.jsonl", "", "is empty"),
        ("a.parquet", "", r"\(0 bytes\) cannot be read: it is empty"),
        ("a.parquet", "not parquet at all", "cut short, or is of another kind"),
        ("a.arrow", "ARROW1 and no more", "cut short, or is of another kind"),
    ],
)
def test_files_that_are_no_good_are_told_from_each_other(
    tmp_path: Path, name: str, text: str | bytes, told: str
) -> None:
    if name.endswith((".parquet", ".arrow")):
        pytest.importorskip("pyarrow")
    with pytest.raises(SourceError, match=told):
        Flow.from_file(written(tmp_path / name, text)).run(errors="skip")


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none.csv cannot be read: No such file"):
        Flow.from_file(tmp_path / "none.csv").run()
    with pytest.raises(SourceError, match="is a directory"):
        Flow.from_file(tmp_path, format="csv").run()
    with pytest.raises(SourceError, match="make it UTF-8"):
        Flow.from_file(written(tmp_path / "a.csv", "a\n"), encoding="utf-16").run()
    with pytest.raises(SourceError, match="no column 'age'"):
        Flow.from_file(written(tmp_path / "a.csv", "a\n1\n"), converters={"age": int}).run()


def test_empty_files_may_be_allowed(tmp_path: Path) -> None:
    for text in ("", "a,b\n"):
        assert Flow.from_file(written(tmp_path / "a.csv", text), allow_empty=True).collect() == []
    assert Flow.from_file(written(tmp_path / "a.jsonl", ""), allow_empty=True).collect() == []


def test_bad_rows_go_where_failures_go_with_their_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", "a,b\n1,2\n3\n4,5,6\nx,8\n9,10\n")
    dead = tmp_path / "dead.jsonl"
    flow = Flow.from_file(path, converters={"a": int})
    kept: list[Any] = []
    assert flow.to(kept.append).run(errors=dead).failed == 3
    assert [row["a"] for row in kept] == [1, 9]
    letters = [json.loads(line) for line in dead.read_text().splitlines()]
    assert [letter["item"] for letter in letters] == [["3"], ["4", "5", "6"], {"a": "x", "b": "8"}]
    assert "a.csv:3: 1 values, and 2 columns" in letters[0]["reason"]
    assert "column 'a': ValueError" in letters[2]["reason"]
    with pytest.raises(FlowError, match=r"a.csv:3: 1 values"):
        flow.run()


def test_json_lines(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", '{"a": 1}\n\n[1, 2]\n{"a": \n"x"\n')
    kept: list[Any] = []
    assert Flow.from_file(path).to(kept.append).run(errors="skip").failed == 1
    assert kept == [{"a": 1}, [1, 2], "x"]


def test_csv_that_is_written_is_read_as_the_same(tmp_path: Path) -> None:
    rows = [{"a": 'x"y', "b": "1,5"}, {"a": "z\n", "b": ""}]
    path = tmp_path / "out.csv"
    report = Flow.from_iterable([*rows, {"a": 1}, 7]).to_csv(path).run(errors="skip")
    assert report.failed == 2
    assert Flow.from_file(path).collect() == rows
    Flow.from_iterable([(1, 2)]).to_csv(path, columns=["a", "b"]).run()
    assert list(csv.reader(path.read_text().splitlines())) == [["a", "b"], ["1", "2"]]


def test_what_json_cannot_hold_is_a_failure_of_that_item(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    assert Flow.from_iterable([1, {2}, "é"]).to_jsonl(path).run(errors="skip").failed == 1
    assert path.read_text() == '1\n"é"\n'


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="cannot be written: No such file or directory"):
        Flow.from_iterable([1]).to_jsonl(tmp_path / "no" / "out.jsonl").run()


def test_parquet_and_arrow(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    rows = [{"n": n, "text": str(n)} for n in range(2500)]
    path = tmp_path / "a.parquet"
    assert Flow.from_iterable(rows).to_parquet(path, row_group=1000).run().given == 2500
    assert Flow.from_file(path).collect() == rows
    assert Flow.from_file(path, columns=["n"]).take(2).collect() == [{"n": 0}, {"n": 1}]
    assert list(tmp_path.iterdir()) == [path], "nothing is left beside it"
    whole = path.read_bytes()
    with pytest.raises(SourceError, match="cut short"):
        Flow.from_file(written(tmp_path / "cut.parquet", whole[: len(whole) // 2])).run()
    with pytest.raises(SourceError, match="no column 'x'; its columns are: n, text"):
        Flow.from_file(path, columns=["x"]).run()

    table = pyarrow.Table.from_pylist(rows)
    for name, new in (("a.arrow", pyarrow.ipc.new_file), ("b.arrows", pyarrow.ipc.new_stream)):
        with new(str(tmp_path / name), table.schema) as writer:
            writer.write_table(table, max_chunksize=700)
        assert Flow.from_file(tmp_path / name).collect() == rows


def test_a_parquet_file_that_is_not_completed_is_not_there(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "a.parquet"
    flow = Flow.from_iterable([{"n": 1}, {"n": 2}, {"n": 0}]).map(lambda row: {"n": 1 / row["n"]}, max_demand=1)
    with pytest.raises(FlowError):
        flow.to_parquet(path, row_group=1).run()
    assert list(tmp_path.iterdir()) == []
    report = Flow.from_iterable([{"n": 1}, {"n": "x"}, {"n": 3}]).to_parquet(path).run(errors="skip")
    assert report.failed == 1
    assert Flow.from_file(path).collect() == [{"n": 1}, {"n": 3}]
