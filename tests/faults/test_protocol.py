"""Workers that break the protocol: each is found out by name, killed, and started again; its caller is told why."""

from __future__ import annotations

import asyncio
from typing import Any, NamedTuple

import pytest

from mlports import MlportsError, ProtocolViolation, ServiceDown, WorkerError
from tests.faults.scene import faulty, outcome, scene, verdict_of


class Violation(NamedTuple):
    """A fault, and the name and text of the violation that it is."""

    fault: str
    name: str
    text: str


IN_CALL = [
    Violation("prints-between-frames", "StdoutPolluted", "text where a frame was due: 'loss: 0.25\\n"),
    Violation(
        "prints-inside-a-frame", "TrailingBytes", "after 100 batches of 32': did the program print on its standard"
    ),
    Violation("floods-stdout", "FrameTooLarge", "a frame of 4294967295 bytes"),
    Violation("empty-frame", "EmptyFrame", "a frame of length 0"),
    Violation("oversized-frame", "FrameTooLarge", "a frame of 2147483648 bytes, where at most 1048576"),
    Violation("result-too-large", "FrameTooLarge", "where at most 1048576 were agreed (max_frame)"),
    Violation("garbage-frame", "MalformedValue", "a frame of 5 bytes is not one MessagePack value"),
    Violation("trailing-bytes", "TrailingBytes", "2 bytes behind the value"),
    Violation("not-a-message", "InvalidMessage", "a message begins with 0, 1 or 2, not 7"),
    Violation("error-is-text", "InvalidMessage", "an error is nil or a map with code and message"),
    Violation("answers-unknown-id", "UnknownId", "which was never made"),
    Violation("item-without-credit", "CreditExceeded", "beyond the credit"),
    Violation("same-id-twice", "DuplicateId", "request id 0 is still in use"),
    Violation("exits-inside-a-frame", "TruncatedFrame", "the stream ended inside a frame"),
]


@pytest.mark.parametrize("case", IN_CALL, ids=lambda case: case.fault)
async def test_a_violation_in_a_call(case: Violation) -> None:
    async with scene(faulty(case.fault), max_frame="1MiB") as seen:
        error = await outcome(seen.call("go"))
        assert type(error) is ProtocolViolation
        assert error.code == "data_loss"
        assert (error.service, error.method, error.replica) == ("faulty", "go", 0)
        verdict = verdict_of(error)
        assert (verdict.cause, verdict.name, verdict.normal) == ("protocol", "protocol", False)
        assert verdict.detail.startswith(f"broke the protocol: {case.name}: ")
        assert case.text in verdict.detail
        assert verdict.detail in str(error)
        assert str(error).startswith("faulty.go got no answer: worker faulty/0 (pid ")
        assert verdict.in_flight == (1,)

        assert await seen.call("echo", "again") == "again"
        assert seen.replica()["restarts"] == 1
        assert seen.deaths() == [verdict.as_dict()]


async def test_the_first_of_two_answers_counts() -> None:
    async with scene(faulty("answers-twice")) as seen:
        assert await seen.call("go") == "first"
        (death,) = await seen.until("died")
        assert death["verdict"]["cause"] == "protocol"
        assert "AnsweredTwice: an answer for request 1, which was answered already" in death["verdict"]["detail"]
        assert await seen.call("echo", "again") == "again"
        assert seen.replica()["restarts"] == 1


AT_START = [
    Violation("prints-before-hello", "StdoutPolluted", "text where a frame was due: 'loading the model\\n"),
    Violation("hello-version-2", "UnsupportedVersion", "the worker chose version 2 of the protocol"),
    Violation("hello-rubbish", "InvalidHello", "$/hello is answered by a map, not 'rubbish'"),
    Violation("casts-before-hello", "HandshakeExpected", "before the handshake was done"),
]


