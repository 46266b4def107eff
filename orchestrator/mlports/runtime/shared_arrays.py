"""The arrays that one port shares with its worker: what the worker has at hand, and may therefore name."""

from __future__ import annotations

from typing import Any

from mlports.runtime.segments import Segment, SegmentPool
from mlports_protocol import InvalidExtension, InvalidMessage, Place
from mlports_protocol.shared_memory import ALIGNMENT, LEAST

_NEVER_GIVEN = "which this worker was not given, or has no more"


class _Lent:
    """A segment that the worker has, and for how many reasons; `room` is what it may write, and send once."""

    __slots__ = ("by_answer", "by_request", "room", "segment")

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.by_request = 0
        self.by_answer = 0
        self.room = 0  # bytes


class SharedArrays:
    """What a port's session shares and attaches arrays by. See `mlports_protocol.SharedMemory`."""

    def __init__(self, pool: SegmentPool) -> None:
        self.least = LEAST
        self._pool = pool
        self._lent: dict[str, _Lent] = {}
        self._closed = False

    def __len__(self) -> int:
        return len(self._lent)

    # -- to the worker

    def share(self, elements: memoryview) -> Place | None:
        if self._closed:
            return None
        self._pool.collect()
        found = self._pool.find(elements)
        if found is not None and found[1] % ALIGNMENT == 0:
            segment, offset = found
            self._pool.hold(segment)
        else:
            copied, offset = self._pool.copy(elements), 0
            if copied is None:
                return None
            segment = copied
        self._at(segment).by_request += 1
        return Place(segment.path, offset, segment)

    def check(self, places: list[Place]) -> None:
        pass

    def unshare(self, places: list[Place]) -> None:
        self.take_back(places)

    def gave(self, places: list[Place]) -> None:
        for place in places:
            lent = self._lent[place.segment]
            lent.by_request -= 1
            lent.by_answer += 1

    def take_back(self, places: list[Place]) -> None:
        for place in places:
            lent = self._lent.get(place.segment)
            if lent is not None:
                lent.by_request -= 1
                self._release(place.segment, lent)

    # -- from the worker

    def give_room(self, nbytes: Any) -> tuple[list[Any] | None, dict[str, Any] | None]:
        """The answer to `$/segment`: [segment, offset, nbytes], or an error."""
        if type(nbytes) is not int or nbytes < 1:
            text = f"$/segment takes a number of bytes from 1, not {nbytes!r:.80}"
            return None, {"code": "invalid_argument", "message": text}
        segment = self._pool.take(nbytes)
        if segment is None:
            accounts = self._pool.accounts
            text = (
                f"there is no room for {nbytes} bytes of shared memory: {accounts.in_use} segments are in use, of at "
                f"most {accounts.most_segments}, and {accounts.most_bytes} bytes are the most for all of them; "
                "send it in the message (extension type 1)"
            )
            return None, {"code": "resource_exhausted", "message": text}
        self._at(segment).room = nbytes
        return [segment.path, 0, nbytes], None

    def attach(self, segment: str, offset: int, nbytes: int) -> Any:
        lent = self._lent.get(segment)
        if lent is None:
            raise InvalidExtension(f"a shared ndarray in the segment {segment}, {_NEVER_GIVEN}")
        within = lent.room or lent.segment.size
        if offset + nbytes > within:
            raise InvalidExtension(
                f"a shared ndarray of {nbytes} bytes at {offset} in the segment {segment}, which has {within}"
            )
        try:
            if lent.room and not lent.segment.has_pages(offset + nbytes):
                raise InvalidExtension(
                    f"a shared ndarray of {nbytes} bytes in the segment {segment}, which this worker was given as room "
                    "and never wrote to"
                )
            view = self._pool.view(lent.segment, offset, nbytes)
        except OSError as error:
            raise InvalidExtension(f"the segment {segment} cannot be mapped here: {error.strerror}") from error
        if lent.room:  # its hold is the view's from now on
            lent.room = 0
            self._drop(segment, lent)
        else:
            self._pool.hold(lent.segment)
        return view

    def keep(self, attached: list[tuple[str, Any]]) -> None:
        pass  # each buffer holds its segment by itself

    def forget(self, attached: list[tuple[str, Any]]) -> None:
        pass

    def on_released(self, segment: str) -> None:
        """The worker has no more use for what an answer brought, or for room. Raises `InvalidMessage`."""
        lent = self._lent.get(segment)
        if lent is None or not (lent.room or lent.by_answer):
            raise InvalidMessage(f"$/release of the segment {segment}, {_NEVER_GIVEN}")
        if lent.room:
            lent.room = 0
        else:
            lent.by_answer -= 1
        self._release(segment, lent)

    def close(self) -> None:
        """The worker is gone, and has nothing any more."""
        self._closed = True
        for lent in self._lent.values():
            for _ in range(lent.by_request + lent.by_answer + bool(lent.room)):
                self._pool.release(lent.segment)
        self._lent.clear()
        self._pool.collect()

    def _at(self, segment: Segment) -> _Lent:
        lent = self._lent.get(segment.path)
        if lent is None:
            lent = self._lent[segment.path] = _Lent(segment)
        return lent

    def _release(self, path: str, lent: _Lent) -> None:
        self._pool.release(lent.segment)
        self._drop(path, lent)

    def _drop(self, path: str, lent: _Lent) -> None:
        if not (lent.by_request or lent.by_answer or lent.room):
            del self._lent[path]
