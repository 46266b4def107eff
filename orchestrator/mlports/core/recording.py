"""Recordings: the file in which a worker's last frames are kept (docs/replay.md).

{packet,4} frames of MessagePack: first a map, the header, then an array for each frame that went to and fro. So it can
be read with what reads the protocol itself, and whatever of it is there is of use, wherever it was cut off.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import msgpack

from mlports.errors import RecordingError

FORMAT = "mlports-recording"
VERSION = 1
SUFFIX = ".rec"
TO_WORKER, FROM_WORKER = 0, 1

_LENGTH = struct.Struct(">I")


class RecordedFrame(NamedTuple):
    """`at` is in seconds since the worker's start. A `length` beyond that of `payload` means that the rest is lost."""

    at: float
    direction: int
    payload: bytes
    length: int

    @property
    def whole(self) -> bool:
        return self.length == len(self.payload)


class Recording(NamedTuple):
    """`missing` is the number of frames that a file which was cut off should have had besides."""

    header: Mapping[str, Any]
    frames: list[RecordedFrame]
    missing: int = 0


def encode_recording(header: Mapping[str, Any], frames: Iterable[RecordedFrame]) -> Iterator[bytes]:
    """The file, piece by piece. `frames` in the header is to be their number."""
    yield _framed(msgpack.packb({"format": FORMAT, "version": VERSION, **header}, unicode_errors="surrogatepass"))
    for frame in frames:
        record = [round(frame.at, 6), frame.direction, frame.payload]
        yield _framed(msgpack.packb(record if frame.whole else [*record, frame.length]))


def decode_recording(data: bytes, name: str) -> Recording:
    """What a file holds; `name` is what it is called. One that was cut off gives what is whole.

    Raises `RecordingError` for what is no recording, or one of another version.
    """
    pieces = _pieces(data)
    header = _header(next(pieces, b""), name)
    frames: list[RecordedFrame] = []
    for number, piece in enumerate(pieces, 1):
        frame = _frame(piece)
        if frame is None:
            raise RecordingError(f"{name} is damaged: its record {number} is no [time, direction, bytes]")
        frames.append(frame)
    return Recording(header, frames, max(0, header["frames"] - len(frames)))


def _framed(value: bytes) -> bytes:
    return _LENGTH.pack(len(value)) + value


def _pieces(data: bytes) -> Iterator[bytes]:
    at = 0
    while at + 4 <= len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        if at + 4 + length > len(data):
            return
        yield data[at + 4 : at + 4 + length]
        at += 4 + length


def _header(piece: bytes, name: str) -> dict[str, Any]:
    try:
        header = msgpack.unpackb(piece, strict_map_key=False, unicode_errors="surrogatepass")
    except Exception:
        header = None
    if type(header) is not dict or header.get("format") != FORMAT:
        raise RecordingError(f"{name} is no recording of mlports, or was cut off within its first bytes")
    if header.get("version") != VERSION:
        raise RecordingError(
            f"{name} is a recording of version {header.get('version')!r:.40}, and this mlports reads version "
            f"{VERSION}. Replay it with the mlports that made it"
        )
    kinds = {"frames": int, "verdict": dict, "command": list, "worker": dict}
    wrong = [key for key, kind in kinds.items() if type(header.get(key)) is not kind]
    if "verdict" not in wrong and type(header["verdict"].get("cause")) is not str:
        wrong.append("verdict")
    rules = header.get("redacted", False)
    if type(rules) is not bool and (type(rules) is not list or not all(type(rule) is str for rule in rules)):
        wrong.append("redacted")
    if wrong:
        raise RecordingError(f"{name} is damaged: its header has no usable {', '.join(wrong)}")
    return header


def _frame(piece: bytes) -> RecordedFrame | None:
    try:
        at, direction, payload, *more = msgpack.unpackb(piece)
    except Exception:
        return None
    length = more[0] if more else len(payload) if type(payload) is bytes else -1
    if type(at) not in (int, float) or direction not in (0, 1) or type(payload) is not bytes or type(length) is not int:
        return None
    return RecordedFrame(at, direction, payload, length)
