"""Extension type 2: an array that lies in a segment of shared memory (SPEC.md section on shared memory).

Only [segment, offset, nbytes, dtype, shape] travels. Which segments there are, who may name which and how they are
mapped is for whoever has I/O to say: a `SharedMemory`, which a session is given.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple, Protocol

import msgpack

from .errors import InvalidExtension, shown
from .messages import as_text
from .ndarray import check_layout, view_elements

EXT_SHARED_MEMORY = 2
ALIGNMENT = 64
SEGMENT = re.compile(r"/proc/[1-9][0-9]{0,9}/fd/[0-9]{1,9}", re.ASCII)
# Bytes below which a copy through the pipe costs less, and below which asking for room first costs more.
LEAST = 128 * 1024
LEAST_ROOM = 512 * 1024


class Place(NamedTuple):
    """Where an array lies; `segment` is the path to open. `owner` is whatever the `SharedMemory` knows it by."""

    segment: str
    offset: int
    owner: Any = None


class SharedMemory(Protocol):
    """The segments of one connection, as one of its ends sees them.

    What one message shares or attaches is told by and by, and then what became of the message.
    """

    least: int  # bytes, below which an array is not shared

    def share(self, elements: memoryview) -> Place | None:
        """Where these elements lie, or have been copied to; None to send them in the message."""

    def check(self, places: list[Place]) -> None:
        """The message that shares these is encoded; may raise, and it is not sent."""

    def unshare(self, places: list[Place]) -> None:
        """The message that shared these could not be encoded."""

    def gave(self, places: list[Place]) -> None:
        """An answer that shares these was encoded."""

    def take_back(self, places: list[Place]) -> None:
        """The request that shared these is answered."""

    def attach(self, segment: str, offset: int, nbytes: int) -> Any:
        """These bytes as a read-only buffer. Raises `InvalidExtension` if the peer may not name them."""

    def keep(self, attached: list[tuple[str, Any]]) -> None:
        """An answer brought these: segments, and the buffers that `attach` gave."""

    def forget(self, attached: list[tuple[str, Any]]) -> None:
        """The request that brought these was answered."""


def encode_shared(place: Place, nbytes: int, layout: list[Any]) -> bytes:
    """The extension's payload; `layout` is [dtype, shape]."""
    data: bytes = msgpack.packb([place.segment, place.offset, nbytes, *layout])
    return data


def decode_shared(payload: bytes | memoryview, memory: SharedMemory) -> tuple[str, Any, Any]:
    """The segment, the buffer attached and the array on it: read-only, and not copied. Raises `InvalidExtension`."""
    try:
        said = msgpack.unpackb(payload)
    except Exception as error:
        raise InvalidExtension(
            f"a shared ndarray is [segment, offset, nbytes, dtype, shape]: {str(error) or type(error).__name__}",
            bytes(payload[:64]),
        ) from error
    if type(said) is not list or len(said) != 5:
        raise InvalidExtension(f"a shared ndarray is [segment, offset, nbytes, dtype, shape], not {shown(said)}")
    segment, offset, nbytes, dtype, shape = said
    segment = check_segment(segment, InvalidExtension)
    if type(offset) is not int or offset < 0 or offset % ALIGNMENT:
        raise InvalidExtension(f"a shared ndarray's offset is a multiple of {ALIGNMENT} from 0, not {shown(offset)}")
    if type(nbytes) is not int or nbytes < 1:
        raise InvalidExtension(f"a shared ndarray has a number of bytes from 1, not {shown(nbytes)}")
    kind, sizes = check_layout(dtype, shape, nbytes)  # first: what is attached once may be gone for good
    buffer = memory.attach(segment, offset, nbytes)
    return segment, buffer, view_elements(kind, sizes, buffer)


def check_segment(segment: Any, error: type) -> str:
    """A segment's path. Raises `error`: a receiver opens nothing else."""
    segment = as_text(segment)
    if type(segment) is not str or not SEGMENT.fullmatch(segment):
        raise error(f"a segment is a path like /proc/PID/fd/N, not {shown(segment)}")
    return segment
