"""Round robin and least in flight: the policies that look at the replicas alone, and not at the call."""

from __future__ import annotations

from collections.abc import Sequence

from mlports.core.routing.lanes import LaneView, has_room
from mlports.core.routing.weights import Weights
from mlports.core.routing.window import least_in_flight

_LATER = 1 << 62  # more than any replica's number
_NEVER = float("inf")


class RoundRobin:
    """The replicas in turn, in the order of their numbers.

    The rules
    - The next is the open lane with the next higher number after the one chosen last; after the highest, the lowest.
      One that has no room misses its turn; None when none has room.
    - With weights it is nginx's smooth weighted round robin: 3 and 1 give 0, 0, 1, 0, and so on. While the same lanes
      are open and have room, each gets exactly its share, in turns that are spread evenly. Where that changes, what is
      due to each, or was taken in advance, is cut to the weight of those that are left.
    - A turn is a request, however many calls it carries.

    Raises `ValueError` for wrong weights.
    """

    __slots__ = ("_due", "_last", "_total", "_weights")

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        self._weights = Weights(weights)
        self._last = -1
        self._due: dict[int, float] = {}  # by replica: what nginx calls its current weight
        self._total = 0.0  # the weight of those among which the last was chosen

    def choose(self, lanes: Sequence[LaneView], key: object, now: float, weight: int = 1) -> int | None:
        """See `Policy.choose`; `key` is ignored. The lane that is returned has had its turn."""
        if not self._weights.even:
            return self._choose_by_weight(lanes, now, weight)
        index = self._following(lanes)
        if index is not None and not has_room(lanes[index], now, weight):
            able = _able(lanes, now, weight)
            place = self._following([lanes[index] for index in able])
            index = None if place is None else able[place]
        if index is not None:
            self._last = lanes[index].number
        return index

    def _following(self, lanes: Sequence[LaneView]) -> int | None:
        """The index of the open lane with the next number after the last one's, in a circle."""
        last = self._last
        best, least = None, 2 * _LATER
        for index, lane in enumerate(lanes):
            place = lane.number
            if place <= last:
                place += _LATER
            if place < least and lane.open:
                best, least = index, place
        return best

    def _choose_by_weight(self, lanes: Sequence[LaneView], now: float, weight: int) -> int | None:
        index, total = self._credit(lanes)
        if index is None:
            return None
        if not has_room(lanes[index], now, weight):
            self._take_back(lanes)
            able = _able(lanes, now, weight)
            place, total = self._credit([lanes[index] for index in able])
            if place is None:
                return None
            index = able[place]
        due = self._due
        due[lanes[index].number] -= total
        if total != self._total:
            self._total = total
            for number, then in due.items():  # among heavier ones more may have been due than is soon worked off
                due[number] = max(-total, min(then, total))
        return index

    def _credit(self, lanes: Sequence[LaneView]) -> tuple[int | None, float]:
        """Credits its weight to each open lane. The index of the one that the most is due to, and what that is to cost.

        Of several it is the one with the lowest number.
        """
        due, by_number = self._due, self._weights.by_number
        best, most, lowest, total = None, -_NEVER, _LATER, 0.0
        for index, lane in enumerate(lanes):
            number = lane.number
            own = by_number.get(number, 1.0)
            if own and lane.open:
                due[number] = then = due.get(number, 0.0) + own
                total += own
                if then > most or (then == most and number < lowest):
                    best, most, lowest = index, then, number
        return best, total

    def _take_back(self, lanes: Sequence[LaneView]) -> None:
        for lane in lanes:
            if lane.open and (own := self._weights.of(lane.number)):
                self._due[lane.number] -= own


class LeastInFlight:
    """The replica that holds the fewest calls.

    The rules
    - It is the one that holds the fewest for its weight, among the open ones that have room; None when none has.
    - Without weights, ties go to the one that stands first: a replica that is warm stays so.
    - With weights, ties go in turn, as `RoundRobin` has it: where calls come one at a time, each replica gets exactly
      its share of them. Where they come faster, a light replica may get more than its share, because it is idle when
      a heavy one is not: for a share that holds whatever the load, as a canary's, take `RoundRobin`.

    Raises `ValueError` for wrong weights.
    """

    __slots__ = ("_turns", "_weights")

    def __init__(self, weights: Sequence[float] | None = None) -> None:
        self._weights = Weights(weights)
        self._turns = RoundRobin(weights)

    def choose(self, lanes: Sequence[LaneView], key: object, now: float, weight: int = 1) -> int | None:
        """See `Policy.choose`; `key` is ignored."""
        if self._weights.even:
            able = ((index, lane.window) for index, lane in enumerate(lanes) if lane.open and not lane.congested)
            return least_in_flight(able, now, weight)
        least = _NEVER
        tied: list[int] = []
        for index, lane in enumerate(lanes):
            own = self._weights.of(lane.number)
            if own and lane.open and has_room(lane, now, weight):
                load = lane.window.in_flight / own
                if load < least:
                    least, tied = load, [index]
                elif load == least:
                    tied.append(index)
        if len(tied) < 2:
            return tied[0] if tied else None
        place = self._turns.choose([lanes[index] for index in tied], key, now, weight)
        return None if place is None else tied[place]


def _able(lanes: Sequence[LaneView], now: float, weight: int) -> list[int]:
    """The indices of the open lanes that have room."""
    return [index for index, lane in enumerate(lanes) if lane.open and has_room(lane, now, weight)]
