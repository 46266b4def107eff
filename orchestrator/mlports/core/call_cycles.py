"""Calls between services that wait for each other: a → b → a, with every replica busy.

The rules
- A call that waits can begin when a replica of its service, or the one in whose pipe it is, has a free slot, or one
  whose call can end.
- A call that is being worked at can end unless its handler has made a call that can never begin, or never end.
- A service or a replica that is not there at the moment, or has no slots yet, is starting: calls for it can begin.
- What can neither begin nor end by these is stuck. Nothing but a failure of one of them will ever change that.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_Lane = tuple[str, int]


class Waiting(NamedTuple):
    """A call that has no answer yet: `call` is its id, `service` where it goes.

    `by` is the id of the call whose handler makes it, None: it comes from outside. `lane` is the replica in whose pipe
    it is, None: it is in the service's queue. Calls that travel together are one, with an entry for each that made one.
    """

    call: int
    service: str
    by: int | None
    lane: tuple[str, int] | None


class Slots(NamedTuple):
    """What one replica does: `at` are the ids of the calls that are being worked at, at most `capacity` of them.

    One that is about to come back is given with nothing in `at`.
    """

    service: str
    replica: int
    capacity: int
    at: tuple[int, ...]


def stuck(waiting: Sequence[Waiting], slots: Sequence[Slots]) -> set[int]:
    """The ids of the waiting calls that can never begin.

    `waiting` must also hold the calls that handlers have made and that are being worked at: they tie the call that
    waits for them to what they wait for. One that stands in some replica's `at` has begun, and is never in the result.
    """
    begun = {call for each in slots for call in each.at}
    return _blocked(waiting, slots) - begun


def path(call: int, waiting: Sequence[Waiting], slots: Sequence[Slots], service_of: Mapping[int, str]) -> list[str]:
    """The services of the cycle that a stuck call is in, or waits for, as ["a", "b", "a"]; [] when it is not stuck.

    `service_of` is by call id; a call that is not in it is of the service that it waits for.
    """
    blocked = _blocked(waiting, slots)
    at = {(each.service, each.replica): each.at for each in slots}
    begun = {each for held in at.values() for each in held}
    if call not in blocked or call in begun:
        return []
    known = {each.call: each for each in waiting}
    made: dict[int, int] = {}  # by the call that is kept from its end: the call that keeps it
    for each in waiting:
        if each.by is not None and each.call in blocked:
            made[each.by] = min(each.call, made.get(each.by, each.call))
    names: list[str] = []
    seen: dict[tuple[str, _Lane | None], int] = {}  # where a call waits: its place among the names
    while True:
        service, lane = known[call].service, known[call].lane
        names.append(service)
        if (service, lane) in seen:
            return names[seen[service, lane] :]
        seen[service, lane] = len(names) - 1
        lanes = [lane] if lane is not None else [name for name in at if name[0] == service]
        call = made[min(held for name in lanes for held in at[name])]
        while call in begun:
            names.append(service_of.get(call, known[call].service))
            call = made[call]


class _Ties:
    """Who waits for whom, and what each lane still waits for."""

    def __init__(self, waiting: Sequence[Waiting], slots: Sequence[Slots]) -> None:
        self.lanes_of: dict[int, list[_Lane]] = defaultdict(list)
        self.there: set[_Lane | str] = set()
        for each in slots:
            if each.capacity > 0 or each.at:
                self.there |= {each.service, (each.service, each.replica)}
            for call in each.at:
                self.lanes_of[call].append((each.service, each.replica))
        self.by: dict[int, list[int]] = defaultdict(list)
        self.made: dict[int, int] = defaultdict(int)  # calls that its handler waits for, by call
        self.queued: dict[_Lane | str, list[int]] = defaultdict(list)
        for one in waiting:
            if one.by is not None:
                self.by[one.call].append(one.by)
                self.made[one.by] += 1
            if one.call not in self.lanes_of:
                self.queued[one.service if one.lane is None else one.lane].append(one.call)

    def opened(self, lane: _Lane) -> list[int]:
        """The calls that can begin now that a slot of this lane comes free."""
        return self.queued.pop(lane, []) + self.queued.pop(lane[0], [])

    def ended(self, call: int) -> list[int]:
        """The calls that can end now that this one can."""
        able = []
        for by in self.by.pop(call, ()):
            self.made[by] -= 1
            if not self.made[by] and by in self.lanes_of:
                able.append(by)
        return able


def _blocked(waiting: Sequence[Waiting], slots: Sequence[Slots]) -> set[int]:
    """The ids of all calls, waiting or being worked at, that can never end."""
    ties = _Ties(waiting, slots)
    every = {each.call for each in waiting} | set(ties.lanes_of)
    free = [call for call in ties.lanes_of if not ties.made[call]]
    for place in [place for place in ties.queued if place not in ties.there]:
        free += ties.queued.pop(place)
    for each in slots:
        if len(each.at) < each.capacity:
            free += ties.opened((each.service, each.replica))
    while free:
        call = free.pop()
        every.discard(call)
        for lane in ties.lanes_of.get(call, ()):
            free += ties.opened(lane)
        free += ties.ended(call)
    return every
