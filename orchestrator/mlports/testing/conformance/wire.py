"""Frames, as the kit writes and reads them: every type of the wire is told from every other, nothing is converted."""

from __future__ import annotations

import json
import reprlib
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgpack

from mlports_protocol import Codec, MalformedValue, Message, TrailingBytes, parse_message


def encoded(message: Message) -> bytes:
    """The whole frame of a message."""
    return b"".join(bytes(part) for part in Codec().encode(message))


def framed(payload: bytes) -> bytes:
    """A frame of any payload."""
    return len(payload).to_bytes(4, "big") + payload


def packed(value: Any) -> bytes:
    """A frame that holds any value, also one that is no message."""
    payload: bytes = msgpack.packb(value)
    return framed(payload)


def decoded(payload: bytes | memoryview) -> Message:
    """The message in a frame. Raises the error that SPEC.md 13 names."""
    return parse_message(value_in(payload))


def value_in(payload: bytes | memoryview) -> Any:
    """The one value in a payload: extensions stay what they are, timestamps keep their nanoseconds."""
    try:
        return msgpack.unpackb(payload, ext_hook=_extension, strict_map_key=False, timestamp=0)
    except msgpack.ExtraData as error:
        raise TrailingBytes(f"{len(error.extra)} bytes behind the value in a frame of {len(payload)}") from None
    except Exception as error:
        told = str(error) or type(error).__name__
        raise MalformedValue(f"a frame of {len(payload)} bytes is not one MessagePack value: {told}") from error


def _extension(code: int, data: bytes) -> msgpack.ExtType:
    return msgpack.ExtType._make((code, bytes(data)))  # the constructor refuses MessagePack's own codes


def meaning(message: Message) -> str:
    """A message as SPEC.md writes it, large values shortened."""
    return _SHORT.repr(message.as_list())


def _short() -> reprlib.Repr:
    short = reprlib.Repr()
    short.maxlevel, short.maxlist, short.maxdict = 5, 8, 12
    short.maxstring = short.maxother = short.maxlong = 60
    return short


_SHORT = _short()


@lru_cache(maxsize=1)
def golden_frames() -> list[dict[str, Any]]:
    """The vectors of protocol/vectors/frames.json, from the wheel or from the checkout."""
    here = Path(__file__).resolve()
    shipped = here.with_name("frames.json")
    place = shipped if shipped.is_file() else here.parents[4] / "protocol" / "vectors" / "frames.json"
    with open(place, encoding="utf-8") as file:
        vectors: list[dict[str, Any]] = json.load(file)["vectors"]
    return vectors
