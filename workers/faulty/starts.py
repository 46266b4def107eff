"""Faults of starting: what stands in place of the answer to `$/hello`, and what a worker does once it is up."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

from workers.faulty.faults import at_start
from workers.faulty.wire import HELLO, Wire

# -- what it does in place of its answer


@at_start
def prints_before_hello(wire: Wire, number: int) -> None:
    wire.send_bytes(b"loading the model\n")
    wire.answer(number, HELLO)


@at_start
def exits_before_hello(wire: Wire, number: int) -> None:
    sys.stderr.write("there is no file m.skops\n")
    sys.exit(3)


@at_start
def exits_0_before_hello(wire: Wire, number: int) -> None:
    sys.exit(0)


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


# -- what it answers


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


# -- how it fares when it is started again


@at_start
def exits_after_hello(wire: Wire, number: int) -> None:
    wire.answer(number, HELLO)
    sys.exit(1)


@at_start
def never_comes_back(wire: Wire, number: int) -> None:
    if wire.times() > 1:
        sys.exit(3)
    wire.answer(number, HELLO)
    wire.receive()
    sys.exit(1)


@at_start
def dies_on_the_third_start(wire: Wire, number: int) -> None:
    start = wire.times()
    if start == 3:
        sys.exit(3)
    wire.answer(number, HELLO)
    if start < 3:  # there would be no third one otherwise
        wire.receive()
        sys.exit(1)
