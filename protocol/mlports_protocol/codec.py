"""Messages to frames and back: MessagePack with the protocol's extension types (SPEC.md section on types)."""

from __future__ import annotations

import datetime
import struct
import sys
from itertools import chain
from typing import Any, Callable, Union

import msgpack

from .errors import (
    InvalidExtension,
    LocalProtocolError,
    MalformedValue,
    OversizedMessage,
    RemoteProtocolError,
    TrailingBytes,
    Unencodable,
    printed_text,
)
from .framing import MAX_FRAME_LIMIT, frame_header
from .messages import Message, Response, parse_message
from .ndarray import EXT_NDARRAY, decode_array, is_array, take_apart
from .shared_memory import EXT_SHARED_MEMORY, Place, SharedMemory, decode_shared, encode_shared

Buffer = Union[bytes, memoryview]

EXT_ARROW = 3

_PLAIN = frozenset([str, bytes, bytearray, int, float, bool, type(None)])
_LISTS = frozenset([list, tuple])
_CHECKED_DEPTH = 64
_UTC = datetime.timezone.utc

# Below this a copy costs less than the Python that avoids it.
LARGE = 64 * 1024

# An extension of no bytes, which holds the place of something large while the rest is packed.
_PLACEHOLDER = bytes([0xC7, 0, EXT_NDARRAY])


class Codec:
    """Encodes and decodes the messages of one connection.

    `ndarray` says whether the peer claimed that feature: if not, arrays are sent as nested lists and one that is
    received is an error. `sharing` is what large arrays are sent through, `memory` what they are received from; both
    are None without the feature `shm`. Not safe for threads: an encoder keeps a buffer.
    """

    def __init__(self, ndarray: bool = True) -> None:
        self.ndarray = ndarray
        self.sharing: SharedMemory | None = None
        self.memory: SharedMemory | None = None
        self.shared: list[Place] = []  # by the messages encoded since it was last emptied
        self.attached: list[tuple[str, Any]] = []  # the same of those decoded: segment and buffer
        self._packer = msgpack.Packer(default=self._encode_other, datetime=True)
        # What the packer left out of the payload: where, the header that belongs there, and the content.
        self._left_out: list[tuple[int, bytes, memoryview]] = []
        self._ext_hook: Callable[[int, bytes], Any] = self._decode_extension

    def encode(self, message: Message) -> list[Buffer]:
        """The frame, header included, as buffers to be written one behind the other.

        Large arrays, and large byte strings that are a param or the result themselves, are buffers of their own that
        view the caller's memory: it must not change until they are written.

        Raises `Unencodable`, naming the type that has no place in MessagePack, or because the value is nested too deep
        (past some 1000 levels; peers need not accept more than 128), and `OversizedMessage` past 2^31-1 bytes, which
        no peer accepts.
        """
        parts = message.as_list()
        if _has_large_bytes(message):
            parts = _wrap_large_bytes(parts)
        try:
            payload: bytes = self._packer.pack(parts)
            # Afterwards: by then the packer has refused what holds itself, which would be looked through for ever.
            _check_items((message.error, message.result) if isinstance(message, Response) else message.params, 0)
        except BaseException as error:
            self._packer.reset()
            self._left_out.clear()
            if isinstance(error, Exception):
                raise _unencodable(error) from error
            raise
        if self._left_out:
            return self._put_back(payload)
        if len(payload) < LARGE:
            return [frame_header(len(payload)) + payload]
        return [_long_frame_header(len(payload)), payload]

    def decode(self, payload: Buffer) -> Message:
        """The message in a frame's payload.

        Large arrays are views of `payload`. Raises `MalformedValue`, `TrailingBytes`, `InvalidMessage` or
        `InvalidExtension`.
        """
        if len(payload) >= LARGE:
            try:
                return parse_message(_InPlaceReader(memoryview(payload), self._decode_extension).read_all())
            except _LeaveToLibrary:
                pass
        try:
            value = msgpack.unpackb(payload, ext_hook=self._ext_hook, strict_map_key=False, timestamp=3)
        except RemoteProtocolError:
            raise
        except msgpack.ExtraData as error:
            raise TrailingBytes(
                f"{len(error.extra)} bytes behind the value in a frame of {len(payload)}", bytes(error.extra[:256])
            ) from None
        except Exception as error:
            raise _malformed(payload, error) from error
        return parse_message(value)

    def _encode_other(self, value: Any) -> Any:
        """Called by the packer for each value that is none of MessagePack's own."""
        if type(value) is _LargeBytes:
            return self._leave_out(b"\xc6" + frame_header(len(value.content)), memoryview(value.content))
        if is_array(value):
            if not self.ndarray:
                return value.tolist()
            layout, elements = take_apart(value)
            if self.sharing is not None and len(elements) >= self.sharing.least:
                place = self.sharing.share(elements)
                if place is not None:
                    self.shared.append(place)
                    return msgpack.ExtType(EXT_SHARED_MEMORY, encode_shared(place, len(elements), layout))
            head: bytes = msgpack.packb(layout)
            length = len(head) + len(elements)
            if len(elements) < LARGE:
                return msgpack.ExtType(EXT_NDARRAY, head + elements)
            return self._leave_out(b"\xc9" + _long_frame_header(length) + bytes([EXT_NDARRAY]) + head, elements)
        numpy = sys.modules.get("numpy")
        # Dates and spans of time would become numbers whose unit nobody knows.
        if numpy is not None and isinstance(value, numpy.generic) and value.dtype.kind not in "mM":
            item = value.item()
            if not isinstance(item, numpy.generic):
                return item
        if isinstance(value, int):
            raise Unencodable("an integer beyond 64 bits cannot be sent; the protocol's own range is ±2^53")
        raise Unencodable(
            f"a value of type {type(value).__module__}.{type(value).__qualname__} cannot be sent: MessagePack carries "
            "None, bool, int, float, str, bytes, lists, dicts, aware datetimes and numpy arrays; convert it first"
        )

    def _leave_out(self, header: bytes, content: memoryview) -> Any:
        """What the packer is to write instead: `_PLACEHOLDER`, as an extension."""
        with self._packer.getbuffer() as written:
            self._left_out.append((len(written), header, content))
        return msgpack.ExtType(EXT_NDARRAY, b"")

    def _put_back(self, payload: bytes) -> list[Buffer]:
        pieces: list[Buffer] = []
        at = 0
        for place, header, content in self._left_out:
            pieces += (payload[at:place] + header, content)
            at = place + len(_PLACEHOLDER)
        self._left_out.clear()
        if at < len(payload):
            pieces.append(payload[at:])
        return [_long_frame_header(sum(map(len, pieces))), *pieces]

    def _decode_extension(self, code: int, data: Buffer) -> Any:
        if code == EXT_NDARRAY:
            if not self.ndarray:
                raise InvalidExtension("an ndarray (extension type 1), which was not negotiated", bytes(data[:64]))
            return decode_array(data)
        if code == EXT_SHARED_MEMORY and self.memory is not None:
            segment, buffer, array = decode_shared(data, self.memory)
            self.attached.append((segment, buffer))
            return array
        if code in (EXT_SHARED_MEMORY, EXT_ARROW):
            feature = "shm" if code == EXT_SHARED_MEMORY else "arrow"
            raise InvalidExtension(f"extension type {code} without the feature {feature}", bytes(data[:64]))
        return msgpack.ExtType._make((code, bytes(data)))  # the constructor refuses MessagePack's own codes, below 0


