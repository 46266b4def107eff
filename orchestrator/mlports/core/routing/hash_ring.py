"""Consistent hashing: the calls of one key go to one replica, and few keys move when replicas come or go.

    key ──▶ one of 4096 slots ──▶ the replicas in an order that is the slot's own ──▶ the first of them that is open

The orders are made by weighted rendezvous hashing, not by points on a ring: each replica draws a number for
each slot, and the lowest is first. So what one replica draws does not depend on which others there are.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Sequence
from hashlib import blake2b

from mlports.core.routing.keys import key_number
from mlports.core.routing.lanes import LaneView, has_room
from mlports.core.routing.weights import Weights

SLOTS = 4096
_NEVER = float("inf")


class HashRing:
    """By the call's key; see `keys` for what can be one.

    The rules
    - A key's home is the first open lane in the order of the key's slot. While that one is down its keys go to the next
      in their orders, so that the others share them; when it is up again they come back.
    - One replica more: only keys that move to it move, about 1 of n, its share. One less: only those that it had.
    - Each replica has its weight's share of the slots, give or take about √(its slots).
    - `sticky`: a call waits for its home's room, because the state that it needs is there. Otherwise a home without
      room is passed over for the next in order that has some (bounded load).
    - Home, slot and order depend on the key, the weights and the replicas' numbers alone: they are the same in every
      run and on every machine.

    Raises `ValueError` for wrong weights. Takes up to 8 bytes of memory for each slot and replica.
    """

    __slots__ = ("_drawn", "_sticky", "_weights")

    def __init__(self, weights: Sequence[float] | None = None, *, sticky: bool = True) -> None:
        self._weights = Weights(weights)
        self._sticky = sticky
        self._drawn: list[array[float]] = [array("d") for _ in range(SLOTS)]  # by slot and replica, as far as needed

    def slot(self, key: object) -> int:
        """The slot of a key, from 0 to 4095. Raises `TypeError` or `ValueError`, with what to tell the caller."""
        return key_number(key) % SLOTS

    def home(self, lanes: Sequence[LaneView], slot: int) -> int | None:
        """The index of the lane where the keys of a slot belong now, with or without room; None when none is open."""
        drawn = self._drawn[slot]
        best, least = None, _NEVER
        for index, lane in enumerate(lanes):
            if lane.open:
                number = lane.number
                if number >= len(drawn):
                    self._draw(slot, number)
                if drawn[number] < least:
                    best, least = index, drawn[number]
        return best

    def choose(self, lanes: Sequence[LaneView], key: object, now: float, weight: int = 1) -> int | None:
        """See `Policy.choose`. Raises as `slot` does."""
        return self.choose_in(lanes, self.slot(key), now, weight)

    def choose_in(self, lanes: Sequence[LaneView], slot: int, now: float, weight: int = 1) -> int | None:
        """`choose` for a slot, where that is known already."""
        index = self.home(lanes, slot)
        if index is None or has_room(lanes[index], now, weight):
            return index
        if self._sticky:
            return None
        able = [index for index, lane in enumerate(lanes) if lane.open and has_room(lane, now, weight)]
        place = self.home([lanes[index] for index in able], slot)
        return None if place is None else able[place]

    def _draw(self, slot: int, number: int) -> None:
        """Draws for a slot up to a replica: by an exponential distribution, the quicker the larger its weight."""
        drawn = self._drawn[slot]
        for replica in range(len(drawn), number + 1):
            weight = self._weights.of(replica)
            digest = blake2b(b"%d/%d" % (slot, replica), digest_size=8, person=b"mlports").digest()
            uniform = ((int.from_bytes(digest, "big") >> 11) + 0.5) / (1 << 53)  # more than 0, less than 1
            drawn.append(-math.log(uniform) / weight if weight else _NEVER)
