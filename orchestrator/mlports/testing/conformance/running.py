"""Runs the rows against a program, several at a time, and puts the report together."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from pathlib import Path

from mlports.errors import MlportsError
from mlports.testing.conformance.conversation import Conversation
from mlports.testing.conformance.failures import Failed, NotTried
from mlports.testing.conformance.report import Outcome, Report, Result
from mlports.testing.conformance.rows import Level, Row, all_rows, rank
from mlports.testing.conformance.subject import BadCommand, NoHandshake, Subject
from mlports.testing.conformance.trial import Trial

TIMEOUT = 5.0
"""Seconds that one answer may take."""

START_TIMEOUT = 15.0
"""Seconds that the answer to `$/hello` may take."""

_AT_ONCE = 4  # most rows wait most of the time
_ROWS_EACH = 8  # rows for which another process is worth its start
_MOST_LATE = 8  # rows without an answer in time, after which no more are tried


class UnknownRow(MlportsError):
    """A name that no row has."""


def check(
    command: Sequence[str],
    *,
    cwd: str | os.PathLike[str] | None = None,
    level: Level | None = None,
    only: Sequence[str] = (),
    timeout: float = TIMEOUT,
    start_timeout: float = START_TIMEOUT,
    on_result: Callable[[Result], None] | None = None,
) -> Report:
    """Checks a worker program against SPEC.md and tells how it fared. Blocks until that is done.

    `level` is the one that is demanded; without one it is the highest that the worker's answer to `$/hello` claims, and
    rows that want methods which it has not are passed over. `only` are names of rows, with `*` for any letters.
    `timeout` and `start_timeout` are in seconds; `on_result` is called for each row, from any thread.

    Raises `BadCommand` for a command that cannot be started and `UnknownRow` for a name that matches none. A program
    that runs and cannot be talked with gives a report with `trouble`.
    """
    began = time.monotonic()
    chosen = _chosen(only)
    subject = Subject(command, Path.cwd() if cwd is None else Path(cwd).absolute(), timeout, start_timeout)
    try:
        try:
            first = subject.meet()
        except NoHandshake as error:
            seconds = time.monotonic() - began
            return Report(command, "", level or "bare", level is not None, bool(only), (), str(error), seconds)
        asked = level or subject.claimed_level
        rows = [row for row in chosen if applies(row, asked, subject)]
        results = Run(subject, first, on_result).all(rows)
        seconds = time.monotonic() - began
        return Report(command, subject.name, asked, level is not None, bool(only), results, seconds=seconds)
    finally:
        subject.close_all()


class Run:
    """The rows of one check at work; each thread keeps a conversation that its rows share."""

    def __init__(
        self, subject: Subject, first: Conversation, on_result: Callable[[Result], None] | None = None
    ) -> None:
        self.subject = subject
        self._on_result = on_result
        self._own = threading.local()
        self._unused = [first]
        self._late = 0

    def all(self, rows: Sequence[Row]) -> list[Result]:
        """Every row's result, in order."""
        at_once = min(_AT_ONCE, 1 + len(rows) // _ROWS_EACH)
        pool = ThreadPoolExecutor(at_once, thread_name_prefix="mlports-check")
        try:
            return list(pool.map(self.one, rows))
        finally:
            self.subject.kill_all()  # what still waits is woken by that
            pool.shutdown(wait=True, cancel_futures=True)

    def one(self, row: Row) -> Result:
        """One row's result."""
        result = self._tried(row)
        if self._on_result is not None:
            self._on_result(result)
        return result

    def _tried(self, row: Row) -> Result:
        subject = self.subject
        if row.feature is not None and row.feature not in subject.claims.features:
            return Result(row, Outcome.NOT_TRIED, f"does not claim {row.feature}")
        missing = [method for method in row.needs if method not in subject.methods]
        if missing:
            return Result(row, Outcome.NOT_TRIED, f"has no method {', '.join(missing)}", missing=not row.optional)
        if self._late >= _MOST_LATE:
            why = f"given up: {_MOST_LATE} answers did not come in time"
            return Result(row, Outcome.NOT_TRIED, why, given_up=True)
        return self._try(row, Trial(subject, self._conversation()))

    def _try(self, row: Row, trial: Trial) -> Result:
        began = time.monotonic()
        good = False
        try:
            row.check(trial)
            trial.settle()
            good = True
            return Result(row, Outcome.PASSED, seconds=time.monotonic() - began)
        except NotTried as reason:
            return Result(row, Outcome.NOT_TRIED, str(reason), reason.missing, seconds=time.monotonic() - began)
        except (Failed, BadCommand) as error:
            failed = error if isinstance(error, Failed) else Failed("the program to start again", str(error))
            self._late += failed.late and not row.optional
            return Result(
                row,
                Outcome.LACKING if row.optional else Outcome.FAILED,
                expected=failed.expected,
                came=failed.came,
                section=failed.section or row.section,
                pieces=trial.pieces(),
                stderr=trial.last_words(),
                seconds=time.monotonic() - began,
            )
        finally:
            trial.close(good)

    def _conversation(self) -> list[Conversation]:
        if not hasattr(self._own, "shared"):
            # The conversation of the first handshake is as good as a new one.
            self._own.shared, self._unused = self._unused, []
        shared: list[Conversation] = self._own.shared
        return shared


def _chosen(only: Sequence[str]) -> list[Row]:
    rows = all_rows()
    for pattern in only:
        if not any(fnmatchcase(row.name, pattern) for row in rows):
            raise UnknownRow(f"no check is called {pattern!r}; see mlports check --list")
    return [row for row in rows if not only or any(fnmatchcase(row.name, pattern) for pattern in only)]


def applies(row: Row, asked: Level, subject: Subject) -> bool:
    """Whether a row is tried at this level: those of it, of the ones below, and of what the worker claims besides."""
    claimed = row.feature is not None and row.feature in subject.claims.features
    return rank(row.level) <= rank(asked) or (claimed and rank(asked) > rank("bare"))