@pytest.mark.parametrize("case", AT_START, ids=lambda case: case.fault)
async def test_a_violation_at_the_start(case: Violation) -> None:
    async with scene(faulty(case.fault)) as seen:
        (death,) = await seen.until("died")
        verdict = death["verdict"]
        assert (verdict["cause"], verdict["ready"]) == ("protocol", False)
        assert verdict["detail"].startswith(f"broke the protocol: {case.name}: ")
        assert case.text in verdict["detail"]

        await seen.until("gave_up")
        error = await outcome(seen.call("echo", 1))
        assert type(error) is ServiceDown
        assert "service faulty is down: failed to start child faulty/0" in str(error)
        assert verdict["detail"] in str(error)
        assert seen.replica()["restarts"] == 0


async def test_a_second_answer_to_hello() -> None:
    async with scene(faulty("hello-twice"), intensity=2) as seen:
        (gave_up,) = await seen.until("gave_up")
        assert "reached_max_restart_intensity" in gave_up["text"]
        assert [verdict["restarts"] for verdict in seen.deaths()] == [0, 1, 2]
        assert all("AnsweredTwice: an answer for request 0" in verdict["detail"] for verdict in seen.deaths())
        assert type(await outcome(seen.call("echo", 1))) is ServiceDown


# What looks odd, and is right or the worker's own business.


@pytest.mark.parametrize("fault", ["hello-error", "slow-loris"])
async def test_what_must_work(fault: str) -> None:
    async with scene(faulty(fault)) as seen:
        values: list[Any] = ["a", 1, None, [0.5, {"deep": [b"bytes"]}], "x" * 2000]
        assert await asyncio.gather(*(seen.call("echo", value) for value in values)) == values
        assert await seen.orch.map("faulty.echo", range(20)) == list(range(20))
        assert seen.deaths() == []


BATCHES = [
    ("batch-too-few", "the worker answered a batch of 1 with 0 outcomes, not with as many pairs"),
    ("batch-too-many", "the worker answered a batch of 1 with 1000 outcomes, not with as many pairs"),
    ("batch-none", "the worker answered a batch of 1 with None, not with as many pairs"),
    ("batch-no-pairs", "the worker's outcome for an item of a batch is no pair [error, result]: 1"),
    ("batch-rubbish-errors", "an error is nil or a map with code and message, not 'it went wrong'"),
]


@pytest.mark.parametrize(("fault", "text"), BATCHES, ids=[fault for fault, _ in BATCHES])
async def test_a_batch_answered_wrongly(fault: str, text: str) -> None:
    async with scene(faulty(fault)) as seen:
        outcomes = await seen.orch.map("faulty.go", range(20), return_exceptions=True)
        assert len(outcomes) == 20
        assert all(type(error) is WorkerError and error.code == "internal" for error in outcomes)
        assert text in str(outcomes[0])
        with pytest.raises(WorkerError, match=r"^faulty\.go: the worker('s)? "):
            await seen.orch.map("faulty.go", range(5))
        assert await seen.orch.map("faulty.echo", range(20)) == list(range(20))
        assert seen.deaths() == []


async def test_deadlines_that_are_none() -> None:
    async with scene(faulty("odd-deadlines")) as seen:
        nan, infinite, negative, endless, text, boolean = await seen.call("go")
        assert (nan, negative) == ("deadline_exceeded", "deadline_exceeded")
        assert (infinite, endless) == ("answered", "answered")
        assert (text, boolean) == ("answered", "answered")
        assert await seen.call("echo", 1) == 1
        assert seen.deaths() == []


async def test_a_worker_that_takes_tiny_frames_only() -> None:
    async with scene(faulty("hello-tiny-frames")) as seen:
        error = await outcome(seen.call("echo", "a text that is too long for this one"))
        assert isinstance(error, MlportsError)
        assert "cannot be sent: the message is" in str(error)
        assert "the peer accepts frames of 32 (max_frame)" in str(error)
        assert await seen.call("echo", 1) == 1
