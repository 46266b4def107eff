"""How many calls travel in one frame, and how many items of a `map` in one request."""

from __future__ import annotations

_TOGETHER = 128
_FEW = 64
_QUICK = 0.0001  # seconds
_CHUNK_TIME = 0.005  # seconds
_MOST_IN_CHUNK = 4096


def frame_size(waiting: int, room: int, replicas: int, pace: float | None, in_flight: int = 0) -> int:
    """How many of `waiting` calls to send in one frame to a replica with `room`, when `replicas` can take some.

    A frame for each call costs more than a quick handler does, so calls that wait together travel together; where a
    handler takes longer than 0.1 ms, `pace` seconds, each travels alone and is answered the moment it is done.

    0: they wait for company, because the replica has `in_flight` enough to do until there is some. Without this a small
    frame would make room for a small one, again and again.
    """
    if pace is None or pace > _QUICK:
        return 1
    size = max(1, min(_TOGETHER, room, -(-waiting // replicas)))
    return 0 if size < _FEW and in_flight >= _TOGETHER else size


class ChunkSize:
    """How many items of a `map` go into one request: as many as take about 5 ms, found by doubling from `first`."""

    def __init__(self, first: int = 1, *, most: int = _MOST_IN_CHUNK) -> None:
        if first < 1:
            raise ValueError(f"a first batch has at least 1 item, not {first}")
        self.size = min(first, most)
        self._most = most

    def answered(self, count: int, seconds: float) -> None:
        """A request of `count` items took `seconds`, there and back."""
        if seconds < _CHUNK_TIME / 2 and count >= self.size:
            self.size = min(2 * self.size, self._most)
        elif seconds > 2 * _CHUNK_TIME and count > 1:
            self.size = max(1, count // 2)

    def refused(self, count: int) -> None:
        """A request of `count` items could not be sent, or not be answered, in one frame."""
        self.size = max(1, min(self.size, count // 2))
