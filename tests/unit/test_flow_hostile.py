"""What a flow is given that it should not be: refused in a sentence, and nothing lost without a word."""

from __future__ import annotations

import gzip
import math
import os
import threading
from collections.abc import Callable
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from mlports import UnknownService
from mlports.flow import CheckpointError, DeadLetter, Flow, FlowError, FlowFailed, SourceError

flow = Flow.from_iterable


@pytest.fixture(scope="module", autouse=True)
def first_csv_of_arrow() -> None:
    """The first one of a process opens a pipe for good."""
    if find_spec("pyarrow") is not None:
        from pyarrow import csv

        csv.read_csv(BytesIO(b"a\n1\n"))


WRONG: dict[str, tuple[Callable[[], object], str]] = {
    "a batch of one and a half": (lambda: flow([1]).batch(1.5), "whole number"),  # type: ignore[arg-type]
    "a batch of a text": (lambda: flow([1]).batch("3"), "whole number"),  # type: ignore[arg-type]
    "half an item": (lambda: flow([1]).take(1.5), "whole number"),  # type: ignore[arg-type]
    "half a demand": (lambda: flow([1], max_demand=2.5), "whole number"),  # type: ignore[arg-type]
    "a window of two and a half": (lambda: flow([1]).window(count=2.5), "whole number"),  # type: ignore[arg-type]
    "a time that is a text": (lambda: flow([1]).window(time="60"), "a number"),  # type: ignore[arg-type]
    "too many windows of an item": (lambda: flow([1]).window(time=1e9, every=1e-3), "each item would be in"),
    "a join that is not there": (lambda: flow([1]).join(flow([1]), int, how="outer"), "'outer'"),  # type: ignore[arg-type]
    "a row group of none": (lambda: flow([1]).to_parquet("x.parquet", row_group=0), "at least 1"),
    "a branch to nowhere": (lambda: flow([1]).branch(lambda b: None), "sink"),  # type: ignore[arg-type, return-value]
    "an option that is not there": (lambda: Flow.from_file("x.csv", convertors={}), "no option 'convertors'"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_means_nothing_is_refused_when_it_is_said(what: str) -> None:
    say, told = WRONG[what]
    with pytest.raises((ValueError, FlowError), match=told):
        say()


FILES: dict[str, tuple[bytes, dict[str, Any], str]] = {
    "two columns of one name": (b"a,b,a\n1,2,3\n", {}, "'a'"),
    "two columns without a name": (b"a,,\n1,2,3\n", {}, "''"),
    "ends of lines of old": (b"a,b\r1,2\r", {}, "CSV"),
    "another encoding": ("a,b\nJosé,2\n".encode("latin-1"), {}, "not utf-8"),
    "another encoding, later": (b"a,b\n" + b"x,2\n" * 50 + "José,2\n".encode("latin-1"), {"block": 32}, "not utf-8"),
    "compressed": (gzip.compress(b"a,b\n1,2\n"), {}, "gzip: unpack it first"),
    "a delimiter of two": (b"a,b\n1,2\n", {"delimiter": ";;"}, "one character"),
    "columns that are a text": (b"a,b\n1,2\n", {"columns": "ab"}, "list of names"),
    "columns said twice": (b"a,b\n1,2\n", {"columns": ["a", "a"]}, "twice"),
}


@pytest.mark.parametrize("batches", [False, True])
@pytest.mark.parametrize("what", FILES)
def test_a_file_that_would_lose_something_is_refused(what: str, batches: bool, tmp_path: Path) -> None:
    if batches:
        pytest.importorskip("pyarrow")
    data, options, told = FILES[what]
    if not batches:
        options = {name: value for name, value in options.items() if name != "block"}
    path = tmp_path / "in.csv"
    path.write_bytes(data)
    with pytest.raises(SourceError, match=told):
        Flow.from_file(path, batches=batches, **options).run()


def test_a_pipe_is_read_as_a_file_is(tmp_path: Path) -> None:
    pipe = tmp_path / "in.csv"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=("a\n1\n2\n",))
    writer.start()
    assert Flow.from_file(pipe).collect() == [{"a": "1"}, {"a": "2"}]
    writer.join()


def test_no_file_is_written_that_the_flow_reads_or_writes_elsewhere(tmp_path: Path) -> None:
    rows, other = tmp_path / "rows.jsonl", tmp_path / "other.jsonl"
    rows.write_text("1\n2\n")
    os.link(rows, tmp_path / "same.jsonl")
    read = Flow.from_file(rows)
    runs: list[Callable[[], object]] = [
        lambda: read.to_jsonl(rows).run(),
        lambda: read.to_jsonl(tmp_path / "same.jsonl").run(),
        lambda: flow([1]).join(read, int).to_jsonl(rows).run(),
        lambda: read.branch(lambda b: b.to_jsonl(other)).to_jsonl(other).run(),
        lambda: read.to_jsonl(other).run(errors=other),
        lambda: read.to_jsonl(other).run(errors=rows),
        lambda: read.to_jsonl(other).run(checkpoint=other),
    ]
    for run in runs:
        with pytest.raises(FlowError, match="uses too: name another file"):
            run()
    assert rows.read_text() == "1\n2\n"
    assert not other.exists()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_disk_is_told_with_the_file() -> None:
    full = "/dev/full cannot be written: No space left"
    for count in (1, 100_000):
        with pytest.raises(FlowError, match=full):
            flow([{"a": 1}] * count).to_jsonl("/dev/full").run()
        with pytest.raises(FlowError, match=full):
            flow([{"a": 1}] * count).to_csv("/dev/full").run()
    with pytest.raises(FlowError, match=full):
        flow([0]).map(lambda x: 1 / x).run(errors=Path("/dev/full"))
    with pytest.raises(FlowError, match=full):
        flow([(9, 1), (0, 1)]).window(time=1, at=lambda e: e[0], late="/dev/full").run()


def test_places_that_are_not_there_are_told(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"the journal .* cannot be opened"):
        flow([1]).to(print).run(checkpoint=tmp_path)
    with pytest.raises(FlowError, match="cannot be written"):
        flow([0]).map(lambda x: 1 / x).run(errors=tmp_path / "no" / "dead.jsonl")
    for name in ("x" * 300, "file/in.it"):
        (tmp_path / "file").touch()
        with pytest.raises(FlowError, match="cannot be written"):
            flow([1]).to_jsonl(tmp_path / name).run()


def test_half_a_character_fails_alone(tmp_path: Path) -> None:
    items = [{"a": "\ud800"}, {"a": "é"}]
    for sink, text in (("to_jsonl", '{"a": "é"}\n'), ("to_csv", "a\né\n")):
        dead = tmp_path / f"{sink}.dead"
        report = getattr(flow(items), sink)(tmp_path / sink).run(errors=dead)
        assert report.failed == 1
        assert (tmp_path / sink).read_text(encoding="utf-8") == text
        assert "ud800" in dead.read_text(encoding="utf-8")


def test_a_header_alone_is_quoted_too(tmp_path: Path) -> None:
    flow([]).to_csv(tmp_path / "out.csv", columns=["a,b", "c"]).run()
    assert (tmp_path / "out.csv").read_text() == '"a,b",c\n'


def test_parquet_drops_no_column_without_a_word(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    items: list[Any] = [{"a": 1}, {"a": 2, "b": 3}, 5, {}, {"a": 4}]
    dead: list[DeadLetter] = []
    flow(items).to_parquet(tmp_path / "out.parquet").run(errors=dead.append)
    assert parquet.read_table(tmp_path / "out.parquet").to_pylist() == [{"a": 1}, {"a": None}, {"a": 4}]
    assert [letter.item for letter in dead] == [{"a": 2, "b": 3}, 5]
    with pytest.raises(FlowError, match=r"cannot be written.*No such file"):
        flow([{"a": 1}]).to_parquet(tmp_path / "no" / "out.parquet").run()


def test_a_number_too_large_for_the_database_fails_alone(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy")
    dead: list[DeadLetter] = []
    report = (
        flow([{"a": 1}, {"a": 2**70}, {"a": 3}]).to_sql(f"sqlite:///{tmp_path}/out.db", "t").run(errors=dead.append)
    )
    assert report.failed == 1
    assert [letter.item for letter in dead] == [{"a": 2**70}]


def test_a_join_counts_what_comes_too_late_for_its_partner() -> None:
    left, right = [("a", 1), ("b", 50), ("a", 7)], [("a", 2), ("a", 90), ("a", 6)]

    def joined(lateness: float) -> tuple[int, int]:
        report = (
            flow(left, max_demand=1)
            .join(flow(right, max_demand=1), lambda e: e[0], within=5, at=lambda e: e[1], lateness=lateness)
            .run()
        )
        return report.given, report.late

    assert joined(100) == (4, 0)
    assert joined(0)[1] == 2


def test_a_time_that_is_none_fails_alone() -> None:
    events = [(1.0, 1), (math.nan, 2), (math.inf, 3), ("x", 4), (2.0, 5)]
    dead: list[DeadLetter] = []
    report = flow(events).window(time=60, at=lambda e: e[0]).run(errors=dead.append)  # type: ignore[arg-type, return-value]
    assert report.given == 1
    assert [letter.item[1] for letter in dead] == [2, 3, 4]
    with pytest.raises(FlowFailed, match="finite number"):
        flow([math.nan]).window(time=60, at=float).run()


def test_skipping_is_not_proposed_for_what_is_not_the_items_fault(tmp_path: Path) -> None:
    with pytest.raises(FlowFailed, match=r"UnknownService.*not the item's fault"):
        flow([1]).map(_unknown).run(errors="skip")
    with pytest.raises(FlowFailed, match='errors="skip"'):
        flow([0]).map(lambda x: 1 / x).run()


def _unknown(item: int) -> int:
    raise UnknownService("there is no service 'nope'")