class _LargeBytes:
    """A byte string that is better sent from where it lies; wrapped, or the packer would copy it."""

    def __init__(self, content: bytes) -> None:
        self.content = content


class _LeaveToLibrary(Exception):
    """A value that msgpack decodes faster, or whose fault it names."""


class _InPlaceReader:
    """Reads a large payload so that arrays stay views of it; msgpack would copy each.

    Worth it for few and large values: past a number of elements, and for anything malformed, it gives up with
    `_LeaveToLibrary`.
    """

    _MOST_ELEMENTS = 1024

    def __init__(self, data: memoryview, decode_extension: Callable[[int, Buffer], Any]) -> None:
        self._data = data
        self._at = 0
        self._left = self._MOST_ELEMENTS
        self._decode_extension = decode_extension

    def read_all(self) -> Any:
        try:
            value = self._read(0)
        except RemoteProtocolError:
            raise
        except Exception as error:
            raise _LeaveToLibrary from error
        if self._at != len(self._data):
            raise _LeaveToLibrary
        return value

    def _read(self, depth: int) -> Any:
        self._left -= 1
        if self._left < 0 or depth > 64:
            raise _LeaveToLibrary
        data, at = self._data, self._at
        first = data[at]
        if 0x90 <= first <= 0x9F or first in (0xDC, 0xDD):
            return [self._read(depth + 1) for _ in range(self._enter(first, 0x90, 0xDC))]
        if 0x80 <= first <= 0x8F or first in (0xDE, 0xDF):
            return {self._read(depth + 1): self._read(depth + 1) for _ in range(self._enter(first, 0x80, 0xDE))}
        if first in _EXTENSIONS:
            length_format, header = _EXTENSIONS[first]
            (length,) = struct.unpack_from(length_format, data, at + 1)
            code = struct.unpack_from("b", data, at + header - 1)[0]
            if code == EXT_NDARRAY:
                self._at = end = at + header + length
                if end > len(data):
                    raise _LeaveToLibrary
                return self._decode_extension(code, data[at + header : end])
            self._at = at + header + length
        elif first in _STRINGS:
            length_format, header = _STRINGS[first]
            self._at = at + header + struct.unpack_from(length_format, data, at + 1)[0]
        elif 0xA0 <= first <= 0xBF:
            self._at = at + 1 + (first & 0x1F)
        else:
            self._at = at + _SCALARS.get(first, 1)
        if self._at > len(data):
            raise _LeaveToLibrary
        return msgpack.unpackb(data[at : self._at], ext_hook=self._decode_extension, strict_map_key=False, timestamp=3)

    def _enter(self, first: int, fixed: int, sized: int) -> int:
        """The number of elements of the array or map that begins here; steps behind its header."""
        if first == sized:
            (count,) = struct.unpack_from(">H", self._data, self._at + 1)
            self._at += 3
        elif first == sized + 1:
            (count,) = struct.unpack_from(">I", self._data, self._at + 1)
            self._at += 5
        else:
            count = first - fixed
            self._at += 1
        if count > self._left:
            raise _LeaveToLibrary
        return int(count)


