"""The journal of a run: how far it has come, in a SQLite file of its own, so that a killed run can be gone on with."""

from __future__ import annotations

import json
import os
import sqlite3
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlports.core.flow import from_plain, to_plain
from mlports.flow.errors import CheckpointError

_TABLE = "CREATE TABLE IF NOT EXISTS run (id TEXT NOT NULL, flow TEXT NOT NULL, record TEXT, done INTEGER NOT NULL)"


@dataclass(frozen=True)
class Checkpoint:
    """Where the journal is, and how often it is written: every `items` items or `seconds`, whichever comes first.

    A run that was killed repeats the work since the last time, so at most that of `items` items.
    """

    path: str | os.PathLike[str]
    items: int = 10_000
    seconds: float = 10.0

    def __post_init__(self) -> None:
        if self.items < 1 or not self.seconds > 0:
            raise ValueError(f"items must be at least 1 and seconds positive, not {self.items} and {self.seconds}")


class Journal:
    """One flow's journal, open and locked: nobody else can go on with it meanwhile. `flow` is its `explain()`.

    Raises `CheckpointError` when another process has it, when it is another flow's, or when it is no journal.
    """

    def __init__(self, path: Path, flow: str) -> None:
        self._path = path
        try:
            self._database = sqlite3.connect(path, isolation_level=None, timeout=0)
        except sqlite3.Error as error:
            raise CheckpointError(f"the journal {path} cannot be opened: {error}") from error
        try:
            self._open(flow)
        except BaseException as error:
            self._database.close()
            if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
                raise CheckpointError(f"{path} is in use: another run of this flow is going on") from error
            if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
                raise CheckpointError(f"{path} is no journal of a flow: {error}. Name another file") from error
            if isinstance(error, sqlite3.OperationalError):
                raise CheckpointError(f"the journal {path} cannot be written: {error}") from error
            raise

    def _open(self, flow: str) -> None:
        execute = self._database.execute
        execute("PRAGMA locking_mode = EXCLUSIVE")
        execute("PRAGMA synchronous = FULL")
        execute("BEGIN EXCLUSIVE")
        execute(_TABLE)
        row = execute("SELECT id, flow, record, done FROM run").fetchone()
        if row is None:
            row = (str(uuid.uuid4()), flow, None, 0)
            execute("INSERT INTO run VALUES (?, ?, ?, ?)", row)
        execute("COMMIT")
        self.id, told, record, done = row
        self.done = bool(done)
        self.record = None if record is None else decoded(record)
        if told != flow:
            raise CheckpointError(
                f"{self._path} is the journal of another flow, or of this one before it was changed. "
                f"Name another file, or remove it to begin anew. That flow is:\n{told}\nand this one:\n{flow}"
            )

    def save(self, record: dict[str, Any], done: bool) -> None:
        """Keeps this record in the place of the last. When it returns it is on the disk."""
        try:
            self._database.execute("UPDATE run SET record = ?, done = ?", (encoded(record), int(done)))
        except sqlite3.OperationalError as error:
            raise CheckpointError(f"the journal {self._path} cannot be written: {error}") from error

    def close(self) -> None:
        self._database.close()


def encoded(record: dict[str, Any]) -> str:
    """A record as text. Raises `CheckpointError` for a state that is not made of plain values."""
    try:
        return json.dumps({name: to_plain(value, name) for name, value in record.items()})
    except (TypeError, RecursionError) as error:
        raise CheckpointError(f"{error}, or run without a checkpoint") from error


def decoded(text: str) -> dict[str, Any]:
    """What was encoded."""
    record: dict[str, Any] = from_plain(json.loads(text))
    return record
