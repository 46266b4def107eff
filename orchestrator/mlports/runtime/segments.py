"""Segments of shared memory, which the orchestrator makes and owns, for the arrays of all its connections.

Each is a sealed memfd: it has no name that could be left behind, nobody can make it smaller while somebody reads it,
and a worker opens it as `/proc/PID/fd/N`. It is held by each request that shares it, each worker that has it for
other reasons, and each array that a user of the library has on it; what nobody holds waits a while to be used again,
because the pages of a new one take longer to come by than to fill.
"""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import os
import resource
import sys
import threading
import time
import weakref
from bisect import bisect_right, insort
from collections import deque
from contextlib import suppress
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from mlports.core.segments import Segments
from mlports_protocol import Probe

if TYPE_CHECKING:
    import numpy as np

_IDLE_BYTES = 256 * 1024 * 1024
_IDLE_SECONDS = 2.0
_TIDY_SECONDS = 1.0  # between two looks for those that were idle for so long
_MOST_SEGMENTS = 512
_SHARE_OF_FILES = 8  # a segment has two descriptors: together they take a quarter of what this process may have
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL if sys.platform == "linux" else 0
_TOKEN = 16  # bytes
_BLOCK = 512  # bytes, in which st_blocks counts


class Segment:
    """One segment. Raises OSError when it cannot be made."""

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.size = size
        self.descriptor = os.memfd_create("mlports", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            os.ftruncate(self.descriptor, size)
            fcntl.fcntl(self.descriptor, fcntl.F_ADD_SEALS, _SEALS)
        except BaseException:
            os.close(self.descriptor)
            raise
        self.path = f"/proc/{os.getpid()}/fd/{self.descriptor}"
        self._filled = 0  # so many bytes from its beginning are known to have pages
        self._bytes: mmap.mmap | None = None

    @property
    def bytes(self) -> mmap.mmap:
        """All of it. Raises OSError."""
        if self._bytes is None:
            self._bytes = mmap.mmap(self.descriptor, self.size)
        return self._bytes

    def write(self, elements: memoryview) -> None:
        """Copies these to its beginning. Raises OSError when there is no memory for them."""
        if len(elements) > self._filled:
            # This gives it its pages as it goes, without a fault for each, and without a SIGBUS when there are none.
            at = 0
            while at < len(elements):
                at += os.pwrite(self.descriptor, elements[at:], at)
            self._filled = len(elements)
        else:
            memoryview(self.bytes)[: len(elements)] = elements

    def has_pages(self, nbytes: int) -> bool:
        """Whether so much of its beginning was written to, so that it can be read without taking memory."""
        if self._filled < nbytes and os.fstat(self.descriptor).st_blocks * _BLOCK >= nbytes:
            self._filled = nbytes
        return self._filled >= nbytes

    def close(self) -> None:
        """Gives its memory back, also where a worker still has it mapped."""
        with suppress(OSError, ValueError), mmap.mmap(self.descriptor, self.size) as whole:
            whole.madvise(mmap.MADV_REMOVE)
        os.close(self.descriptor)
        self._bytes = None


class SegmentPool:
    """All segments of an orchestrator. Belongs to one event loop; arrays may be let go of in any thread.

    most_bytes: that all segments may have together, half of the machine's memory by default.
    """

    def __init__(self, most_bytes: int | None = None) -> None:
        if most_bytes is None:
            most_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        most = _MOST_SEGMENTS if files < 0 else min(_MOST_SEGMENTS, files // _SHARE_OF_FILES)
        self.accounts = Segments(most_bytes, most, _IDLE_BYTES, _IDLE_SECONDS)
        self._segments: dict[int, Segment] = {}
        self._addresses: dict[int, int] = {}  # of those that arrays are seen in
        self._mapped: list[tuple[int, int]] = []  # the same by address, in order
        self._let_go: deque[int] = deque()  # numbers, by whichever thread it was
        self._collecting = threading.Lock()
        self._probe: tuple[Segment, Probe] | None = None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None

    @staticmethod
    def is_possible() -> bool:
        """Whether this system has what it takes, and numpy is installed."""
        return sys.platform == "linux" and os.path.isdir("/proc/self/fd") and find_spec("numpy") is not None

    def probe(self) -> Probe | None:
        """A segment for workers to try whether they can open one; None when there is no memory for any.

        To be called in the event loop, before anything else.
        """
        if self._probe is None and not self._closed:
            self._loop = asyncio.get_running_loop()
            token = os.urandom(_TOKEN)
            try:
                segment = Segment(-1, _TOKEN)
                segment.write(memoryview(token))
            except OSError:
                return None
            self._probe = (segment, Probe(segment.path, token))
        return self._probe[1] if self._probe is not None else None

    def take(self, nbytes: int) -> Segment | None:
        """A segment of at least so many bytes, held once; None when there is none to be had."""
        if self._closed:
            return None
        self.collect()
        taken = self.accounts.take(nbytes)
        if taken is None:
            return None
        for number in taken.close:
            self._close(number)
        if taken.is_new:
            try:
                self._segments[taken.number] = Segment(taken.number, taken.size)
            except OSError:
                self.accounts.forget(taken.number)
                return None
        if self._timer is None and self._loop is not None:
            self._timer = self._loop.call_later(_TIDY_SECONDS, self._tidy)
        return self._segments[taken.number]

    def copy(self, elements: memoryview) -> Segment | None:
        """A segment that begins with these, held once; None when there is none to be had."""
        segment = self.take(len(elements))
        if segment is not None:
            try:
                segment.write(elements)
            except OSError:
                # What it has is not needed by anybody, and memory is.
                self.accounts.forget(segment.number)
                self._close(segment.number)
                return None
        return segment

    def find(self, elements: memoryview) -> tuple[Segment, int] | None:
        """The segment in which these lie already, and where in it."""
        if not self._mapped:
            return None
        address = address_of(elements)
        at = bisect_right(self._mapped, (address, sys.maxsize)) - 1
        if at < 0:
            return None
        start, number = self._mapped[at]
        segment = self._segments[number]
        offset = address - start
        return (segment, offset) if offset + len(elements) <= segment.size else None

    def hold(self, segment: Segment) -> None:
        """One more holds it."""
        self.accounts.hold(segment.number)

    def release(self, segment: Segment) -> None:
        """One less holds it."""
        self.accounts.release(segment.number, time.monotonic())
        if self._closed:
            self._close_due()

    def view(self, segment: Segment, offset: int, nbytes: int) -> np.ndarray[Any, Any]:
        """These bytes of it as a read-only array, which takes over one hold until nothing of it is left.

        Raises OSError.
        """
        whole = segment.bytes
        if segment.number not in self._addresses:
            self._addresses[segment.number] = address_of(memoryview(whole))
            insort(self._mapped, (self._addresses[segment.number], segment.number))
        import numpy as np

        # Every array on it will have it as its base.
        part: np.ndarray[Any, Any] = np.frombuffer(whole, np.uint8, nbytes, offset)
        part.flags.writeable = False
        weakref.finalize(part, self._on_let_go, segment.number).atexit = False
        return part

    def collect(self) -> None:
        """Takes in what was let go of."""
        while self._let_go and self._collecting.acquire(blocking=False):
            try:
                while self._let_go:
                    self.accounts.release(self._let_go.popleft(), time.monotonic())
                self._close_due()
            finally:
                self._collecting.release()

    def close(self) -> None:
        """Closes what nobody holds, and everything else when it is let go of."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._probe is not None:
            self._probe[0].close()
            self._probe = None
        self.collect()
        self._close_due()

    def _on_let_go(self, number: int) -> None:
        # Wherever the garbage collector happens to be: no more than this.
        self._let_go.append(number)
        if self._closed:
            self.collect()

    def _close_due(self) -> None:
        for number in self.accounts.due(float("inf") if self._closed else time.monotonic()):
            self._close(number)

    def _close(self, number: int) -> None:
        segment = self._segments.pop(number)
        if number in self._addresses:
            self._mapped.remove((self._addresses.pop(number), number))
        segment.close()

    def _tidy(self) -> None:
        self._timer = None
        self.collect()
        self._close_due()
        if len(self.accounts) and self._loop is not None:
            self._timer = self._loop.call_later(_TIDY_SECONDS, self._tidy)


def address_of(elements: memoryview) -> int:
    """Where a buffer lies in this process."""
    import numpy as np

    address: int = np.frombuffer(elements, np.uint8).__array_interface__["data"][0]
    return address
