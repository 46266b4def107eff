"""The kit sees each mistake, and only that: what proves a kit is not what passes."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from mlports.testing.conformance import Report, all_rows, check
from tests.conformance.mutants import CAUGHT_BY

HERE = Path(__file__).resolve().parent
OTHERS = ["lone-request", "unknown-method", "failing-casts"]
"""What a worker with a mistake elsewhere does right."""

MANY = {
    # These cannot be made without others noticing.
    "forgets-what-is-behind-the-first-frame",
    "answers-when-the-next-request-comes",
    "answers-unknown-casts",
}

ALSO = {
    "takes-one-read-for-a-header": {"byte-by-byte", "random-pieces"},
    "does-not-loop-over-short-reads": {"long-array", "long-string", "longest-frame"},
    "waits-for-the-payload-of-a-frame-too-large": {"far-too-large"},
    "turns-integers-into-floats": {"far-deadline", "longer-forms"},
    "sends-strings-as-bytes": {
        *("batch-of-plain-method", "batch-of-wrong-length", "batch-with-streams", "cancelled-among-others"),
        *("expired", "long-string", "longer-forms"),
    },
    "answers-not-found": {"batch-that-fails"},
    "drops-casts": {"result-too-long"},
    "pings-only-when-idle": {"ping-during-stream"},
    "ignores-deadlines": {"batch-that-fails"},
    "ignores-cancel": {"cancelled-among-others"},
    "exceeds-credit": {"cancelled-stream", "long-stream"},
    "exits1-at-the-end": {"end-of-input-behind-requests", "interrupt", "printing"},
}
"""The checks that meet with the same mistake."""


def checked(name: str, only: list[str]) -> Report:
    command = [sys.executable, str(HERE / "mutants.py"), name]
    # The timeout is for what never comes, and is waited for in full: a mutant that is slow would be a wrong result.
    return check(command, level="standard", only=only, timeout=1.5)


@pytest.mark.parametrize("name", CAUGHT_BY)
def test_a_mistake_is_caught_by_its_own_check(name: str) -> None:
    row = CAUGHT_BY[name]
    report = checked(name, [row, *(OTHERS if name not in MANY else [])])
    failed = {result.row.name for result in report.results if result.outcome in ("failed", "lacking")}
    assert not report.trouble, report.trouble
    assert failed == {row}, str(report)


@pytest.mark.soak
@pytest.mark.parametrize("name", [name for name in CAUGHT_BY if name not in MANY])
def test_a_mistake_is_caught_where_it_is_met_and_nowhere_else(name: str) -> None:
    report = checked(name, [])
    failed = {result.row.name for result in report.results if result.outcome == "failed"}
    caught_by = {CAUGHT_BY[name]} - {row.name for row in all_rows() if row.optional}
    assert caught_by <= failed <= caught_by | ALSO.get(name, set()), str(report)


def test_no_mistake_no_failure() -> None:
    report = check([sys.executable, str(HERE / "right.py")], level="standard")
    assert report.passed, str(report)
    assert report.level == "standard"
