"""How far the writer of a stream may be ahead of its reader."""

from __future__ import annotations

_FIRST = 2  # items, while nothing is known of their size
_MOST = 32  # items
_MOST_BYTES = 8 * 1024 * 1024


class CreditWindow:
    """The receiver's account of one stream: what may still come, and what came and waits for its reader.

    At most 32 items are on their way or wait, and no more than seem to fit into 8 MiB, judged by the largest lately;
    where a single one is larger, one at a time. The first two come before any size is known.
    """

    __slots__ = ("_size", "coming", "waiting", "waiting_bytes")

    def __init__(self) -> None:
        self.coming = 0  # items that may still come
        self.waiting = 0  # items that nobody has taken yet
        self.waiting_bytes = 0
        self._size = 0  # bytes that the next is expected to have; 0: not known

    def arrived(self, size: int) -> None:
        """An item of so many bytes came."""
        self.coming -= 1
        self.waiting += 1
        self.waiting_bytes += size
        self._size = max(size, self._size - self._size // 8, 1)

    def taken(self, size: int) -> None:
        """The reader took an item of so many bytes."""
        self.waiting -= 1
        self.waiting_bytes -= size

    def grant(self) -> int:
        """How many more may come, 0 for none yet: it is given in large parts. Counts them as given."""
        ahead = self.coming + self.waiting
        if ahead > _MOST // 2:
            return 0
        if not self._size:
            more = _FIRST - ahead
        else:
            room = _MOST_BYTES - self.waiting_bytes - self.coming * self._size
            more = min(_MOST - ahead, room // self._size)
            if more <= 0 and not self.coming and self.waiting_bytes < _MOST_BYTES:
                more = 1
            elif more < ahead:
                return 0
        if more <= 0:
            return 0
        self.coming += more
        return more
