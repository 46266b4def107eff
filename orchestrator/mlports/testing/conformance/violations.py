"""What ends a conversation: each is answered by the worker's end, with a status other than 0 (SPEC.md 13)."""

from __future__ import annotations

from typing import Any

from mlports.testing.conformance.failures import Failed
from mlports.testing.conformance.rows import row
from mlports.testing.conformance.trial import Trial
from mlports.testing.conformance.wire import framed, packed

_BUSY = 0.4


def _violates(trial: Trial, data: bytes, what: str) -> None:
    talk = trial.start()
    talk.expect_probe(talk.probe(trial.has("echo")))
    talk.send_bytes(data, f"({what})")
    # Its input stays open: what it has seen must be enough.
    talk.ends_abnormally(what)


def _says(trial: Trial, message: list[Any], what: str) -> None:
    talk = trial.start()
    talk.expect_probe(talk.probe(trial.has("echo")))
    call = talk.new_call(str(message[2]), id=message[1]) if message[0] == 0 and message[1] >= 0 else None
    talk.send_bytes(packed(message), repr(message))
    talk.ends_abnormally(what, call)


@row("a frame of length 0 ends it", section="2.1", level="standard")
def empty_frame(trial: Trial) -> None:
    _violates(trial, bytes(4), "EmptyFrame")


@row("a length past max_frame ends it, by its 4 bytes alone", section="2.2", level="standard")
def too_large(trial: Trial) -> None:
    talk = trial.start(max_frame=65536)
    assert talk.peer is not None
    length = (talk.peer.max_frame + 1).to_bytes(4, "big")
    talk.send_bytes(length, "(a length of max_frame + 1, and nothing behind it)")
    talk.ends_abnormally("FrameTooLarge, its input being open")


@row("a length of 2^32 − 1 ends it", section="2.2", level="standard")
def far_too_large(trial: Trial) -> None:
    _violates(trial, b"\xff\xff\xff\xff", "FrameTooLarge")


@row("bytes behind the value in a frame end it", section="2.1", level="standard")
def trailing_bytes(trial: Trial) -> None:
    _violates(trial, framed(packed([2, "note", []])[4:] + b"\xc0"), "TrailingBytes")


@row("a payload that is no MessagePack ends it", section="3.1", level="standard")
def malformed(trial: Trial) -> None:
    _violates(trial, framed(b"\x94\x00\x01\xa4echo\x91\xc1"), "MalformedValue")


@row("an array that says to be longer than its frame ends it", section="3.1", level="standard")
def count_past_frame(trial: Trial) -> None:
    _violates(trial, framed(b"\x94\x00\x01\xa4echo\x91\xdd\xff\xff\xff\xff"), "MalformedValue")


@row("nesting of 1100 levels ends it, without a crash", section="3.5", level="standard")
def nested_too_deep(trial: Trial) -> None:
    talk = trial.start()
    talk.send_bytes(framed(b"\x94\x00\x01\xa4echo" + b"\x91" * 1101 + b"\xc0"), "(nesting of 1100 levels)")
    status = talk.wait_end("it to end after nesting of 1100 levels (MalformedValue)")
    if status <= 0:
        raise Failed("it to exit with a status other than 0", talk.how_it_ended())


@row("an array that is no message ends it", section="4", level="standard")
def no_message(trial: Trial) -> None:
    _says(trial, [3, 1, "echo", []], "InvalidMessage: a message of type 3")


@row("a value that is no array ends it", section="4", level="standard")
def no_array(trial: Trial) -> None:
    _violates(trial, packed("hello"), "InvalidMessage: a string")


@row("a request with params that are no array ends it", section="4.1", level="standard")
def params_no_array(trial: Trial) -> None:
    _says(trial, [0, 1, "echo", {"value": 1}], "InvalidMessage: params are a map")


@row("a request with a negative id ends it", section="4.1", level="standard")
def negative_id(trial: Trial) -> None:
    _says(trial, [0, -1, "echo", [1]], "InvalidMessage: id -1")


@row("an answer to nothing ends it", section="6.1", level="standard")
def answer_to_nothing(trial: Trial) -> None:
    _says(trial, [1, 4711, None, 1], "UnknownId")


@row("a request with an id that is open ends it", section="6.2", level="standard", needs=("sleep",), feature="ping")
def id_in_use(trial: Trial) -> None:
    talk = trial.start()
    talk.request("sleep", _BUSY, id=5)
    message = [0, 5, "sleep", [0]]
    talk.send_bytes(packed(message), repr(message))
    talk.ends_abnormally("a second request with id 5 (DuplicateId)")
