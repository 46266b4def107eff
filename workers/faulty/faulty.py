"""Workers that break the protocol, or die, on purpose: `python faulty.py FAULT`. README.md says what each must lead to.

They speak raw frames, because the SDK would not let them break a rule. A worker whose fault is one of starting
misbehaves in place of its answer to `$/hello`. Every other says hello, gives back what `echo` is given, as it should,
and misbehaves each time that `go` is called.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import msgpack

MIB = 1024 * 1024
BODY = 8 * MIB  # bytes of a request, and of its answer, that no pipe holds
BIG_NUMBERS = [0.1 * number for number in range(40)]


class Wire:
    """Frames in and out on descriptors 0 and 1; `send_bytes` writes what may be no frame at all."""

    def __init__(self) -> None:
        self.bytewise = False

    def receive(self) -> list[Any] | None:
        """The next message, or None at the end of the input."""
        head = self.read(4)
        if len(head) < 4:
            return None
        (length,) = struct.unpack(">I", head)
        message: list[Any] = msgpack.unpackb(self.read(length))
        return message

    def read(self, count: int) -> bytes:
        """`count` bytes, fewer at the end of the input."""
        data = b""
        while len(data) < count and (piece := os.read(0, count - len(data))):
            data += piece
        return data

    def send(self, *messages: list[Any]) -> None:
        """Writes each message in a frame of its own, all together."""
        self.send_bytes(b"".join(map(frame, messages)))

    def answer(self, number: int, result: Any) -> None:
        """The answer to request `number`."""
        self.send([1, number, None, result])

    def send_bytes(self, data: bytes) -> None:
        """Writes bytes as they are."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(1, rest[:1] if self.bytewise else rest) :]


def frame(message: Any) -> bytes:
    """A message in its frame."""
    payload: bytes = msgpack.packb(message)
    return struct.pack(">I", len(payload)) + payload


HELLO: dict[str, Any] = {
    "protocol": 1,
    "name": "faulty",
    "language": "python",
    "features": ["batch", "cancel"],
    "methods": {"echo": {}, "go": {}},
    "concurrency": 64,
}

Start = Callable[[Wire, int], None]  # is given the id of `$/hello`
Go = Callable[[Wire, list[Any]], None]  # is given the request

AT_START: dict[str, Start] = {}
IN_CALL: dict[str, Go] = {}


def at_start(function: Start) -> Start:
    """Decorator: a fault that stands in place of the answer to hello."""
    AT_START[function.__name__.replace("_", "-")] = function
    return function


def in_call(function: Go) -> Go:
    """Decorator: a fault that stands in place of the answer to `go`."""
    IN_CALL[function.__name__.replace("_", "-")] = function
    return function


# -- at the start


@at_start
def prints_before_hello(wire: Wire, number: int) -> None:
    wire.send_bytes(b"loading the model\n")
    wire.answer(number, HELLO)


@at_start
def exits_before_hello(wire: Wire, number: int) -> None:
    sys.stderr.write("there is no file m.skops\n")
    sys.exit(3)


@at_start
def segfaults_before_hello(wire: Wire, number: int) -> None:
    ctypes.string_at(0)


@at_start
def never_says_hello(wire: Wire, number: int) -> None:
    signal.pause()


@at_start
def closes_stdout_before_hello(wire: Wire, number: int) -> None:
    os.close(1)
    signal.pause()


@at_start
def hello_version_2(wire: Wire, number: int) -> None:
    wire.answer(number, {**HELLO, "protocol": 2})


@at_start
def hello_rubbish(wire: Wire, number: int) -> None:
    wire.answer(number, "rubbish")


@at_start
def hello_twice(wire: Wire, number: int) -> None:
    wire.send([1, number, None, HELLO], [1, number, None, HELLO])


@at_start
def casts_before_hello(wire: Wire, number: int) -> None:
    wire.send([2, "neighbour.tick", [1]])
    wire.answer(number, HELLO)


@at_start
def hello_tiny_frames(wire: Wire, number: int) -> None:
    wire.answer(number, {**HELLO, "max_frame": 32})


@at_start
def hello_error(wire: Wire, number: int) -> None:
    wire.send([1, number, {"code": "unimplemented", "message": "no method $/hello"}, None])


@at_start
def slow_loris(wire: Wire, number: int) -> None:
    wire.bytewise = True
    wire.answer(number, HELLO)


