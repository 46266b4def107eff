"""The kit at large: what it says of right workers, of programs that are none, and how it ends."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import pytest

from mlports.testing.conformance import BadCommand, Outcome, Row, UnknownRow, all_rows, check
from mlports.testing.conformance.rows import LEVELS
from tests.integration.command_line import ROOT

HERE = Path(__file__).resolve().parent
SPEC = (ROOT / "protocol" / "SPEC.md").read_text(encoding="utf-8")
FAULTY = [sys.executable, str(ROOT / "workers" / "faulty" / "faulty.py")]


def python(*words: str) -> list[str]:
    return [sys.executable, *words]


# -- the rows


@pytest.mark.parametrize("row", all_rows(), ids=lambda row: row.name)
def test_a_row_names_a_section_and_says_what_it_checks(row: Row) -> None:
    assert any(line.lstrip("#").strip().startswith(f"{row.section} ") for line in SPEC.splitlines() if line[:1] == "#")
    assert row.level in LEVELS
    assert 10 < len(row.title) < 84, "a line of the table has to hold it"


# -- workers that are right


def test_the_python_sdk_reaches_full() -> None:
    report = check(python(str(ROOT / "workers/python/examples/conformance.py")), level="full", timeout=20)
    assert report.passed, str(report)
    assert report.level == "full"
    assert not report.untried


def test_the_bare_worker_of_the_appendix_reaches_bare() -> None:
    report = check(python(str(HERE / "bare.py")))
    assert report.passed, str(report)
    assert report.level == report.asked == "bare"
    assert report.subject == "a bare worker"


def test_a_bare_worker_does_not_reach_standard() -> None:
    report = check(python(str(HERE / "bare.py")), level="standard", only=["tells-methods", "unknown-method"])
    assert [result.row.name for result in report.failures] == ["tells-methods"]
    assert not report.passed


SILENT = """
import struct, sys, msgpack
while head := sys.stdin.buffer.read(4):
    message = msgpack.unpackb(sys.stdin.buffer.read(struct.unpack(">I", head)[0]), strict_map_key=False)
    if message[0] == 0:
        body = msgpack.packb([1, message[1], {"code": "x", "message": "no"}, None])
        sys.stdout.buffer.write(struct.pack(">I", len(body)) + body)
        sys.stdout.buffer.flush()
