"""Broadcast: every replica gets a copy of a call, and the caller all their answers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class Broadcast:
    """Every replica that is up when a call is made, or, if none is, those that are as soon as one is.

    Each copy waits for its own replica: so all get them in the same order, and a slow one holds up no other. A replica
    that comes up later gets no copy.
    """

    __slots__ = ()


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
