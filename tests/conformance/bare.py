"""SPEC.md's appendix B, line for line: a worker without an SDK."""

from __future__ import annotations

import os
import signal
import struct
import sys
from typing import Any

import msgpack

out = os.dup(1)
os.dup2(2, 1)
signal.signal(signal.SIGINT, signal.SIG_IGN)

methods: dict[str, Any] = {"echo": lambda x: x, "add": lambda a, b: a + b}


def read_exactly(count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = os.read(0, count - len(data))
        if not piece:
            return data
        data += piece
    return data


while True:
    head = read_exactly(4)
    if not head:
        sys.exit(0)
    length = struct.unpack(">I", head)[0] if len(head) == 4 else 0
    if not 0 < length <= 67108864:
        sys.exit("a length that cannot be")
    body = read_exactly(length)
    if len(body) < length:
        sys.exit("the input ended inside a frame")
    message = msgpack.unpackb(body, strict_map_key=False, timestamp=0)
    if message[0] != 0:
        continue
    _, number, method, params = message[:4]
    if method not in methods:
        answer: Any = [1, number, {"code": "unimplemented", "message": f"no method {method}"}, None]
    else:
        try:
            answer = [1, number, None, methods[method](*params)]
        except Exception as error:
            answer = [1, number, {"code": "unknown", "message": str(error)}, None]
    body = msgpack.packb(answer)
    rest = struct.pack(">I", len(body)) + body
    while rest:
        rest = rest[os.write(out, rest) :]
