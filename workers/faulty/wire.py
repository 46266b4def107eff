"""Raw frames on descriptors 0 and 1, because the SDK would not let a worker break a rule."""

from __future__ import annotations

import os
import struct
from typing import Any

import msgpack

MIB = 1024 * 1024
BIG_NUMBERS = [0.1 * number for number in range(40)]

HELLO: dict[str, Any] = {
    "protocol": 1,
    "name": "faulty",
    "language": "python",
    "features": ["batch", "cancel", "ping"],
    "methods": {"echo": {}, "go": {}},
    "concurrency": 64,
}


class Wire:
    """Frames in and out; `send_bytes` writes what may be no frame at all.

    Pings are answered as they should be, unless `deaf`. `record` is the file in which a fault is noted when it occurs.
    """

    def __init__(self) -> None:
        self.bytewise = False
        self.deaf = False
        self.record: str | None = None

    def receive(self) -> list[Any] | None:
        """The next message that is no ping, or None at the end of the input."""
        while len(head := self.read(4)) == 4:
            (length,) = struct.unpack(">I", head)
            message: list[Any] = msgpack.unpackb(self.read(length))
            if message[0] != 0 or message[2] != "$/ping":
                return message
            if not self.deaf:
                self.answer(message[1], None)
        return None

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

    def note(self, fault: str) -> None:
        """Writes down that the fault occurs now."""
        if self.record is not None:
            with open(self.record, "ab", buffering=0) as file:
                file.write(fault.encode() + b"\n")

    def times(self) -> int:
        """How often a fault has occurred, this time included; 1 without a record."""
        if self.record is None:
            return 1
        with open(self.record, "rb") as file:
            return len(file.readlines())


def frame(message: Any) -> bytes:
    """A message in its frame."""
    payload: bytes = msgpack.packb(message)
    return struct.pack(">I", len(payload)) + payload
