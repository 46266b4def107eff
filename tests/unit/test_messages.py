"""The three messages: what a decoded value must look like to be one, and what is said of one that is not."""

from __future__ import annotations

import time
from typing import Any

import msgpack
import numpy as np
import pytest

from mlports_protocol import CODES, MAX_ID, InvalidMessage, Message, Notification, Request, Response, parse_message
from mlports_protocol.messages import parse_error

ERROR = {"code": "unknown", "message": "no"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([0, 0, "f", []], Request(0, "f", [])),
        ([0, MAX_ID, "f", [1], {"deadline_ms": 5}], Request(MAX_ID, "f", [1], {"deadline_ms": 5})),
        ([0, 1, b"f", []], Request(1, "f", [])),
        ([0, 1, "f", [], None], Request(1, "f", [])),
        ([0, 1, "f", [], {}, "more", 2], Request(1, "f", [], {})),
        ([0, 1, "f", [], {b"credit": 1, "x": b"bytes"}], Request(1, "f", [], {"credit": 1, "x": b"bytes"})),
        ([1, 2, None, 3], Response(2, None, 3)),
        ([1, 2, None, None], Response(2)),
        ([1, 2, ERROR, None], Response(2, ERROR)),
        ([1, 2, {b"code": b"unknown", b"message": "no"}, None], Response(2, ERROR)),
        (
            [1, 2, {**ERROR, "data": b"x", "retryable": True}, None],
            Response(2, {**ERROR, "data": b"x", "retryable": True}),
        ),
        ([1, 2, {**ERROR, "code": "teapot", "new": 1}, None], Response(2, {**ERROR, "code": "teapot", "new": 1})),
        ([1, 2, None, 3, {"m": 1}, "more"], Response(2, None, 3, {"m": 1})),
        ([2, "g", []], Notification("g", [])),
        ([2, b"$/item", [1, 2], {"m": 1}, 7], Notification("$/item", [1, 2], {"m": 1})),
    ],
)
def test_what_is_a_message(value: Any, message: Message) -> None:
    parsed = parse_message(value)
    assert parsed == message
    assert type(parsed) is type(message)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, "array"),
        ({}, "array"),
        ("hello", "'hello'"),
        ((0, 1, "f", []), "array"),
        ([], "array"),
        ([3, 1, "f", []], "0, 1 or 2, not 3"),
        ([-1], "not -1"),
        ([True, 1, None, 1], "not True"),
        ([False, 1, "f", []], "not False"),
        ([0.0, 1, "f", []], "not 0.0"),
        (["0", 1, "f", []], "not '0'"),
        ([None], "not None"),
        ([[]], r"not \[\]"),
        ([0], "request has at least 4 elements, this one 1"),
        ([0, 1, "f"], "at least 4 elements, this one 3"),
        ([1, 1, None], "response has at least 4 elements, this one 3"),
        ([2, "g"], "notification has at least 3 elements, this one 2"),
        ([0, -1, "f", []], "id .* not -1"),
        ([0, MAX_ID + 1, "f", []], f"id .* not {MAX_ID + 1}"),
        ([0, 1.0, "f", []], "id .* not 1.0"),
        ([0, True, "f", []], "id .* not True"),
        ([0, None, "f", []], "id .* not None"),
        ([1, "1", None, 1], "id .* not '1'"),
        ([1, [1], None, 1], r"id .* not \[1\]"),
        ([0, 1, "", []], "method .* not ''"),
        ([0, 1, b"", []], "method .* not b''"),
        ([0, 1, None, []], "method .* not None"),
        ([0, 1, b"\xff", []], "method .* not b'"),
        ([0, 1, ["f"], []], "method"),
        ([2, 5, []], "notification's method .* not 5"),
        ([0, 1, "f", None], "params .* not None"),
        ([0, 1, "f", {}], "params .* not {}"),
        ([2, "g", "abc"], "params .* not 'abc'"),
        ([0, 1, "f", [], []], r"meta .* not \[\]"),
        ([0, 1, "f", [], 0], "meta .* not 0"),
        ([1, 1, None, 1, "x"], "meta .* not 'x'"),
        ([2, "g", [], False], "meta .* not False"),
        ([1, 1, "failed", None], "error .* not 'failed'"),
        ([1, 1, False, None], "error .* not False"),
        ([1, 1, [], None], "error"),
        ([1, 1, {}, None], "code .* not None"),
        ([1, 1, {"code": "unknown"}, None], "message .* not None"),
        ([1, 1, {"message": "no"}, None], "code .* not None"),
        ([1, 1, {"code": 5, "message": "no"}, None], "code .* not 5"),
        ([1, 1, {"code": b"\xff", "message": "no"}, None], "code .* not b'"),
        ([1, 1, {**ERROR, "retryable": 1}, None], "retryable .* not 1"),
        ([1, 1, {**ERROR, "retryable": None}, None], "retryable .* not None"),
        ([1, 1, ERROR, 0], "nil for its result, not 0"),
        ([1, 1, ERROR, False], "nil for its result, not False"),
    ],
)
def test_what_is_not_a_message(value: Any, said: str) -> None:
    with pytest.raises(InvalidMessage, match=said):
        parse_message(value)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(nested(1000), id="deep-list"),
        pytest.param({"a": nested(1000)}, id="deep-in-map"),
        pytest.param("x" * 10_000_000, id="long-str"),
        pytest.param(b"\xff" * 10_000_000, id="long-bin"),
        pytest.param(list(range(1_000_000)), id="long-list"),
        pytest.param({number: number for number in range(300_000)}, id="long-map"),
        pytest.param(msgpack.ExtType(5, bytes(10_000_000)), id="long-ext"),
        pytest.param(np.zeros((1000, 1000)), id="array"),
        pytest.param(np.frombuffer(b"\xff" * 4, "<U1"), id="array-without-a-repr"),
        pytest.param(2**64 - 1, id="int"),
    ],
)
def test_what_is_wrong_is_shown_shortly_whatever_it_is(value: Any) -> None:
    elsewhere: list[Any] = [
        value,
        [value, 1, "f", []],
        [0, value, "f", []],
        [0, 1, "", value],
        [0, 1, "f", 0 if isinstance(value, list) else value],
        [0, 1, "f", [], 0 if isinstance(value, dict) else value],
        [1, 1, {"code": "unknown", "message": 5, "data": value}, None],
        [1, 1, {"code": value if not isinstance(value, str) else 5, "message": "no"}, None],
        [1, 1, ERROR, value],
    ]
    began = time.perf_counter()
    for message in elsewhere:
        with pytest.raises(InvalidMessage) as caught:
            parse_message(message)
        assert len(str(caught.value)) < 180
    assert time.perf_counter() - began < 3


