"""When the calls that wait for a batch method go out together, and how many of them."""

from __future__ import annotations

from mlports.core.batching.auto_size import MOST_IN_BATCH, AutoSize

__all__ = ["MOST_IN_BATCH", "BatchRule"]


class BatchRule:
    """The batches of one method, whichever groups its calls are in.

    A batch has at most `max_size` calls; None: as many as its measured latency recommends, see `AutoSize`. No call
    waits for company longer than `max_wait` seconds while there is room for it. Raises `ValueError`.
    """

    __slots__ = ("_auto", "max_wait", "size")

    def __init__(self, max_size: int | None, max_wait: float) -> None:
        if max_size is not None and max_size < 1:
            raise ValueError(f"a batch has at least 1 call, not {max_size}")
        if not 0 <= max_wait < float("inf"):
            raise ValueError(f"max_wait must be from 0 up, in seconds, not {max_wait}")
        self._auto = AutoSize() if max_size is None else None
        self.size = 1 if max_size is None else max_size  # the most that a batch may have now
        self.max_wait = max_wait

    def take(self, waiting: int, oldest: float, idle: bool, now: float) -> int:
        """How many of `waiting` calls, the oldest of which waits since `oldest`, go out now; 0: they wait for company.

        Who asks has a replica with room. One that is `idle` gets what there is; one that is busy gets a full batch, or
        what there is once the oldest has waited its time.
        """
        if waiting >= self.size:
            return self.size
        if waiting > 0 and (idle or now >= oldest + self.max_wait):
            return waiting
        return 0

    def due(self, oldest: float) -> float:
        """When `take` gives something at the latest, though no call and no answer comes."""
        return oldest + self.max_wait

    def answered(self, count: int, seconds: float) -> None:
        """A batch of `count` calls took `seconds` in the worker."""
        if self._auto is not None:
            self._auto.answered(count, seconds)
            self.size = self._auto.size

    def refused(self, count: int) -> None:
        """A batch of `count` calls could not be sent, or not be answered, in one frame: none is that large again."""
        if self._auto is not None:
            self._auto.refused(count)
            self.size = self._auto.size
        elif count > 1:
            self.size = min(self.size, count // 2)
