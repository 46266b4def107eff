"""Arrays in shared memory, as a worker sees them: it opens segments of the orchestrator's, and owns none.

What a request brings is mapped, for reading, until the request is answered; what an answer brings, until no array of it
is left. A result that lies in such a segment is named; any other is copied into room that the orchestrator is asked
for.
"""

from __future__ import annotations

import mmap
import os
import sys
import threading
import weakref
from collections import OrderedDict, deque
from typing import Any

from mlports_protocol import InvalidExtension, Place, Probe
from mlports_protocol.shared_memory import ALIGNMENT, LEAST, LEAST_ROOM

_MOST_MAPPED = 64
_BLOCK = 512  # bytes, in which st_blocks counts
_NOT_ASKED = "?"  # a place for which there is no room yet


class RoomWanted(Exception):
    """The message that was to be sent shares arrays for which room is to be asked first: so many bytes each."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__(f"room for {sizes} bytes")
        self.sizes = sizes


class _Held:
    """A segment that may be named, for so many reasons, and where it lies."""

    __slots__ = ("address", "reasons", "size")

    def __init__(self, address: int, size: int) -> None:
        self.reasons = 0
        self.address = address
        self.size = size


class SegmentsAtHand:
    """What a worker's session shares and attaches arrays by. See `mlports_protocol.SharedMemory`.

    Encoding is under the connection's lock, decoding done by one thread at a time; arrays are let go of in any thread.
    """

    def __init__(self) -> None:
        self.least = LEAST
        self.asks = True  # for room; if not, what has none goes in the message
        # The orchestrator is to be told of these: segments, and whether they are in `_held`.
        self.let_go: deque[tuple[str, bool]] = deque()
        self._lock = threading.Lock()  # for changes of `_held`
        self._held: dict[str, _Held] = {}
        self._rooms: dict[str, int] = {}  # bytes
        # By what is open there, not by its path, which may mean another one tomorrow.
        self._mapped: OrderedDict[tuple[int, int, bool], mmap.mmap] = OrderedDict()

    @classmethod
    def open(cls, probe: Probe | None) -> SegmentsAtHand | None:
        """None where segments cannot be had: another system, another container, no probe."""
        if probe is None or not sys.platform.startswith("linux"):
            return None
        try:
            descriptor = os.open(probe.segment, os.O_RDWR | os.O_CLOEXEC)
            try:
                found = os.pread(descriptor, len(probe.token), 0)
            finally:
                os.close(descriptor)
        except OSError:
            return None
        return cls() if found == probe.token else None

    # -- to the orchestrator

    def share(self, elements: memoryview) -> Place | None:
        address, nbytes = _address_of(elements), len(elements)
        for segment, held in list(self._held.items()):
            offset = address - held.address
            if 0 <= offset <= held.size - nbytes and offset % ALIGNMENT == 0:
                return Place(segment, offset)
        for segment, room in self._rooms.items():
            if room == nbytes:
                return self._fill(segment, elements)
        return Place(_NOT_ASKED, 0, nbytes) if self.asks and nbytes >= LEAST_ROOM else None

    def check(self, places: list[Place]) -> None:
        wanted = [place.owner for place in places if place.segment == _NOT_ASKED]
        if wanted:
            raise RoomWanted(wanted)

    def unshare(self, places: list[Place]) -> None:
        for place in places:
            if place.owner is self:
                self.let_go.append((place.segment, False))

    def gave(self, places: list[Place]) -> None:
        pass

    def take_back(self, places: list[Place]) -> None:
        pass

    def add_room(self, said: Any) -> str:
        """Room that was asked for: [segment, offset, nbytes]. Gives the segment."""
        segment, _, nbytes = said
        self._rooms[segment] = nbytes
        return str(segment)

    def drop_room(self, segment: str) -> None:
        """Gives room back, unless it was used."""
        if self._rooms.pop(segment, None) is not None:
            self.let_go.append((segment, False))

    def _fill(self, segment: str, elements: memoryview) -> Place | None:
        del self._rooms[segment]
        try:
            descriptor = os.open(segment, os.O_RDWR | os.O_CLOEXEC)
            try:
                if os.fstat(descriptor).st_blocks * _BLOCK >= len(elements):
                    self._map(descriptor, True)[: len(elements)] = elements
                else:  # gives it its pages without a fault for each, or says that there are none
                    at = 0
                    while at < len(elements):
                        at += os.pwrite(descriptor, elements[at:], at)
            finally:
                os.close(descriptor)
        except OSError:
            self.let_go.append((segment, False))
            return None
        return Place(segment, 0, self)

    # -- from it

    def attach(self, segment: str, offset: int, nbytes: int) -> Any:
        import numpy as np

        try:
            descriptor = os.open(segment, os.O_RDONLY | os.O_CLOEXEC)
            try:
                mapped = self._map(descriptor, False)
            finally:
                os.close(descriptor)
        except (OSError, ValueError) as error:
            raise InvalidExtension(f"the segment {segment} cannot be opened: {error}") from error
        if offset + nbytes > len(mapped):
            raise InvalidExtension(
                f"a shared ndarray of {nbytes} bytes at {offset} in the segment {segment}, which has {len(mapped)}"
            )
        buffer = np.frombuffer(mapped, np.uint8, nbytes, offset)
        with self._lock:
            held = self._held.get(segment)
            if held is None:
                address = buffer.__array_interface__["data"][0] - offset
                held = self._held[segment] = _Held(address, len(mapped))
            held.reasons += 1
        return buffer

    def keep(self, attached: list[tuple[str, Any]]) -> None:
        for segment, buffer in attached:
            # Wherever the garbage collector happens to be: no more than this.
            weakref.finalize(buffer, self.let_go.append, (segment, True)).atexit = False

    def forget(self, attached: list[tuple[str, Any]]) -> None:
        for segment, _ in attached:
            self._drop(segment)

    def next_let_go(self) -> str:
        """A segment of which the orchestrator is to be told; it may not be named any more."""
        segment, was_held = self.let_go.popleft()
        if was_held:
            self._drop(segment)
        return segment

    def _drop(self, segment: str) -> None:
        with self._lock:
            held = self._held[segment]
            held.reasons -= 1
            if not held.reasons:
                del self._held[segment]

    def _map(self, descriptor: int, writable: bool) -> mmap.mmap:
        told = os.fstat(descriptor)
        key = (told.st_dev, told.st_ino, writable)
        mapped = self._mapped.get(key)
        if mapped is None:
            access = mmap.ACCESS_WRITE if writable else mmap.ACCESS_READ
            mapped = self._mapped[key] = mmap.mmap(descriptor, told.st_size, access=access)
            while len(self._mapped) > _MOST_MAPPED:
                self._mapped.popitem(last=False)  # unmapped when no array of it is left
        else:
            self._mapped.move_to_end(key)
        return mapped


def _address_of(elements: memoryview) -> int:
    import numpy as np

    address: int = np.frombuffer(elements, np.uint8).__array_interface__["data"][0]
    return address