"""


def test_a_worker_without_the_kits_methods_is_checked_as_far_as_it_goes() -> None:
    report = check(python("-c", SILENT))
    assert report.passed, str(report)
    assert report.level is None
    assert report.level_as_far_as_tried == "bare"
    assert {result.why for result in report.untried} >= {"has no method echo", "has no method add"}
    assert "with the reservation that" in str(report)
    tried = {result.row.name for result in report.results if result.outcome is Outcome.PASSED}
    assert {"cut-at-every-byte", "pipelined", "ids", "end-of-input"} <= tried


def test_a_level_that_is_demanded_is_not_reached_by_what_was_not_tried() -> None:
    assert not check(python("-c", SILENT), level="bare").passed


# -- workers that are wrong from the start

STORIES = {
    "prints-before-hello": "loading the model",
    "exits-before-hello": "there is no file m.skops",
    "exits-0-before-hello": "exited with status 0",
    "segfaults-before-hello": "SIGSEGV",
    "closes-stdout-before-hello": "it still runs",
    "hello-version-2": "UnsupportedVersion",
    "hello-rubbish": "InvalidHello",
    "casts-before-hello": "nothing before its answer to $/hello",
}


@pytest.mark.parametrize("fault", STORIES)
def test_a_worker_that_cannot_be_talked_with_gives_one_story(fault: str) -> None:
    report = check([*FAULTY, fault])
    assert STORIES[fault] in report.trouble
    assert not report.results
    assert not report.passed
    assert report.level is None


def test_a_worker_that_never_answers_is_told_after_its_start_timeout() -> None:
    began = time.monotonic()
    report = check([*FAULTY, "never-says-hello"], start_timeout=0.5)
    assert "did not answer $/hello within 0.5 s, though it read it" in report.trouble
    assert "--start-timeout" in report.trouble
    assert time.monotonic() - began < 5


# Python itself may be told by its environment not to buffer.
BUFFERED = SILENT.replace("        sys.stdout.buffer.flush()\n", "").replace(
    "\nwhile", "\nout = open(1, 'wb', 65536, closefd=False)\nwhile"
)
BUFFERED = BUFFERED.replace("sys.stdout.buffer.write", "out.write")


def test_a_worker_that_does_not_flush_is_told_to() -> None:
    assert "flush after each frame" in check(python("-c", BUFFERED), start_timeout=0.5).trouble


def test_a_worker_that_does_not_read_is_told_so() -> None:
    assert "never read it" in check(["sleep", "1000"], start_timeout=0.3).trouble


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (["cat"], "as cat does"),
        (["yes"], "y\\ny\\ny"),
        (["cat", "/dev/urandom"], "SPEC.md 2"),
        (["true"], "exited with status 0"),
        (["echo", "Welcome to the worker"], "Welcome to the worker"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_program_that_is_no_worker_gives_one_story(command: list[str], told: str) -> None:
    began = time.monotonic()
    report = check(command)
    assert told in report.trouble or "StdoutPolluted" in report.trouble
    assert time.monotonic() - began < 5


def test_a_program_that_cannot_be_started_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "worker").write_text("no program")
    for command, told in (
        ([], "no command"),
        ([""], "no command"),
        ([str(tmp_path)], "directory"),
        (["./worker"], "chmod"),
        (["./nothing"], "no such program"),
        (["bash", "-i"], "shell"),
        (["sh"], "shell"),
        (["a\0b"], "NUL"),
    ):
        with pytest.raises(BadCommand, match=told):
            check(command, cwd=tmp_path)


def test_an_unknown_row_is_wrong_usage() -> None:
    with pytest.raises(UnknownRow, match="no-such-row"):
        check(["true"], only=["no-such-row"])


# -- workers that go wrong later


FLOOD = SILENT.replace(
    "    if message[0] == 0:\n",
    '    while message[2] != "$/hello":\n'
    '        sys.stdout.buffer.write((b"\\0\\0\\0\\x0a\\x93\\x02\\xa5$/log\\x91\\xc0") * 1000)\n'
    "    if message[0] == 0:\n",
)


def test_a_worker_that_floods_is_told_of_and_costs_no_memory() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = check(python("-c", FLOOD), only=["lone-request", "pipelined"], timeout=1)
    assert report.trouble or report.failures
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # KiB


ANSWERS_HELLO_ALONE = """
import struct, sys, msgpack
sys.stdin.buffer.read(4)
body = msgpack.packb([1, 0, None, {"protocol": 1, "methods": {"echo": {}}}])
sys.stdout.buffer.write(struct.pack(">I", len(body)) + body)
sys.stdout.buffer.flush()
while sys.stdin.buffer.read(1): pass
"""


def test_a_worker_that_hangs_is_given_up_after_a_few_rows() -> None:
    began = time.monotonic()
    report = check(python("-c", ANSWERS_HELLO_ALONE), timeout=0.3)
    assert time.monotonic() - began < 20
    given_up = [result for result in report.results if result.given_up]
    assert 8 <= len(report.failures) < 30
    assert len(given_up) > 60
    assert report.level is None


def test_a_bare_worker_that_answers_once_gives_one_story() -> None:
    once = SILENT.replace("        sys.stdout.buffer.flush()", "        sys.stdout.buffer.flush(); sys.stdin.read()")
    report = check(python("-c", once), timeout=0.3)
    assert "as a bare worker does, and then not as it must" in report.trouble


def test_a_worker_that_dies_of_a_request_is_told_of_once_for_each_row() -> None:
    report = check(python(str(HERE / "mutants.py"), "chokes-on-more-elements"), only=["more-elements", "empty-meta"])
    (failure,) = report.failures
    assert failure.row.name == "more-elements"
    assert "exited with status 1; on stderr: InvalidMessage" in failure.came


def test_a_failure_shows_the_bytes_both_ways_and_the_section() -> None:
    command = python(str(HERE / "mutants.py"), "loses-nan")
    report = check(command, only=["special-floats"])
    (failure,) = report.failures
    assert failure.section == "3.3"
    assert "nan" in failure.expected
    assert failure.came == "None (nil)"
    assert [piece.hex for piece in failure.pieces if piece.sent][-1].endswith("cb7ff8000000000000")
    assert "91c0" not in failure.pieces[-1].hex
    text = str(report)
    assert "SPEC.md 3.3" in text
    assert "[special-floats]" in text
