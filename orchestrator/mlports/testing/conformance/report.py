"""What came of a check: a table for people, JSON for programs, JUnit's XML for CI."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from mlports.testing.conformance.rows import LEVELS, Level, Row, rank
from mlports.testing.conformance.transcript import Piece

_WIDTH = 68  # of a row's title in the table


class Outcome(StrEnum):
    """How a row came out. `LACKING` is an optional row that does not hold."""

    PASSED = "passed"
    FAILED = "failed"
    LACKING = "lacking"
    NOT_TRIED = "not tried"


@dataclass(frozen=True)
class Result:
    """One row's outcome.

    `why` says why it was not tried: `missing` when that is for want of methods, `given_up` when for want of answers.
    """

    row: Row
    outcome: Outcome
    why: str = ""
    missing: bool = False
    expected: str = ""
    came: str = ""
    section: str = ""
    pieces: Sequence[Piece] = ()
    stderr: str = ""
    seconds: float = 0.0
    given_up: bool = False

    def as_map(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        found: dict[str, Any] = {
            "name": self.row.name,
            "title": self.row.title,
            "topic": self.row.topic,
            "section": self.section or self.row.section,
            "level": self.row.level,
            "optional": self.row.optional,
            "outcome": str(self.outcome),
            "seconds": round(self.seconds, 3),
        }
        if self.why:
            found["why"] = self.why
        if self.expected:
            found.update(expected=self.expected, came=self.came, stderr=self.stderr)
            found["frames"] = [
                {"sent": piece.sent, "hex": piece.hex, "bytes": piece.length, "meaning": piece.meaning}
                for piece in self.pieces
            ]
        return found


@dataclass(frozen=True)
class Report:
    """The outcome of a whole check.

    `asked` is the level that was checked, `demanded` whether somebody asked for it; `partial` whether only some rows
    were chosen. `trouble` tells why nothing could be checked at all. `str()` is the table.
    """

    command: Sequence[str]
    subject: str
    asked: Level
    demanded: bool
    partial: bool
    results: Sequence[Result] = field(default_factory=tuple)
    trouble: str = ""
    seconds: float = 0.0

    @property
    def failures(self) -> list[Result]:
        """The rows that do not hold, optional ones left out."""
        return [result for result in self.results if result.outcome is Outcome.FAILED]

    @property
    def untried(self) -> list[Result]:
        """The rows that want methods which the worker has not."""
        return [result for result in self.results if result.missing]

    @property
    def level(self) -> Level | None:
        """The highest level reached: every row of it and of those below passed, and none was left out."""
        return self._reached(with_untried=False)

    @property
    def level_as_far_as_tried(self) -> Level | None:
        """The same with the reservation that some rows could not be tried."""
        return self._reached(with_untried=True)

    @property
    def passed(self) -> bool:
        """Whether nothing failed, and the level that was asked for, if one was, is reached without reservation."""
        if self.trouble or self.failures:
            return False
        return self.partial or not self.demanded or self.level == self.asked

    def as_map(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "command": list(self.command),
            "subject": self.subject,
            "asked": self.asked,
            "level": self.level,
            "level_as_far_as_tried": self.level_as_far_as_tried,
            "passed": self.passed,
            "trouble": self.trouble or None,
            "seconds": round(self.seconds, 3),
            "checks": [result.as_map() for result in self.results],
        }

    def to_json(self) -> str:
        """`as_map` as text."""
        return json.dumps(self.as_map(), ensure_ascii=False, indent=2)

    def to_junit(self) -> str:
        """One `testsuite` of JUnit's, a `testcase` for each row; what was not tried is skipped there."""
        from mlports.testing.conformance.junit import junit

        return junit(self)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def lines(self) -> Iterator[str]:
        """The table, then what failed, then what it comes to."""
        command = " ".join(self.command)
        if self.trouble:
            yield f"{command}: nothing could be checked."
            yield self.trouble
            return
        yield f"{command}: {self.subject}, level {self.asked}, {_checks(len(self.results))} in {self.seconds:.1f} s"
        topic = ""
        for result in self.results:
            if result.row.topic != topic:
                topic = result.row.topic
                yield f"\n{topic}"
            yield _line(result)
        for result in self.results:
            if result.outcome in (Outcome.FAILED, Outcome.LACKING):
                yield ""
                yield from story(result)
        yield ""
        yield from self.summary()

    def summary(self) -> Iterator[str]:
        """What it comes to."""
        counts = {kind: sum(result.outcome is kind for result in self.results) for kind in Outcome}
        yield ", ".join(f"{count} {kind}" for kind, count in counts.items() if count) or "no checks"
        if self.partial:
            return
        sure, tried = self.level, self.level_as_far_as_tried
        if rank(tried) > rank(sure):
            lists = [result.why.removeprefix("has no method ").split(", ") for result in self.untried]
            names = ", ".join(sorted({name for names in lists for name in names}))
            yield (
                f"Level: {tried}, with the reservation that {_checks(len(self.untried))} could not be tried: "
                f"the worker has no method {names}."
            )
        else:
            yield f"Level: {sure or 'none'}"
        if self.demanded and not self.passed and not self.failures:
            yield f"Level {self.asked} was asked for: what could not be tried counts against it."

    def _reached(self, with_untried: bool) -> Level | None:
        reached: Level | None = None
        if self.trouble or self.partial:
            return None
        for level in LEVELS[: rank(self.asked)]:
            rows = [result for result in self.results if result.row.level == level and not result.row.optional]
            if any(
                result.outcome is Outcome.FAILED or result.given_up or (result.missing and not with_untried)
                for result in rows
            ):
                break
            reached = level
        return reached


def story(result: Result) -> Iterator[str]:
    """A row that does not hold: what was expected, what came, and the bytes."""
    yield f"{result.outcome}: {result.row.title} [{result.row.name}], SPEC.md {result.section or result.row.section}"
    yield f"  expected  {result.expected}"
    yield f"  came      {result.came}"
    for piece in result.pieces:
        yield f"  {piece}"
    said = [line for line in result.stderr.splitlines() if line.strip()][-4:]
    for line in said:
        yield f"  stderr    {line[:200]}"


def _checks(count: int) -> str:
    return "1 check" if count == 1 else f"{count} checks"


def _line(result: Result) -> str:
    why = f"  ({result.why})" if result.why else ""
    return f"  {result.outcome:<10}{result.row.title:<{_WIDTH}} {result.row.section}{why}"
