"""Files as Arrow record batches: the same rows as one by one, whatever is in them and wherever a block ends."""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from mlports.flow import Checkpoint, DeadLetter, Flow, FlowError, FlowFailed, SourceError
from tests.extras import need

need("pyarrow", how="pip install 'mlports[tables]'")

from pyarrow import csv  # noqa: E402

csv.read_csv(BytesIO(b"a\n1\n"))  # the first one of a process opens a pipe for good

HEADER = "shop,n,price\n"


def written(directory: Path, text: str, name: str = "in.csv") -> Path:
    path = directory / name
    path.write_bytes(text.encode())
    return path


def rows_of(flow: Flow[Any], **options: Any) -> list[dict[str, Any]]:
    return [row for batch in flow.collect(**options) for row in batch.to_pylist()]


@pytest.mark.parametrize("block", [1, 7, 64, 10_000])
def test_blocks_of_any_size_give_the_rows_that_reading_one_by_one_gives(tmp_path: Path, block: int) -> None:
    texts = ["plain", '"two\nlines, ""quoted"""', "é", "", '"a, b"', "日本\u2028"]
    path = written(tmp_path, "\ufeff" + HEADER + "".join(f"{texts[n % 6]},{n},{n / 4}\n" for n in range(60)))
    one_by_one = Flow.from_file(path, converters={"n": int, "price": float}).collect()
    assert rows_of(Flow.from_file(path, batches=True, types={"price": "double"}, block=block)) == one_by_one
    chosen = Flow.from_file(path, batches=True, columns=["shop"], types={"shop": "dictionary"}, block=block)
    assert [row["shop"] for row in rows_of(chosen)] == [row["shop"] for row in one_by_one]


def test_rows_that_do_not_fit_are_left_out_one_by_one_and_named(tmp_path: Path) -> None:
    good = [{"shop": "a", "n": n, "price": 0.5} for n in range(4)]
    path = written(tmp_path, HEADER + "a,0,0.5\na,1,0.5\na,many,0.5\na,2\na,2,0.5\na,3,0.5,9\na,3,0.5\na,4,lo")
    letters: list[DeadLetter] = []
    for block in (10, 1000):
        letters.clear()
        assert rows_of(Flow.from_file(path, batches=True, block=block, types={"n": "int64", "price": "double"}),
                       errors=letters.append) == good  # fmt: skip
        told = "\n".join(str(letter.error) for letter in letters)
        assert len(letters) == 4
        assert all(f"{path}, row {number}: " in told for number in (3, 4, 6, 8))
        assert "column 'n' is of int64, and this is 'many'; say types=" in told
        assert "column 'price' is of double, and this is 'lo'" in told
        assert "2 values, and 3 columns" in told
    with pytest.raises(FlowFailed, match=r"row 3: column 'n' is of int64, and this is 'many'"):
        Flow.from_file(path, batches=True, types={"n": "int64", "price": "double"}, columns=["n"]).collect()


def test_the_rest_of_a_batch_is_what_it_were_without_the_row_that_does_not_fit(tmp_path: Path) -> None:
    rows = ["1,10:00:00,2020-01-01,nan,TRUE", "NA,09:30,,1e3,0", " 2 ,,2020-02-29,inf,", "0x1F,23:59:59,NULL,,true"]
    types = {"n": "int64", "on": "date32", "value": "double", "yes": "bool"}
    header = "n,at,on,value,yes\n"
    whole = Flow.from_file(written(tmp_path, header + "\n".join(rows), "good.csv"), batches=True, types=types)
    for place, wrong in enumerate(["x,,,,", ",,2020-02-30,,", ",,,1.2.3,", ",,,,yes"]):
        path = written(tmp_path, header + "\n".join([*rows[:place], wrong, *rows[place:]]))
        letters: list[DeadLetter] = []
        found = Flow.from_file(path, batches=True, types=types).collect(errors=letters.append)
        assert found[0].equals(whole.collect()[0])
        (letter,) = letters
        assert f"row {place + 1}: column {list(types)[place]!r} is of " in str(letter.error)


