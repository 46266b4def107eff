"""Payloads to messages and back, as generic MessagePack: extensions stay what they are, so nothing is lost."""

from __future__ import annotations

from typing import Any

import msgpack

from mlports_protocol import MalformedValue, Message, RemoteProtocolError, TrailingBytes, parse_message


def unpack(payload: bytes | memoryview) -> Any:
    """The value in a payload. Raises `MalformedValue`, `TrailingBytes`."""
    try:
        return msgpack.unpackb(
            payload, strict_map_key=False, unicode_errors="surrogateescape", ext_hook=msgpack.ExtType
        )
    except msgpack.ExtraData as error:
        raise TrailingBytes(f"{len(error.extra)} bytes behind the value in a frame", bytes(error.extra[:256])) from None
    except Exception as error:
        raise MalformedValue(f"a frame of {len(payload)} bytes: {error}", bytes(payload[:256])) from error


def pack(value: Any) -> bytes:
    """The payload for a value of `unpack`'s."""
    packed: bytes = msgpack.packb(value, unicode_errors="surrogateescape")
    return packed


def parse(payload: bytes | memoryview) -> Message:
    """The message in a payload. Raises a `RemoteProtocolError`."""
    return parse_message(unpack(payload))


def parse_if_any(payload: bytes) -> Message | None:
    """The message in a payload, or None if it holds none."""
    try:
        return parse(payload)
    except RemoteProtocolError:
        return None


def framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "big") + payload
