"""Databases as sinks: SQLite, and a real PostgreSQL server where one is installed."""

from __future__ import annotations

import datetime
import getpass
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlports.flow import Checkpoint, CheckpointError, Flow, FlowError, FlowFailed

sqlalchemy = pytest.importorskip("sqlalchemy")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL server of this module's own; gives the URL of a database."""
    control = shutil.which("pg_ctl")
    if control is None:
        pytest.skip("PostgreSQL is not installed")
    pytest.importorskip("psycopg")
    user = getpass.getuser()
    if user == "root":  # the server refuses to run as root
        user = "postgres"
        if user not in {entry.pw_name for entry in pwd.getpwall()}:
            pytest.skip("PostgreSQL does not run as root, and there is no user called postgres")
    directory = Path(tempfile.mkdtemp())
    shutil.chown(directory, user)
    # Its processes come and go by themselves, and are no test's leak.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MLPORTS")}

    def run(*words: str) -> None:
        command = [control, "-D", str(directory / "data"), "-s", *words]
        as_user: Any = {"user": user} if user != getpass.getuser() else {}
        with (directory / "log").open("ab") as log:
            subprocess.run(
                command,
                check=True,
                env=environment,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **as_user,
            )

    try:
        run("init", "-o", f"--no-sync -A trust -U {user}")
        options = f"-c listen_addresses='' -k {directory} -c fsync=off -c autovacuum=off"
        run("start", "-w", "-l", str(directory / "data" / "server.log"), "-o", options)
        try:
            yield f"postgresql+psycopg://{user}@/postgres?host={directory}"
        finally:
            run("stop", "-m", "immediate")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without tables."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'out.db'}"
        return
    url = request.getfixturevalue("server")
    yield url
    query(url, "DROP SCHEMA public CASCADE")
    query(url, "CREATE SCHEMA public")


def query(url: str, text: str) -> list[Any]:
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.begin() as connection:
            result = connection.execute(sqlalchemy.text(text))
            return [tuple(row) for row in result] if result.returns_rows else []
    finally:
        engine.dispose()


def test_the_table_is_made_as_the_first_item_says(url: str) -> None:
    day = datetime.date(2024, 2, 29)
    items = [{"n": n, "half": n / 2, "name": f"é{n}", "yes": n == 1, "day": day} for n in range(2500)]
    assert Flow.from_iterable(items).to_sql(url, "rows").run().given == 2500
    assert query(url, "SELECT count(*), sum(half) FROM rows") == [(2500, sum(n / 2 for n in range(2500)))]
    assert query(url, "SELECT n, half, name, yes FROM rows WHERE n = 1") == [(1, 0.5, "é1", True)]


def test_with_a_key_a_row_takes_the_place_of_the_one_before(url: str) -> None:
    """Guards flows that are run again: the same rows do not come twice."""
    flow = Flow.from_iterable([{"k": n % 3, "v": n} for n in range(9)]).to_sql(url, "rows", key="k")
    for _ in range(2):
        flow.run()
    assert query(url, "SELECT k, v FROM rows ORDER BY k") == [(0, 6), (1, 7), (2, 8)]


def test_a_row_that_the_database_refuses_fails_alone(url: str) -> None:
    query(url, "CREATE TABLE rows (n BIGINT PRIMARY KEY, name TEXT NOT NULL)")
    items: list[Any] = [{"n": 1, "name": "a"}, {"n": 1, "name": "b"}, {"n": 2, "name": None}, {"n": 3}, "x", {"z": 1}]
    letters: list[Any] = []
    report = Flow.from_iterable([*items, {"n": 4, "name": "d"}]).to_sql(url, "rows").run(errors=letters.append)
    assert query(url, "SELECT n FROM rows ORDER BY n") == [(1,), (4,)]
    assert report.failed == 5
    assert {str(letter.item) for letter in letters} == {str(item) for item in items[1:]}


def test_a_run_that_stops_leaves_what_the_checkpoint_says_and_goes_on_from_there(url: str, tmp_path: Path) -> None:
    mended = False

    def row(n: int) -> dict[str, int]:
        if n == 333 and not mended:
            raise ValueError(n)
        return {"n": n}

    flow = Flow.from_iterable(range(1000)).map(row).to_sql(url, "rows")
    checkpoint = Checkpoint(tmp_path / "journal", items=100)
    with pytest.raises(FlowFailed):
        flow.run(checkpoint=checkpoint)
    assert query(url, "SELECT count(*), max(n) FROM rows") == [(300, 299)]
    mended = True
    report = flow.run(checkpoint=checkpoint)
    assert (report.resumed_at, report.given) == (300, 700)
    assert query(url, "SELECT count(*), count(DISTINCT n), max(n) FROM rows") == [(1000, 1000, 999)]
    assert flow.run(checkpoint=checkpoint).finished_before


def test_one_transaction_does_not_span_two_databases(tmp_path: Path) -> None:
    flow = (
        Flow.from_iterable([{"n": 1}])
        .branch(lambda branch: branch.to_sql(f"sqlite:///{tmp_path}/a.db", "rows"))
        .to_sql(f"sqlite:///{tmp_path}/b.db", "rows")
    )
    with pytest.raises(CheckpointError, match="one transaction cannot span"):
        flow.run(checkpoint=tmp_path / "journal")


def test_a_database_that_is_not_there_is_told() -> None:
    with pytest.raises(FlowError, match="no connection to the database"):
        Flow.from_iterable([{"n": 1}]).to_sql("sqlite:////no/such/folder/x.db", "rows").run()
    with pytest.raises(FlowError, match="no connection to the database"):
        Flow.from_iterable([{"n": 1}]).to_sql("nonsense", "rows").run()
