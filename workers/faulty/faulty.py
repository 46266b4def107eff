"""Workers that break the protocol, or die, on purpose: `python faulty.py FAULT`. README.md says what each must lead to.

They speak raw frames, because the SDK would not let them break a rule. A worker whose fault is one of starting
misbehaves in place of its answer to `$/hello`. Every other says hello, gives back what `echo` is given, as it should,
and misbehaves each time that `go` is called.
"""

from __future__ import annotations

import os
import resource
import signal
import struct
import sys
from typing import Any

import msgpack

# A program that is started by its path finds its own folder only.
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))

from workers.faulty import ends, hangs, starts, writes  # noqa: F401  # what they hold is in the two tables then
from workers.faulty.faults import AT_START, IN_CALL
from workers.faulty.wire import HELLO, MIB, Wire

BODY = 8 * MIB  # bytes of a request, and of its answer, that no pipe holds
FAULTS = [*AT_START, *IN_CALL, "writes-before-reading"]


def serve(fault: str) -> None:
    """Answers what comes, until the input ends, except where the fault says otherwise."""
    wire = Wire()
    while (message := wire.receive()) is not None:
        if message[0] != 0:
            continue
        number, method = message[1], message[2]
        if method == "$/hello":
            wire.record = message[3][0]["config"].get("record")
            if fault in AT_START:
                wire.note(fault)
                AT_START[fault](wire, number)
                continue
            wire.answer(number, HELLO)
            if fault == "writes-before-reading":
                write_before_reading(wire)
        elif method == "go" and fault in IN_CALL:
            wire.note(fault)
            IN_CALL[fault](wire, message)
        elif "batch" in (message[4] if len(message) > 4 else {}):
            wire.answer(number, [[None, params[0]] for params in message[3]])
        else:
            wire.answer(number, message[3][0])


def write_before_reading(wire: Wire) -> None:
    """Answers each `go` with 8 MiB, and reads the rest of it only after that."""
    while len(head := wire.read(4)) == 4:
        (length,) = struct.unpack(">I", head)
        start = wire.read(min(length, 64))
        unpacker: Any = msgpack.Unpacker()
        unpacker.feed(start)
        unpacker.read_array_header()
        kind, number = unpacker.unpack(), unpacker.unpack()
        if kind == 0 and unpacker.unpack() == "go":
            wire.note("writes-before-reading")
            wire.answer(number, bytes(BODY))
            wire.read(length - len(start))
        else:
            message = msgpack.unpackb(start + wire.read(length - len(start)))
            if kind == 0:
                wire.answer(number, message[3][0] if message[3] else None)


def main() -> None:
    if len(sys.argv) != 2 or sys.argv[1] not in FAULTS:
        sys.stderr.write(f"usage: faulty.py FAULT, where FAULT is one of: {', '.join(FAULTS)}\n")
        raise SystemExit(2)
    # Ctrl-C is for the orchestrator; and nobody wants a core file of those that crash.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    serve(sys.argv[1])


if __name__ == "__main__":
    main()
