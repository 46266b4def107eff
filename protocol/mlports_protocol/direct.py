"""Both ends of a connection within one process: messages are handed over as they are, without bytes in between.

The rules are those of a session over a pipe, and so are the values at the other end: a tuple arrives as a list, what
has no place in MessagePack is refused, and nobody holds a list or dict of the other side's. What cannot change is not
copied, nor are the elements of an array: the other side has a read-only view of them. `max_frame` limits nothing.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, cast

import msgpack

from .codec import Buffer, Codec, _check_items, _unencodable
from .errors import LocalProtocolError, RemoteProtocolError
from .events import Event
from .framing import DEFAULT_MAX_FRAME
from .messages import Message, Notification, Request, Response
from .ndarray import EXT_NDARRAY, decode_array, encode_array, is_array
from .session import OrchestratorSession, Session, WorkerSession

if TYPE_CHECKING:
    from .ndarray import Array

_LEAST_INTEGER, _MOST_INTEGER = -(2**63), 2**64 - 1
_UNCHANGING = frozenset([float, bool, type(None), bytes])
_FEW = 8  # values that are looked at one by one; of more, each is likely to be small
_HELD = b"\xc1"  # never used in MessagePack: no array's content begins with it


class DirectCodec(Codec):
    """Carries values to the other end as encoding and decoding would."""

    def __init__(self, ndarray: bool = True) -> None:
        super().__init__(ndarray)
        self._held: list[Any] = []  # the arrays in the value that is being copied

    def carry(self, message: Message) -> Message:
        """The message as the other end is to see it. Raises `Unencodable`."""
        try:
            if type(message) is Request:
                return Request(message.id, message.method, self._carry_all(message.params), message.meta)
            if type(message) is Response:
                error = None if message.error is None else self._copy(message.error)
                return Response(message.id, error, self._carry(message.result))
            assert type(message) is Notification
            return Notification(message.method, self._carry_all(message.params), message.meta)
        except LocalProtocolError:
            raise
        except Exception as error:
            raise _unencodable(error) from error

    def _carry_all(self, values: list[Any]) -> list[Any]:
        if len(values) <= _FEW:
            return [self._carry(value) for value in values]
        return cast("list[Any]", self._copy(values))

    def _carry(self, value: Any) -> Any:
        kind = type(value)
        if (
            kind in _UNCHANGING
            or (kind is int and _LEAST_INTEGER <= value <= _MOST_INTEGER)
            or (kind is str and value.isascii())
        ):
            return value
        if self.ndarray and is_array(value):
            return reference(value)
        return self._copy(value)

    def _copy(self, value: Any) -> Any:
        try:
            packed = self._packer.pack(value)
            _check_items([value], 0)
            return msgpack.unpackb(packed, ext_hook=self._ext_hook, strict_map_key=False, timestamp=3)
        except BaseException:
            self._packer.reset()
            raise
        finally:
            self._held.clear()

    def _encode_other(self, value: Any) -> Any:
        if self.ndarray and is_array(value):
            self._held.append(reference(value))
            return msgpack.ExtType(EXT_NDARRAY, _HELD + str(len(self._held) - 1).encode())
        return super()._encode_other(value)

    def _decode_extension(self, code: int, data: Buffer) -> Any:
        if code == EXT_NDARRAY and data[:1] == _HELD:
            return self._held[int(bytes(data[1:]))]
        return super()._decode_extension(code, data)


def reference(array: Array) -> Array:
    """The array as the other end is to see it: read-only, row-major, little-endian.

    Such an array of numbers is not copied, others are. Raises `Unencodable` for what could not be sent.
    """
    import numpy as np

    plain = type(array) is np.ndarray and array.flags.c_contiguous and array.dtype.metadata is None
    if plain and array.dtype.kind in "biufc" and array.dtype.str[0] in "<|":
        view = array.view()
        view.flags.writeable = False
        return view
    return decode_array(b"".join(encode_array(array)))


class _Direct(Session):
    """What both ends have in common. What they send are messages: they go to the other one by `hand_over()`."""

    def __init__(self, max_frame: int = DEFAULT_MAX_FRAME) -> None:
        super().__init__(max_frame)
        self.codec: DirectCodec = DirectCodec(ndarray=False)
        self._arrived: deque[Message] = deque()

    def hand_over(self, messages: list[Any]) -> None:
        """Takes what the other end sent; call `next_event()` until it gives None."""
        if self._fault is None:
            self._arrived += messages

    def next_event(self) -> Event | None:
        if self._fault is not None:
            raise self._fault
        try:
            while self._arrived:
                event = self._receive(self._arrived.popleft())
                if event is not None:
                    return event
        except RemoteProtocolError as fault:
            self._break(fault)
            raise
        return None

    def _encode(self, message: Message) -> list[Buffer]:
        return cast("list[Buffer]", [self.codec.carry(message)])

    def _as_received(self, buffers: list[Buffer]) -> Message:
        return cast(Message, buffers[0])


class DirectOrchestratorSession(_Direct, OrchestratorSession):
    """The orchestrator's end."""


class DirectWorkerSession(_Direct, WorkerSession):
    """The worker's end."""
