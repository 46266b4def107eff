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
        (Verdict("s", 0, 1, "out_of_memory", "", -9), False, "out_of_memory"),
        (Verdict("s", 0, 1, "hang", "", -9), False, "hang"),
        (Verdict("s", 0, 1, "warm_up", "", 0), False, "warm_up"),
        (Verdict("s", 0, 1, "memory_limit", "", 0), False, "memory_limit"),
        (Verdict("program", None, 1, "exit", "", 0), True, "exit 0"),
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


def test_a_program_is_called_one() -> None:
    verdict = Verdict("backup", None, 4711, "exit", "exited with status 1", 1, 12.34)
    assert str(verdict) == "program backup (pid 4711) exited with status 1 after 12.3 s"
    assert Verdict.from_dict(verdict.as_dict()) == verdict


def test_the_sentence_tells_where_the_threads_of_a_hung_worker_were() -> None:
    stacks = (
        "Thread 0x00007f0000000001 (most recent call first):",
        '  File "/usr/lib/python3.11/threading.py", line 327 in wait',
        '  File "/usr/lib/python3.11/threading.py", line 1002 in _bootstrap',
        "",
        "Current thread 0x00007f0000000002 (most recent call first):",
        '  File "/srv/digits.py", line 11 in predict',
        '  File "/srv/site-packages/mlports_worker/worker.py", line 99 in run',
        '  File "/srv/digits.py", line 20 in <module>',
    )
    verdict = Verdict("digits", 0, 4711, "hang", "hung", -9, 1.0, stderr=("last",), stacks=stacks)
    assert str(verdict).splitlines() == [
        "worker digits/0 (pid 4711) hung after 1.0 s; its last words on stderr:",
        "  | last",
        "  where its threads were, innermost first:",
        *(f"  | {line}" for line in stacks[4:]),
    ]


def test_the_sentence_stays_short_whatever_there_is_to_tell() -> None:
    stacks = []
    for thread in range(100):
        stacks += [f"Thread 0x{thread:016x} (most recent call first):"]
        stacks += [f'  File "/srv/deep.py", line {line} in f' for line in range(100)]
    words = tuple(f"line {number}" for number in range(50))
    verdict = Verdict("digits", 0, 4711, "hang", "hung", -9, 1.0, stderr=words, stacks=tuple(stacks))
    assert len(str(verdict).splitlines()) <= 30


def test_it_travels_as_json() -> None:
    verdict = Verdict(
        "digits",
        1,
        7,
        "protocol",
        "broke it",
        -9,
        1.23456,
        True,
        4,
        (1, 2),
        ("a", "b"),
        b"\x00\xff",
        ("Thread 0x1:", "  ..."),
        123_456_789,
        1_800_000_000.1234,
    )
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
        "stacks": ["Thread 0x1:", "  ..."],
        "peak_memory": 123_456_789,
        "time": 1_800_000_000.123,
        "recording": None,
    }
    back = Verdict.from_dict(record)
    assert back.as_dict() == record
    assert (back.in_flight, back.stderr, back.offending) == ((1, 2), ("a", "b"), b"\x00\xff")
    assert (back.stacks, back.peak_memory) == (("Thread 0x1:", "  ..."), 123_456_789)


def test_a_record_of_another_version_is_read_as_far_as_it_goes() -> None:
    """A newer command may talk to an older orchestrator, and the other way round."""
    record = Verdict("digits", 1, 7, "exit", "exited with status 1", 1, stderr=("a",)).as_dict()
    for added_later in ("stacks", "peak_memory", "time"):
        del record[added_later]
    record["colour"] = "green"
    assert Verdict.from_dict(record) == Verdict("digits", 1, 7, "exit", "exited with status 1", 1, stderr=("a",))


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


@pytest.mark.parametrize(
    ("status", "out_of_memory", "text"),
    [
        (-signal.SIGKILL, True, "ran out of memory: the kernel killed it by SIGKILL"),
        (-signal.SIGKILL, False, "was killed by SIGKILL"),
        (-signal.SIGSEGV, False, "was killed by SIGSEGV"),
        (1, False, "exited with status 1"),
        (1, True, "exited with status 1"),
    ],
)
def test_what_is_known_of_the_memory_is_not_guessed(status: int, out_of_memory: bool, text: str) -> None:
    assert describe_status(status, out_of_memory) == text


def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    assert signal_name(9) == "SIGKILL"
    assert signal_name(1000) == "signal 1000"
