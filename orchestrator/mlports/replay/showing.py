"""Recorded frames as lines for people, and as plain values."""

from __future__ import annotations

import reprlib
from typing import Any

import msgpack

from mlports.core.recording import TO_WORKER, RecordedFrame
from mlports.replay.messages import parse_if_any
from mlports_protocol import Message, Request, Response
from mlports_protocol.ndarray import EXT_NDARRAY

_LONGEST = 160  # characters of a line's values
_SHOWN_BYTES = 24
_DEEPEST = 128  # the protocol's own limit

_short = reprlib.Repr()
_short.maxlevel, _short.maxlist, _short.maxdict = 6, 8, 12
_short.maxstring = _short.maxother = _short.maxlong = 80


def as_line(frame: RecordedFrame) -> str:
    """A frame on one line: when, which way, and what it says."""
    arrow = "──▶" if frame.direction == TO_WORKER else "◀──"
    return f"{frame.at:10.6f} {arrow} {_describe(frame)}"


def _describe(frame: RecordedFrame) -> str:
    """What a frame says."""
    message = parse_if_any(frame.payload) if frame.whole else None
    if message is None:
        rest = "" if frame.whole else f", of which {len(frame.payload)} were kept"
        return f"no message: {frame.length} bytes{rest}: {frame.payload[:_SHOWN_BYTES].hex(' ')}"
    return describe_message(message)


def as_map(frame: RecordedFrame) -> dict[str, Any]:
    """A frame as plain values."""
    found: dict[str, Any] = {
        "at": frame.at,
        "direction": "to_worker" if frame.direction == TO_WORKER else "from_worker",
    }
    message = parse_if_any(frame.payload) if frame.whole else None
    if message is None:
        return {**found, "type": "none", "length": frame.length, "bytes": frame.payload}
    said = {key: _plain(value) for key, value in message._asdict().items() if value is not None or key == "result"}
    return {**found, "type": type(message).__name__.lower(), **said}


def describe_message(message: Message | None) -> str:
    """What a message says; None is none."""
    if message is None:
        return "no message"
    meta = f" {_shown(message.meta)}" if message.meta else ""
    if isinstance(message, Response):
        if message.error is not None:
            return f"answer {message.id}: {message.error['code']}: {_shown(message.error['message'])}{meta}"
        return f"answer {message.id}: {_shown(message.result)}{meta}"
    number = f"{message.id} " if isinstance(message, Request) else ""
    params = ", ".join(map(_shown, message.params))
    return f"{number}{message.method}({params if len(params) <= _LONGEST else params[: _LONGEST - 1] + '…'}){meta}"


def _shown(value: Any) -> str:
    text = _short.repr(_plain(value))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


class _Word(str):
    """Text that stands for a value, without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _plain(value: Any, depth: int = 0) -> Any:
    """The value with its extensions told in words."""
    if depth > _DEEPEST:
        return _Word("…")
    if isinstance(value, msgpack.ExtType):
        return _Word(_extension(value))
    if type(value) is list:
        return [_plain(item, depth + 1) for item in value]
    if type(value) is dict:
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    return _Word(value.to_datetime().isoformat()) if isinstance(value, msgpack.Timestamp) else value


def _extension(value: msgpack.ExtType) -> str:
    if value.code == EXT_NDARRAY:
        unpacker = msgpack.Unpacker(max_buffer_size=len(value.data) + 1)
        unpacker.feed(value.data)
        try:
            dtype, shape = unpacker.unpack()
            return f"<array of {dtype!s:.40}, shape {shape!s:.60}>"
        except (ValueError, TypeError, msgpack.UnpackException):
            pass
    return f"<extension {value.code}, {len(value.data)} bytes>"