def test_the_first_block_decides_the_types(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + "a,1,2\n" * 10 + "a,1,2.5\n")
    with pytest.raises(FlowFailed, match=r"row 11: column 'price' is of int64, and this is '2.5'; say types="):
        Flow.from_file(path, batches=True, block=30).collect()
    flow = Flow.from_file(path, batches=True, block=30, types={"price": "double"})
    assert sum(row["price"] for row in rows_of(flow)) == 22.5


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "is empty: a CSV file begins with a line of column names"),
        (HEADER, "has a header and no rows"),
        (HEADER + 'a,"1,2\n' * 3, "is never closed, and swallows what follows it"),
    ],
)
def test_files_that_are_no_good(tmp_path: Path, text: str, told: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(SourceError, match=told):
        Flow.from_file(path, batches=True).collect()
    if '"' not in text:
        assert Flow.from_file(path, batches=True, allow_empty=True).collect() == []


def test_what_is_asked_for_has_to_be_there(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + "a,1,2\n")
    with pytest.raises(SourceError, match="has no column 'shape'; its columns are: shop, n, price"):
        Flow.from_file(path, batches=True, columns=["shape"]).collect()
    with pytest.raises(SourceError, match="'n' cannot be of 'number': Arrow has no such type"):
        Flow.from_file(path, batches=True, types={"n": "number"}).collect()
    with pytest.raises(FlowError, match="jsonl gives items one by one; batches are of csv, tsv, parquet, arrow"):
        Flow.from_file(tmp_path / "x.jsonl", batches=True)


def test_a_run_goes_on_at_the_byte_where_it_was(tmp_path: Path) -> None:
    path = written(tmp_path, HEADER + "".join(f"a,{n},0.5\n" for n in range(500)))
    seen: list[int] = []
    good = False

    def numbers(batch: Any) -> list[int]:
        found: list[int] = batch.column("n").to_pylist()
        if not good and 300 in found:
            raise ValueError("not yet")
        return found

    flow = Flow.from_file(path, batches=True, block=200).flat_map(numbers).to(seen.append)
    checkpoint = Checkpoint(tmp_path / "journal", items=50)
    with pytest.raises(FlowFailed, match="not yet"):
        flow.run(checkpoint=checkpoint)
    good = True
    report = flow.run(checkpoint=checkpoint)
    assert report.resumed_at
    assert report.resumed_at > 200
    assert report.items == 500 - report.resumed_at
    assert sorted(set(seen)) == list(range(500))


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_tables_come_in_batches_too(tmp_path: Path, kind: str) -> None:
    import pyarrow
    from pyarrow import feather, parquet

    table = pyarrow.table({"n": range(150_000)})
    path = tmp_path / f"in.{kind}"
    if kind == "parquet":
        parquet.write_table(table, path)
    else:
        feather.write_feather(table, path, chunksize=40_000)
    flow = Flow.from_file(path, batches=True)
    batches = flow.collect()
    assert 1 < len(batches) < 10
    assert [n for batch in batches for n in batch.column("n").to_pylist()] == list(range(150_000))
    report = flow.run()
    assert (report.items, report.given) == (150_000, len(batches))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"types": {"n": int}}, "the type of column 'n' is Arrow's, or its name, not <class 'int'>"),
        ({"types": "int64"}, "types= is a dict of types by column, not 'int64'"),
        ({"block": 0}, "block= is how many bytes make a batch, at least 1, not 0"),
        ({"delimiter": "é"}, "the delimiter is an ASCII character within a line, not 'é'"),
    ],
)
def test_options_that_mean_nothing_are_refused(tmp_path: Path, options: dict[str, Any], told: str) -> None:
    with pytest.raises(SourceError, match=re.escape(told)):
        Flow.from_file(written(tmp_path, HEADER + "a,1,2\n"), batches=True, **options).collect()
