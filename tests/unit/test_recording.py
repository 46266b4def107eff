"""The parts of a recording: the ring's limits, the file's refusals, what redaction touches, what batches become."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from mlports import Verdict
from mlports.core.recording import FROM_WORKER, TO_WORKER, decode_recording, encode_recording
from mlports.core.redaction import Redaction
from mlports.core.ring import Ring
from mlports.errors import RecordingError
from mlports.replay import Script
from mlports.replay.batches import items_in, with_items
from mlports.replay.comparing import is_same_end, kind_of
from mlports.replay.script import Await
from mlports_protocol import parse_message
from tests.recordings import calls, recording

HEADER = {"verdict": {"cause": "exit"}, "command": ["worker"], "worker": {}, "frames": 0}


def framed(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value)
    return len(packed).to_bytes(4, "big") + packed


def test_what_is_too_large_for_a_ring_empties_it_and_is_not_kept() -> None:
    ring: Ring[str] = Ring(3, 10)
    ring.pin("hello")
    ring.add("a", 4)
    ring.add("b", 11)
    assert (ring.entries(), ring.bytes, ring.forgotten) == (["hello"], 0, 2)
    with pytest.raises(ValueError, match="at least 1 entry"):
        Ring(0, 1)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"{}", "no recording of mlports"),
        (framed({"format": "something-else", "version": 1}), "no recording of mlports"),
        (framed({"format": "mlports-recording", "version": 2}), "of version 2, and this mlports reads version 1"),
        (framed({"format": "mlports-recording", "version": 1}), "no usable frames, verdict, command, worker"),
        (b"".join(encode_recording({**HEADER, "verdict": {}}, [])), "no usable verdict"),
        (b"".join(encode_recording({**HEADER, "redacted": [1]}, [])), "no usable redacted"),
        (b"".join(encode_recording(HEADER, [])) + framed([0.0, 2, b""]), "its record 1 is no"),
        (b"".join(encode_recording(HEADER, [])) + framed("text"), "its record 1 is no"),
        (b"".join(encode_recording(HEADER, [])) + framed(7), "its record 1 is no"),
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(RecordingError, match=f"^the file .*{told}"):
        decode_recording(data, "the file")


def redacted(rules: bool | list[str], *messages: tuple[int, Any]) -> list[Any]:
    redaction = Redaction(rules)
    return [msgpack.unpackb(redaction.redact(direction, msgpack.packb(message))) for direction, message in messages]


def test_all_values_are_redacted_and_what_steers_is_not() -> None:
    assert redacted(
        True,
        (TO_WORKER, [0, 0, "$/hello", [{"config": {"key": "value"}}]]),
        (FROM_WORKER, [1, 0, None, {"name": "digits"}]),
        (TO_WORKER, [0, 7, "predict", [[1.5, "ab"], {"k": 3}], {"credit": 4}]),
        (FROM_WORKER, [2, "$/item", [7, "secret"]]),
        (FROM_WORKER, [2, "$/log", ["info", "a secret", {"user": "me"}]]),
        (FROM_WORKER, [0, 7, "other.call", ["of mine"]]),
        (TO_WORKER, [1, 7, None, True]),
        (TO_WORKER, [2, "$/credit", [7, 4]]),
        (FROM_WORKER, [1, 7, {"code": "unknown", "message": "secret", "data": {"x": 1}, "retryable": True}, None]),
        (FROM_WORKER, [1, 99, None, "of a request that was forgotten"]),
    ) == [
        [0, 0, "$/hello", [{"config": {"key": "value"}}]],
        [1, 0, None, {"name": "digits"}],
        [0, 7, "predict", [[0.0, "xx"], {"k": 0}], {"credit": 4}],
        [2, "$/item", [7, "xxxxxx"]],
        [2, "$/log", ["info", "xxxxxxxx", {"user": "xx"}]],
        [0, 7, "other.call", ["xxxxxxx"]],
        [1, 7, None, False],
        [2, "$/credit", [7, 4]],
        [1, 7, {"code": "unknown", "message": "xxxxxx", "data": {"x": 0}, "retryable": True}, None],
        [1, 99, None, "x" * 31],
    ]


def test_methods_and_keys_are_redacted_alone() -> None:
    assert redacted(
        ["login", "*.token", "find.name"],
        (TO_WORKER, [0, 1, "login", ["me"]]),
        (FROM_WORKER, [1, 1, None, "welcome"]),
        (TO_WORKER, [0, 2, "find", [{"name": "me", "age": 3, "token": [1]}]]),
        (FROM_WORKER, [0, 1, "accounts.login", ["me"]]),
        (TO_WORKER, [2, "note", [{"token": b"ab", "text": "t"}]]),
    ) == [
        [0, 1, "login", ["xx"]],
        [1, 1, None, "xxxxxxx"],
        [0, 2, "find", [{"name": "xx", "age": 3, "token": [0]}]],
        [0, 1, "accounts.login", ["xx"]],
        [2, "note", [{"token": b"\0\0", "text": "t"}]],
    ]


def test_an_array_keeps_its_layout_and_loses_its_elements() -> None:
    head = msgpack.packb(["<f4", [2]])
    array = msgpack.ExtType(1, head + b"\x01" * 8)
    message = msgpack.packb([0, 1, "f", [array]])
    kept = msgpack.unpackb(Redaction(True).redact(TO_WORKER, message))[3][0]
    assert kept == msgpack.ExtType(1, head + bytes(8))


@pytest.mark.parametrize("payload", [b"\xc1", msgpack.packb([3, 1]), msgpack.packb("text"), b"\x91" * 2000 + b"\x01"])
def test_what_cannot_be_taken_apart_is_not_kept(payload: bytes) -> None:
    assert Redaction(True).redact(TO_WORKER, payload) == b""


def test_a_script_waits_for_what_had_been_answered() -> None:
    said: list[tuple[int, list[Any]]] = [
        (TO_WORKER, [0, 1, "f", [], {"deadline_ms": 5, "credit": 2}]),
        (FROM_WORKER, [2, "$/item", [1, "a"]]),
        (TO_WORKER, [2, "$/credit", [1, 1]]),
        (TO_WORKER, [0, 2, "g", [], {"input": True}]),
        (FROM_WORKER, [2, "$/input_credit", [2, 3]]),
        (FROM_WORKER, [1, 1, None, None]),
        (TO_WORKER, [2, "$/input", [2, "x"]]),
        (FROM_WORKER, [1, 77, None, "forgotten"]),
        (TO_WORKER, [2, "cast", []]),
    ]
    script = Script(recording(said))
    assert [step if isinstance(step, Await) else step.message for step in script.steps()] == [
        parse_message(said[0][1])._replace(meta={"credit": 2}),
        Await(1, "items", 1),
        parse_message(said[2][1]),
        parse_message(said[3][1]),
        Await(2, "input_credit", 3),
        Await(1, "answer"),
        parse_message(said[6][1]),
        parse_message(said[8][1]),
    ]
    assert len(script.units) == 3
    second = script.units[1]
    assert [frame.payload for frame in script.cut([second]).frames[2:]] == [
        msgpack.packb(said[place][1]) for place in (3, 4, 6)
    ]
    assert Script(recording(said), deadlines=True).requests[1].meta == {"deadline_ms": 5, "credit": 2}


def test_a_recording_without_hello_is_refused() -> None:
    made = recording(calls(["f"]))
    with pytest.raises(RecordingError, match="no \\$/hello"):
        Script(made._replace(frames=made.frames[1:]))


def test_batches_are_reduced_by_their_items_rows_and_columns() -> None:
    column = msgpack.ExtType(1, msgpack.packb(["<i2", [3, 1]]) + b"aabbcc")
    made = recording(
        [
            (TO_WORKER, [0, 1, "f", [[1], [2], [3]], {"batch": 3}]),
            (FROM_WORKER, [1, 1, None, [[None, 1]] * 3]),
            (TO_WORKER, [0, 2, "g", [column, ["x", "y", "z"]], {"batch": 3, "columns": True}]),
            (TO_WORKER, [0, 3, "h", [[1]], {"batch": 3}]),
        ]
    )
    assert items_in(made) == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2)]
    left = [msgpack.unpackb(frame.payload) for frame in with_items(made, [(2, 0), (2, 2)]).frames[2:]]
    rows = msgpack.ExtType(1, msgpack.packb(["<i2", [2, 1]]) + b"aacc")
    assert left == [
        [0, 2, "g", [rows, ["x", "z"]], {"batch": 2, "columns": True}],
        [0, 3, "h", [[1]], {"batch": 3}],
    ]
    (first, *_) = with_items(made, [(1, 1)]).frames[2:]
    assert msgpack.unpackb(first.payload) == [0, 1, "f", [[2]], {"batch": 1}]


def test_ends_are_the_same_by_their_kind_and_number() -> None:
    def died(cause: Any, status: int | None = None, detail: str = "") -> Verdict:
        return Verdict("digits", 0, 1, cause, detail, status)

    assert kind_of(None) == kind_of(died("stopped", -9)) == kind_of(died("exit", 0)) == ("end", None)
    assert kind_of(died("exit", 3)) != kind_of(died("exit", 4))
    assert kind_of(died("signal", -11)) == ("signal", -11)
    broken = kind_of(died("protocol", -9, "broke the protocol: EmptyFrame: a frame of length 0"))
    assert broken == ("protocol", "EmptyFrame")
    assert is_same_end(("protocol", None), broken)
    assert not is_same_end(("protocol", "UnknownId"), broken)
    assert kind_of(died("hang", -9)) == ("hang", None)
