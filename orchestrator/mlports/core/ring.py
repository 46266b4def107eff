"""A bounded ring: the last entries, as many and as large as it may hold, and the first ones for ever."""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Entry = TypeVar("Entry")


class Ring(Generic[Entry]):
    """At most `most` entries of at most `most_bytes` together. What was pinned is kept besides, and never forgotten."""

    def __init__(self, most: int, most_bytes: int) -> None:
        if most < 1 or most_bytes < 1:
            raise ValueError(f"a ring holds at least 1 entry of 1 byte, not {most} of {most_bytes}")
        self.most_bytes = most_bytes
        self.forgotten = 0
        self.bytes = 0  # without those pinned
        self._most = most
        self._pinned: list[Entry] = []
        self._last: deque[tuple[int, Entry]] = deque()

    def add(self, entry: Entry, size: int) -> None:
        """Adds an entry of `size` bytes, and forgets the oldest as far as that is needed; also itself, if too large."""
        last = self._last
        last.append((size, entry))
        held = self.bytes + size
        while len(last) > self._most or held > self.most_bytes:
            held -= last.popleft()[0]
            self.forgotten += 1
        self.bytes = held

    def pin(self, entry: Entry) -> None:
        """Adds one that is to be there in the end, whatever comes."""
        self._pinned.append(entry)

    def entries(self) -> list[Entry]:
        """Those pinned, then the last ones; each in the order in which they came."""
        return [*self._pinned, *(entry for _, entry in self._last)]
