"""Recordings made by hand, and a worker that starts in a moment and dies of what it is told."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgpack

from mlports import Verdict
from mlports.core.recording import FROM_WORKER, TO_WORKER, RecordedFrame, Recording
from mlports.replay import write_recording

# Without a library, so that it starts in 15 ms: it finds id and method in the bytes, and answers nil.
_RAW_WORKER = """\
import os, sys

LENGTHS = {0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9}
read = sys.stdin.buffer
armed, served = False, 0
while head := read.read(4):
    body = read.read(int.from_bytes(head, "big"))
    if body[1] == 0:
        end = 2 + LENGTHS.get(body[2], 1)
        number, method = body[2:end], body[end + 1 : end + 1 + (body[end] & 31)].decode()
    else:
        number, method = b"", body[3 : 3 + (body[2] & 31)].decode()
    served += method == "noop"
    armed = armed or method == "arm"
    if method == "kill" or (method == "fire" and armed) or (method == "tenth" and served >= 9):
        print("dying of", method, file=sys.stderr, flush=True)
        os._exit(9)
    if method == "other":
        os.abort()
    if number:
        error = b"\\xc0" if method != "$/hello" else b"\\x82\\xa4code\\xa1x\\xa7message\\xa1x"
        answer = b"\\x94\\x01" + number + error + b"\\xc0"
        os.write(1, len(answer).to_bytes(4, "big") + answer)
"""

HELLO = {"protocol": {"min": 1, "max": 1}, "features": [], "service": "raw", "replica": 0, "config": {}}
BARE = {"code": "unimplemented", "message": "no method $/hello"}
DIED = {"cause": "exit", "status": 9, "name": "exit 9", "detail": "exited with status 9"}


def raw_worker(folder: Path) -> list[str]:
    """Writes that worker; gives its command."""
    path = folder / "raw.py"
    path.write_text(_RAW_WORKER)
    return [sys.executable, "-S", "-E", str(path)]


def frames(messages: Iterable[tuple[int, Any]]) -> list[RecordedFrame]:
    """Frames of (direction, message), a millisecond apart."""
    payloads = [(direction, msgpack.packb(message)) for direction, message in messages]
    return [
        RecordedFrame(number / 1000, direction, payload, len(payload))
        for number, (direction, payload) in enumerate(payloads)
    ]


def recording(
    messages: Sequence[tuple[int, Any]],
    *,
    verdict: Verdict | None = None,
    greeting: Any = None,
    hello: Any = HELLO,
    **header: Any,
) -> Recording:
    """A recording of a worker that said `greeting` (None: it is a bare one), and then what `messages` say."""
    error = BARE if greeting is None else None
    opening = [(TO_WORKER, [0, 0, "$/hello", [hello]]), (FROM_WORKER, [1, 0, error, greeting])]
    said = greeting or {}
    worker = {key: said.get(key, "") for key in ("name", "language", "sdk")}
    head = {
        "service": "raw",
        "replica": 0,
        "command": ["raw"],
        "transport": "stdio",
        "worker": worker,
        "verdict": DIED if verdict is None else verdict.as_dict(),
        "forgotten": 0,
        "redacted": False,
        **header,
    }
    return Recording(head, frames([*opening, *messages]))


def calls(methods: Iterable[str]) -> list[tuple[int, Any]]:
    """A call of each, one after the other; all but the last are answered."""
    found: list[tuple[int, Any]] = []
    for number, method in enumerate(methods, 1):
        found += [(TO_WORKER, [0, number, method, []]), (FROM_WORKER, [1, number, None, None])]
    return found[:-1]


def saved(folder: Path, made: Recording, name: str = "crash.rec") -> Path:
    """The recording in a file."""
    path = folder / name
    write_recording(path, made.header, made.frames)
    return path