# First byte -> the format of its length, and the bytes before the content.
_EXTENSIONS = {0xC7: (">B", 3), 0xC8: (">H", 4), 0xC9: (">I", 6)}
_STRINGS = {0xC4: (">B", 2), 0xC5: (">H", 3), 0xC6: (">I", 5), 0xD9: (">B", 2), 0xDA: (">H", 3), 0xDB: (">I", 5)}
# First byte -> bytes in all, where that is not 1.
_SCALARS = {
    **{0xCA: 5, 0xCB: 9, 0xCC: 2, 0xCD: 3, 0xCE: 5, 0xCF: 9, 0xD0: 2, 0xD1: 3, 0xD2: 5, 0xD3: 9},
    **{0xD4: 3, 0xD5: 4, 0xD6: 6, 0xD7: 10, 0xD8: 18},
}


def _check_items(items: Any, depth: int) -> None:
    """Raises `Unencodable` for what the packer would take and the peer's decoder would not.

    That is: a map's key that is an array there, and a time out of range.
    """
    kinds = set(map(type, items))
    # Mostly there are only plain values, or lists of them, as in a batch: found out without a step in Python for each.
    if kinds <= _PLAIN or (kinds <= _LISTS and set(map(type, chain.from_iterable(items))) <= _PLAIN):
        return
    if depth > _CHECKED_DEPTH:
        return
    for item in items:
        if type(item) in _PLAIN:
            continue
        if isinstance(item, (list, tuple)):
            _check_items(item, depth + 1)
        elif isinstance(item, dict):
            for key in item:
                if isinstance(key, tuple):
                    raise Unencodable(
                        f"a dict's key of type {type(key).__name__} cannot be sent: use a string or a number"
                    )
            _check_items(item.values(), depth + 1)
        elif isinstance(item, (datetime.datetime, msgpack.Timestamp)):
            try:
                _ = item.astimezone(_UTC) if isinstance(item, datetime.datetime) else item.to_datetime()
            except (OverflowError, ValueError, OSError) as error:
                raise Unencodable(f"the time {item!r} cannot be sent: {error}") from error


def _has_large_bytes(message: Message) -> bool:
    """Whether a byte string that is worth not copying lies on the message's outermost level."""
    if type(message) is Response:
        return type(message.result) is bytes and len(message.result) >= LARGE
    # any() needs a generator, which costs a small call a seventh of its encoding.
    for item in message.params[:8]:  # type: ignore[union-attr]  # noqa: SIM110
        if type(item) is bytes and len(item) >= LARGE:
            return True
    return False


def _wrap_large_bytes(parts: list[Any]) -> list[Any]:
    """`parts` of a message, with the large byte strings on its two outermost levels wrapped."""
    return [[_wrapped(item) for item in part] if isinstance(part, (list, tuple)) else _wrapped(part) for part in parts]


def _wrapped(item: Any) -> Any:
    return _LargeBytes(item) if type(item) is bytes and len(item) >= LARGE else item


def _long_frame_header(length: int) -> bytes:
    if length > MAX_FRAME_LIMIT:
        raise OversizedMessage(f"the message is {length} bytes long; no frame may be longer than {MAX_FRAME_LIMIT}")
    return frame_header(length)


def _unencodable(error: Exception) -> LocalProtocolError:
    if isinstance(error, LocalProtocolError):
        return error
    if isinstance(error, (RecursionError, ValueError)) and "recursion" in str(error):
        return Unencodable("the value cannot be sent: it is nested too deep, or holds itself")
    return Unencodable(f"the value cannot be sent: {error}")


def _malformed(payload: Buffer, error: Exception) -> RemoteProtocolError:
    start = bytes(payload[:256])
    text = printed_text(start)
    hint = f"; it holds the text {text!r}: did the program print on its standard output?" if text else ""
    reason = str(error) or type(error).__name__
    if isinstance(error, msgpack.StackError):
        reason = "nested too deep"
    elif isinstance(error, TypeError):
        reason = f"a map key that is an array, a map or an ndarray ({error})"
    return MalformedValue(f"a frame of {len(payload)} bytes is not one MessagePack value: {reason}{hint}", start)