def test_an_error_is_parsed_into_a_new_map() -> None:
    sent = {b"code": b"internal", "message": "m", 5: 6}
    assert parse_error(sent) == {"code": "internal", "message": "m", 5: 6}
    assert sent == {b"code": b"internal", "message": "m", 5: 6}


@pytest.mark.parametrize(
    ("message", "parts"),
    [
        (Request(1, "f", [2]), [0, 1, "f", [2]]),
        (Request(1, "f", [2], {}), [0, 1, "f", [2]]),
        (Request(1, "f", [2], {"credit": 3}), [0, 1, "f", [2], {"credit": 3}]),
        (Response(1, None, 2), [1, 1, None, 2]),
        (Response(1, ERROR), [1, 1, ERROR, None]),
        (Response(1, None, 2, {"m": 1}), [1, 1, None, 2, {"m": 1}]),
        (Notification("g", []), [2, "g", []]),
        (Notification("g", [], {"m": 1}), [2, "g", [], {"m": 1}]),
    ],
)
def test_a_message_as_the_array_that_is_sent(message: Message, parts: list[Any]) -> None:
    assert message.as_list() == parts


def test_the_codes_are_those_of_grpc() -> None:
    assert len(CODES) == 13
    assert {"cancelled", "unknown", "deadline_exceeded", "unauthenticated"} <= CODES
    assert all(code == code.lower() for code in CODES)
