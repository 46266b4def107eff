"""Faults in a call: what it writes, in frames, on stderr and into the log."""

from __future__ import annotations

import os
import signal
import struct
from typing import Any

import msgpack

from workers.faulty.faults import in_call
from workers.faulty.wire import BIG_NUMBERS, MIB, Wire, frame


@in_call
def prints_between_frames(wire: Wire, request: list[Any]) -> None:
    wire.send_bytes(b"loss: 0.25\n")
    wire.answer(request[1], None)


@in_call
def prints_inside_a_frame(wire: Wire, request: list[Any]) -> None:
    # As two threads do: the second one's text gets between the halves of the first one's write.
    whole = frame([1, request[1], None, BIG_NUMBERS])
    half = 4 + 7 + 9 * len(BIG_NUMBERS) // 2
    wire.send_bytes(whole[:half] + b"loss: 0.25, accuracy: 0.75 after 100 batches of 32\n" + whole[half:])


@in_call
def floods_stdout(wire: Wire, request: list[Any]) -> None:
    for _ in range(64):
        wire.send_bytes(b"\xff" * MIB)
    signal.pause()


@in_call
def empty_frame(wire: Wire, request: list[Any]) -> None:
    wire.send_bytes(bytes(4))
    signal.pause()


@in_call
def oversized_frame(wire: Wire, request: list[Any]) -> None:
    wire.send_bytes(struct.pack(">I", 2**31) + b"\x94")
    signal.pause()


@in_call
def result_too_large(wire: Wire, request: list[Any]) -> None:
    wire.answer(request[1], bytes(2 * MIB))


@in_call
def garbage_frame(wire: Wire, request: list[Any]) -> None:
    wire.send_bytes(struct.pack(">I", 5) + b"\xc1\xc1\xc1\xc1\xc1")
    signal.pause()


@in_call
def trailing_bytes(wire: Wire, request: list[Any]) -> None:
    payload = msgpack.packb([1, request[1], None, None]) + b"\x01\x02"
    wire.send_bytes(struct.pack(">I", len(payload)) + payload)
    signal.pause()


@in_call
def not_a_message(wire: Wire, request: list[Any]) -> None:
    wire.send([7, request[1], None, None])
    signal.pause()


@in_call
def error_is_text(wire: Wire, request: list[Any]) -> None:
    wire.send([1, request[1], "it went wrong", None])
    signal.pause()


@in_call
def answers_unknown_id(wire: Wire, request: list[Any]) -> None:
    wire.answer(request[1] + 1000, None)
    signal.pause()


@in_call
def answers_twice(wire: Wire, request: list[Any]) -> None:
    wire.send([1, request[1], None, "first"], [1, request[1], None, "second"])
    signal.pause()


@in_call
def item_without_credit(wire: Wire, request: list[Any]) -> None:
    wire.send([2, "$/item", [request[1], 1]])
    signal.pause()


@in_call
def same_id_twice(wire: Wire, request: list[Any]) -> None:
    wire.send([0, 0, "neighbour.tick", [1]], [0, 0, "neighbour.tick", [2]])
    signal.pause()


@in_call
def warm_up_fails(wire: Wire, request: list[Any]) -> None:
    wire.send([1, request[1], {"code": "failed_precondition", "message": "there is no model"}, None])


@in_call
def odd_deadlines(wire: Wire, request: list[Any]) -> None:
    deadlines = [float("nan"), float("inf"), -1, 1e300, "soon", True]
    for number, deadline in enumerate(deadlines):
        wire.send([0, number, "neighbour.tick", [number], {"deadline_ms": deadline}])
    answers = [wire.receive() for _ in deadlines]
    codes = {answer[1]: answer[2]["code"] if answer[2] else "answered" for answer in answers if answer}
    wire.answer(request[1], [codes[number] for number in range(len(deadlines))])


@in_call
def floods_logs(wire: Wire, request: list[Any]) -> None:
    log = frame([2, "$/log", ["info", "a step", {}]])
    for _ in range(100):
        wire.send_bytes(log * 500)
    wire.answer(request[1], "done")


@in_call
def floods_stderr(wire: Wire, request: list[Any]) -> None:
    lines = (b"x" * 127 + b"\n") * 512
    for _ in range(100 * MIB // len(lines)):
        os.write(2, lines)
    wire.answer(request[1], "done")


@in_call
def stderr_without_newlines(wire: Wire, request: list[Any]) -> None:
    for _ in range(16):
        os.write(2, b"." * MIB)
    wire.answer(request[1], "done")


@in_call
def stderr_binary(wire: Wire, request: list[Any]) -> None:
    os.write(2, bytes(range(256)) * 64 + b"\n")
    wire.answer(request[1], "done")


@in_call
def batch_too_few(wire: Wire, request: list[Any]) -> None:
    wire.answer(request[1], [[None, 1]] * (len(request[3]) - 1))


@in_call
def batch_too_many(wire: Wire, request: list[Any]) -> None:
    wire.answer(request[1], [[None, 1]] * 1000)


@in_call
def batch_none(wire: Wire, request: list[Any]) -> None:
    wire.answer(request[1], None)


@in_call
def batch_no_pairs(wire: Wire, request: list[Any]) -> None:
    wire.answer(request[1], [1] * len(request[3]))


@in_call
def batch_rubbish_errors(wire: Wire, request: list[Any]) -> None:
    wire.answer(request[1], [["it went wrong", None]] * len(request[3]))
