"""A run that is killed with SIGKILL goes on where its journal says: real processes, real kills, files and databases."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlports.flow import Checkpoint, CheckpointError, Flow, FlowFailed
from tests.workers import until_blocking

EVERY = 50
"""Items between two checkpoints."""

# The flow that is killed: it notes every item that it works on, and at the place it is told to it kills itself.
_PROGRAM = """
import os, signal, sys
from mlports.flow import Checkpoint, Flow

directory, kill_at, mode, url = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
noted = os.open(f"{directory}/noted", os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def work(row):
    os.write(noted, f"{row['n']}\\n".encode())
    if row["n"] == kill_at:
        os.kill(os.getpid(), signal.SIGKILL)
    return row


flow = Flow.from_file(f"{directory}/in.csv", converters={"n": int}).map(work)
if mode == "threads":
    flow = Flow.from_file(f"{directory}/in.csv", converters={"n": int}).map(work, on="threads", workers=3)
if mode == "sum":
    flow = flow.partition(lambda row: row["n"] % 3).reduce(int, lambda a, row: a + row["n"])
if mode == "batches":
    flow = flow.map(lambda row: row["n"]).batch(7).flat_map(lambda batch: batch).filter(lambda n: n % 2)
flow = flow.to_sql(url, "rows") if mode == "sql" else flow.to_jsonl(f"{directory}/out.jsonl")
report = flow.run(checkpoint=Checkpoint(f"{directory}/journal", items=50))
print(report.resumed_at, report.items)
"""


def rows(directory: Path, count: int) -> None:
    (directory / "in.csv").write_text("n\n" + "".join(f"{n}\n" for n in range(count)))


def attempt(directory: Path, kill_at: int, mode: str = "plain", url: str = "") -> str | None:
    """One run in a process of its own: what it printed, or None when it was killed."""
    script = directory / "killed.py"
    script.write_text(_PROGRAM)
    command = [sys.executable, str(script), str(directory), str(kill_at), mode, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50)
    if kill_at >= 0:
        assert done.returncode == -signal.SIGKILL, done.stderr
        return None
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def noted(directory: Path) -> list[int]:
    return [int(line) for line in (directory / "noted").read_text().split()]


def out(directory: Path) -> list[Any]:
    return [json.loads(line) for line in (directory / "out.jsonl").read_text().split("\n")[:-1]]


@pytest.mark.parametrize("mode", ["plain", "threads"])
def test_a_killed_run_repeats_at_most_one_checkpoints_work_and_writes_nothing_twice(tmp_path: Path, mode: str) -> None:
    rows(tmp_path, 400)
    attempt(tmp_path, 173, mode)
    attempt(tmp_path, 310, mode)
    told = attempt(tmp_path, -1, mode)
    assert told == "300 100"
    assert out(tmp_path) == [{"n": n} for n in range(400)]
    worked_on = noted(tmp_path)
    assert set(worked_on) == set(range(400))
    # Twice killed: each time what came after the last checkpoint is done again, and no more.
    assert len(worked_on) - 400 <= 2 * EVERY
    assert len(worked_on) > 400, "the test would pass without a single kill"


def test_the_state_of_reductions_and_begun_batches_survives(tmp_path: Path) -> None:
    for mode, expected in (
        ("sum", [[k, sum(range(k, 200, 3))] for k in range(3)]),
        ("batches", [n for n in range(200) if n % 2]),
    ):
        directory = tmp_path / mode
        directory.mkdir()
        rows(directory, 200)
        attempt(directory, 130, mode)
        assert attempt(directory, -1, mode) == "100 100"
        assert out(directory) == expected


def test_rows_in_a_database_are_written_exactly_once(tmp_path: Path) -> None:
    """Guards the place that the flow has come to: it is in the transaction of the rows."""
    rows(tmp_path, 300)
    pytest.importorskip("sqlalchemy")
    database = tmp_path / "out.db"
    for kill_at in (60, 211):
        attempt(tmp_path, kill_at, "sql", f"sqlite:///{database}")
    assert attempt(tmp_path, -1, "sql", f"sqlite:///{database}") == "200 100"
    connection = sqlite3.connect(database)
    assert [n for (n,) in connection.execute("SELECT n FROM rows ORDER BY rowid")] == list(range(300))
    connection.close()


def test_a_finished_run_is_not_done_again(tmp_path: Path) -> None:
    rows(tmp_path, 120)
    flow = Flow.from_file(tmp_path / "in.csv").to_jsonl(tmp_path / "out.jsonl")
    assert flow.run(checkpoint=tmp_path / "journal").given == 120
    again = flow.run(checkpoint=tmp_path / "journal")
    assert (again.finished_before, again.items, again.given) == (True, 0, 0)
    assert len(out(tmp_path)) == 120


def test_a_run_that_stopped_at_an_item_goes_on_once_that_is_mended(tmp_path: Path) -> None:
    good = False

    def careful(n: int) -> int:
        if n == 777 and not good:
            raise ValueError("not yet")
        return n

    flow = Flow.from_iterable(range(1000)).map(careful).to_jsonl(tmp_path / "out.jsonl")
    checkpoint = Checkpoint(tmp_path / "journal", items=100)
    with pytest.raises(FlowFailed, match="not yet"):
        flow.run(checkpoint=checkpoint)
    good = True
    with (tmp_path / "out.jsonl").open("a") as file:  # as of a run that came far, and was killed before its checkpoint
        file.write("9\n" * 100_000)
    report = flow.run(checkpoint=checkpoint)
    assert (report.resumed_at, report.items) == (700, 300)
    assert out(tmp_path) == list(range(1000))


def test_a_place_in_a_large_file_is_found_again_to_the_byte(tmp_path: Path) -> None:
    """Guards the count of bytes: marks, characters of several bytes, lines in quotes, other ends of lines, blocks."""
    texts = ["plain", "é" * 7, '"two\r\nlines, ""quoted"""', "\u2028 no end of line", "\x0b\x0c", "日本"]
    lines = [f"{n},{texts[n % len(texts)]}" for n in range(40_000)]
    path = tmp_path / "in.csv"
    path.write_bytes(("\ufeffn,text\r\n" + "\r\n".join(lines) + "\r\n").encode())
    assert path.stat().st_size > 2 * 256 * 1024
    stop_at = ""

    def stop(row: dict[str, str]) -> dict[str, str]:
        if row["n"] == stop_at:
            raise ValueError
        return row

    flow = Flow.from_file(path).map(stop).to_jsonl(tmp_path / "out.jsonl")
    checkpoint = Checkpoint(tmp_path / "journal", items=777)
    for place in ("5", "9000", "9001", "25000", "39999"):
        stop_at = place
        with pytest.raises(FlowFailed):
            flow.run(checkpoint=checkpoint)
    stop_at = ""
    flow.run(checkpoint=checkpoint)
    assert out(tmp_path) == Flow.from_file(path).collect()
    assert [row["n"] for row in out(tmp_path)] == [str(n) for n in range(40_000)]

    lines_of_json = tmp_path / "out.jsonl"
    copy = Flow.from_file(lines_of_json).map(stop).to_csv(tmp_path / "copy.csv")
    stop_at = "30000"
    with pytest.raises(FlowFailed):
        copy.run(checkpoint=Checkpoint(tmp_path / "copy.journal", items=777))
    stop_at = ""
    assert copy.run(checkpoint=Checkpoint(tmp_path / "copy.journal", items=777)).resumed_at == 777 * 38
    assert Flow.from_file(tmp_path / "copy.csv").collect() == out(tmp_path)


def test_branches_windows_joins_and_merges_are_resumed(tmp_path: Path) -> None:
    """Guards every part that keeps something: each is stopped in its midst, and gives what an unbroken run gives."""
    names = Flow.from_iterable([(n, f"name {n}") for n in range(10)])

    def flow(stop_at: int, name: str) -> Flow[Any]:
        def stop(n: int) -> int:
            if n == stop_at:
                raise ValueError
            return n

        left = Flow.from_iterable(range(500)).map(stop)
        windows = (
            left.merge(Flow.from_iterable(range(500, 700)))
            .partition(lambda n: n % 2)
            .window(time=40, at=float, lateness=700)
            .reduce(int, lambda a, n: a + n)
            .map(lambda window: (int(window.start) % 10, list(window)))
        )
        pairs = windows.join(names, key=lambda pair: pair[0])
        near = pairs.join(pairs, key=lambda pair: pair[0][0], within=50, at=lambda pair: pair[0][1][1])
        both = near.branch(lambda branch: branch.batch(9).to_jsonl(tmp_path / f"{name}-side.jsonl"))
        return both.to_jsonl(tmp_path / f"{name}.jsonl")

    flow(-1, "whole").run(checkpoint=Checkpoint(tmp_path / "whole.journal", items=64))
    journal = Checkpoint(tmp_path / "cut.journal", items=64)
    with pytest.raises(FlowFailed):
        flow(333, "cut").run(checkpoint=journal)
    report = flow(-1, "cut").run(checkpoint=journal)
    assert report.resumed_at
    for name in ("whole", "whole-side"):
        whole = (tmp_path / f"{name}.jsonl").read_text()
        assert whole
        assert (tmp_path / f"{name.replace('whole', 'cut')}.jsonl").read_text() == whole


def test_a_journal_in_use_or_of_another_flow_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "journal"
    seen: list[str] = []

    def twice(n: int) -> int:
        try:
            Flow.from_iterable([1]).run(checkpoint=journal)
        except CheckpointError as error:
            seen.append(str(error))
        return n

    Flow.from_iterable([1]).map(twice).run(checkpoint=journal)
    assert "is in use" in seen[0]
    with pytest.raises(CheckpointError, match="journal of another flow"):
        Flow.from_iterable([1]).map(str).run(checkpoint=journal)
    (tmp_path / "text").write_text("no journal at all, but a file of text that is long enough to be looked at" * 20)
    with pytest.raises(CheckpointError, match="is no journal"):
        Flow.from_iterable([1]).run(checkpoint=tmp_path / "text")


def test_what_cannot_be_resumed_is_told_before_any_work_is_done(tmp_path: Path) -> None:
    worked: list[Any] = []
    flow: Flow[Any] = Flow.from_iterable([1, 2]).map(worked.append)
    with pytest.raises(CheckpointError, match="complete only at its end"):
        flow.to_parquet(tmp_path / "out.parquet").run(checkpoint=tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"reduce\(<lambda>\).* is a builtins\.object, which a"):
        flow.reduce(lambda: object(), lambda a, _: a).run(checkpoint=tmp_path / "b")
    assert worked == []


def test_files_that_changed_since_the_checkpoint_are_noticed(tmp_path: Path) -> None:
    rows(tmp_path, 200)
    attempt(tmp_path, 130)
    whole = (tmp_path / "in.csv").read_bytes()
    (tmp_path / "in.csv").write_bytes(whole[:50])
    flow_of_it = tmp_path / "out.jsonl"
    flow_of_it.write_bytes(flow_of_it.read_bytes()[:-5] if flow_of_it.stat().st_size > 2000 else b"")
    script = subprocess.run(
        [sys.executable, str(tmp_path / "killed.py"), str(tmp_path), "-1", "plain", ""], capture_output=True, text=True
    )
    assert "it has been changed since" in script.stderr
    assert script.returncode == 1


def test_a_kill_from_outside_at_any_moment_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The same without the program's help: it is killed wherever it happens to be, several times."""
    rows(tmp_path, 5_000)
    script = tmp_path / "killed.py"
    script.write_text(_PROGRAM)
    command = [sys.executable, str(script), str(tmp_path), "-1", "plain", ""]
    path = tmp_path / "noted"
    for more in (300, 1500):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        until_blocking(lambda: path.exists() and len(noted(tmp_path)) > more, "it had worked on some")  # noqa: B023
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert attempt(tmp_path, -1) is not None
    assert out(tmp_path) == [{"n": n} for n in range(5_000)]
