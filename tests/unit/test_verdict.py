"""Verdicts: what they say of a death to people and to programs."""

from __future__ import annotations

import json
import signal

import pytest

from mlports import Verdict
from mlports.core.verdict import describe_status, signal_name


@pytest.mark.parametrize(
    ("verdict", "normal", "name"),
    [
        (Verdict("s", 0, 1, "exit", "", 0), True, "exit 0"),
        (Verdict("s", 0, 1, "exit", "", 3), False, "exit 3"),
        (Verdict("s", 0, 1, "signal", "", -9), False, "SIGKILL"),
        (Verdict("s", 0, 1, "signal", "", -11), False, "SIGSEGV"),
        (Verdict("s", 0, 1, "stopped", "", 0), True, "stopped"),
        (Verdict("s", 0, 1, "stopped", "", -9), True, "stopped"),
        (Verdict("s", 0, 1, "protocol", "", 0), False, "protocol"),
        (Verdict("s", 0, 1, "closed", "", -9), False, "closed"),
        (Verdict("s", 0, 1, "start_timeout", "", -9), False, "start_timeout"),
        (Verdict("s", 0, None, "spawn", ""), False, "spawn"),
    ],
)
def test_normal_and_name(verdict: Verdict, normal: bool, name: str) -> None:
    assert (verdict.normal, verdict.name) == (normal, name)


def test_the_sentence() -> None:
    verdict = Verdict("digits", 2, 4711, "exit", "exited with status 1", 1, 12.34)
    assert str(verdict) == "worker digits/2 (pid 4711) exited with status 1 after 12.3 s"


def test_the_sentence_tells_of_requests_in_flight_and_of_the_last_words() -> None:
    words = tuple(f"line {number}" for number in range(20))
    verdict = Verdict("digits", 0, 4711, "signal", "was killed by SIGKILL", -9, 1.0, in_flight=(4, 5), stderr=words)
    first, *rest = str(verdict).splitlines()
    assert first == (
        "worker digits/0 (pid 4711) was killed by SIGKILL after 1.0 s, with 2 requests in flight; "
        "its last words on stderr:"
    )
    assert rest == [f"  | line {number}" for number in range(12, 20)]


def test_one_that_never_ran_has_no_pid_and_no_uptime() -> None:
    assert str(Verdict("digits", 0, None, "spawn", "cannot start 'x'")) == "worker digits/0 cannot start 'x'"


def test_it_travels_as_json() -> None:
    verdict = Verdict("digits", 1, 7, "protocol", "broke it", -9, 1.23456, True, 4, (1, 2), ("a", "b"), b"\x00\xff")
    record = json.loads(json.dumps(verdict.as_dict()))
    assert record == {
        "service": "digits",
        "replica": 1,
        "pid": 7,
        "cause": "protocol",
        "name": "protocol",
        "detail": "broke it",
        "status": -9,
        "uptime": 1.235,
        "ready": True,
        "restarts": 4,
        "in_flight": [1, 2],
        "stderr": ["a", "b"],
        "offending": "00 ff",
    }
    back = Verdict.from_dict(record)
    assert back.as_dict() == record
    assert (back.in_flight, back.stderr, back.offending) == ((1, 2), ("a", "b"), b"\x00\xff")


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0, "exited with status 0"),
        (255, "exited with status 255"),
        (-signal.SIGTERM, "was killed by SIGTERM"),
        (-signal.SIGSEGV, "was killed by SIGSEGV"),
        (-signal.SIGKILL, "was killed by SIGKILL (out of memory? the kernel's log says)"),
    ],
)
def test_describe_status(status: int, text: str) -> None:
    assert describe_status(status) == text


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    assert signal_name(9) == "SIGKILL"
    assert signal_name(1000) == "signal 1000"
