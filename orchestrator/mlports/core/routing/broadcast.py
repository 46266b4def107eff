"""Broadcast: every replica gets a copy of a call, and the caller all their answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mlports.core.routing.lanes import LaneView, has_room


class Broadcast:
    """All replicas that are open.

    The rules
    - A call is sent when every open lane has room, then to all of them at once; so all get the same calls, in the same
      order. A replica that is slow holds the broadcasts up.
    - A replica that is not open at that moment gets no copy, then or later.
    """

    __slots__ = ()

    def choose_all(self, lanes: Sequence[LaneView], now: float, weight: int = 1) -> list[int] | None:
        """The indices of the lanes that get a copy, by the replicas' numbers; None: it waits.

        `now` is in monotonic seconds, `weight` in calls. It waits when no lane is open, too.
        """
        chosen = []
        for index, lane in enumerate(lanes):
            if lane.open:
                if not has_room(lane, now, weight):
                    return None
                chosen.append((lane.number, index))
        return [index for _, index in sorted(chosen)] or None


class Gathering:
    """The outcomes of one broadcast as they come in: a result, or the error of a replica that failed or died.

    It is complete once each of the replicas has settled. What is told of one that has settled already is ignored: its
    first outcome stands. Raises `ValueError` without replicas, and when one is named twice.
    """

    __slots__ = ("_outcomes", "_replicas")

    def __init__(self, replicas: Iterable[int]) -> None:
        self._replicas = sorted(replicas)
        self._outcomes: dict[int, Any] = {}
        if not self._replicas:
            raise ValueError("a broadcast needs at least one replica")
        if len(set(self._replicas)) < len(self._replicas):
            raise ValueError(f"a broadcast goes to each replica once, not to {self._replicas}")

    @property
    def missing(self) -> list[int]:
        """The replicas that have not settled yet, in order."""
        return [replica for replica in self._replicas if replica not in self._outcomes]

    def settled(self, replica: int, outcome: Any) -> bool:
        """A replica answered, or failed: then `outcome` is the error. True, once: with it all have.

        Raises `ValueError` for a replica that got no copy.
        """
        if replica not in self._replicas:
            raise ValueError(f"replica {replica} got no copy of the broadcast; these did: {self._replicas}")
        if replica in self._outcomes:
            return False
        self._outcomes[replica] = outcome
        return len(self._outcomes) == len(self._replicas)

    def outcomes(self) -> list[list[Any]]:
        """[replica, result or error] for each that has settled, in the order of their numbers."""
        return [[replica, self._outcomes[replica]] for replica in self._replicas if replica in self._outcomes]