# -- in a call: what it writes


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


# -- in a call: how it ends


@in_call
def exits_0(wire: Wire, request: list[Any]) -> None:
    os._exit(0)


@in_call
def exits_1(wire: Wire, request: list[Any]) -> None:
    sys.stderr.write("CUDA out of memory\n")
    sys.exit(1)


@in_call
def kills_itself(wire: Wire, request: list[Any]) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@in_call
def segfaults(wire: Wire, request: list[Any]) -> None:
    ctypes.string_at(0)


@in_call
def aborts(wire: Wire, request: list[Any]) -> None:
    os.abort()


@in_call
def dies_while_it_calls(wire: Wire, request: list[Any]) -> None:
    wire.send([0, 0, "neighbour.tick", [1]], [0, 1, "neighbour.tick", [2]])
    wire.receive()
    os._exit(1)


@in_call
def exits_inside_a_frame(wire: Wire, request: list[Any]) -> None:
    wire.send_bytes(frame([1, request[1], None, BIG_NUMBERS])[:100])
    os._exit(0)


@in_call
def killed_inside_a_frame(wire: Wire, request: list[Any]) -> None:
    wire.send_bytes(frame([1, request[1], None, BIG_NUMBERS])[:100])
    os.kill(os.getpid(), signal.SIGKILL)


@in_call
def leaves_a_grandchild(wire: Wire, request: list[Any]) -> None:
    subprocess.Popen(["sleep", "1000"])
    os._exit(1)


# -- in a call: what it does not do


@in_call
def never_answers(wire: Wire, request: list[Any]) -> None:
    return


@in_call
def stops_itself(wire: Wire, request: list[Any]) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


@in_call
def ignores_everything(wire: Wire, request: list[Any]) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    wire.answer(request[1], "done")
    while True:
        signal.pause()


@in_call
def takes_its_leave(wire: Wire, request: list[Any]) -> None:
    wire.answer(request[1], "done")
    while wire.receive() is not None:
        pass
    os.close(1)
    time.sleep(1.3)  # it has something to save
    sys.exit(0)


@in_call
def closes_stdout(wire: Wire, request: list[Any]) -> None:
    os.close(1)
    signal.pause()


@in_call
def closes_stdin(wire: Wire, request: list[Any]) -> None:
    os.close(0)
    wire.answer(request[1], "done")
    signal.pause()


# -- none of the above


def write_before_reading() -> None:
    """Answers each request with 8 MiB, and reads the rest of it only after that."""
    wire = Wire()
    while len(head := wire.read(4)) == 4:
        (length,) = struct.unpack(">I", head)
        start = wire.read(min(length, 64))
        unpacker: Any = msgpack.Unpacker()
        unpacker.feed(start)
        unpacker.read_array_header()
        unpacker.skip()
        number, method = unpacker.unpack(), unpacker.unpack()
        wire.answer(number, HELLO if method == "$/hello" else bytes(BODY))
        wire.read(length - len(start))


def say_hello(wire: Wire, number: int) -> None:
    """The right answer to `$/hello`."""
    wire.answer(number, HELLO)


def serve(fault: str) -> None:
    """Answers what comes, until the input ends, except where the fault says otherwise."""
    wire = Wire()
    while (message := wire.receive()) is not None:
        if message[0] != 0:
            continue
        number, method = message[1], message[2]
        if method == "$/hello":
            AT_START.get(fault, say_hello)(wire, number)
        elif method == "go" and fault in IN_CALL:
            IN_CALL[fault](wire, message)
        elif "batch" in (message[4] if len(message) > 4 else {}):
            wire.answer(number, [[None, params[0]] for params in message[3]])
        else:
            wire.answer(number, message[3][0])


def main() -> None:
    faults = [*AT_START, *IN_CALL, "writes-before-reading"]
    if len(sys.argv) != 2 or sys.argv[1] not in faults:
        sys.stderr.write(f"usage: faulty.py FAULT, where FAULT is one of: {', '.join(faults)}\n")
        raise SystemExit(2)
    # Ctrl-C is for the orchestrator; and nobody wants a core file of those that crash.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.argv[1] == "writes-before-reading":
        write_before_reading()
    else:
        serve(sys.argv[1])


if __name__ == "__main__":
    main()
