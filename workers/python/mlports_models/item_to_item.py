"""What the worker `recommender` keeps: who had what, and how often two items were had soon after each other.

Item-to-item collaborative filtering (G. Linden, B. Smith, J. York, Amazon.com Recommendations, 2003), counted as the
events come: two items are as near as the cosine of the users that had both within their `recent` items.
"""

from __future__ import annotations

from array import array
from typing import Any

import numpy as np

from mlports_worker import Failure

from . import settings
from .numeric import Array

_CONFIG = {"recent": (int,), "decay": (int, float), "items": (int,)}
_SHRINK = 10.0  # events that are added to each item's: what was had once or twice says little
_AT_FIRST = 256  # items that there is room for; then twice as many, again and again
_POPULARITY = 1e-6  # so much it says beside nearness: it decides where nothing is near


class Recommender:
    """Learns from events, and recommends. `config` is the service's (see `recommender`); raises `Failure`."""

    def __init__(self, config: dict[str, Any]) -> None:
        settings.check(config, _CONFIG)
        self._recent: int = config.get("recent", 10)
        self._decay = float(config.get("decay", 0.8))
        self._most: int = config.get("items", 5000)
        if self._recent < 1 or self._most < 1:
            raise Failure("invalid_argument", "config: recent and items are 1 or more")
        if not 0 < self._decay <= 1:
            raise Failure("invalid_argument", f"config: decay is above 0 and at most 1, not {self._decay}")
        self._forget()

    def learn(self, user: Any, item: Any) -> None:
        """See `recommender.event`. Raises `Failure` for one item more than there may be; then nothing has changed."""
        user, item = _identity(user, "user"), _identity(item, "item")
        place = self._place(item)
        number = self._users.setdefault(user, len(self._users))
        if number == len(self._histories):
            self._histories.append({})
        history = self._histories[number]
        if place in history:
            return
        before = list(history)[-self._recent :]
        self._together[before, place] += 1
        self._together[place, before] += 1
        self._had[place] += 1
        history[place] = None
        self._events.extend((number, place))

    def recommend(self, user: Any, count: Any) -> list[tuple[Any, float]]:
        """See `recommender.recommend`."""
        if not isinstance(count, int) or isinstance(count, bool) or count < 1:
            raise Failure("invalid_argument", f"count is how many items to recommend, 1 or more, not {count!r:.80}")
        number = self._users.get(_identity(user, "user"))
        history = [] if number is None else list(self._histories[number])
        had = self._had[: len(self._items)]
        scores = had * (_POPULARITY / (had.max(initial=0.0) + 1.0)) + self._nearness(history[-self._recent :])
        scores[history] = -1.0
        left = min(count, len(self._items) - len(history))
        if not left:
            return []
        best = np.flatnonzero(
            scores >= -np.partition(-scores, left - 1)[left - 1]
        )  # more than that where some are equal
        best = best[np.argsort(-scores[best], kind="stable")]
        return [(self._items[place], float(scores[place])) for place in best[:left].tolist()]

    def info(self) -> dict[str, int]:
        """See `recommender.info`."""
        return {"users": len(self._users), "items": len(self._items), "events": len(self._events) // 2}

    def state(self) -> dict[str, Any]:
        """What a snapshot keeps, for `take`: users, items, and of each event (n × 2) whose and which in those it is."""
        events = np.array(self._events, np.uint32).reshape(-1, 2)  # an array, since a list takes 100 times as long
        return {"users": list(self._users), "items": self._items, "events": events}

    def take(self, state: dict[str, Any]) -> None:
        """Goes on from a snapshot."""
        self._forget()
        for item in state["items"]:
            self._place(item)
        users = state["users"]
        for number, place in np.asarray(state["events"]).tolist():
            self.learn(users[number], self._items[place])

    def _forget(self) -> None:
        self._users: dict[Any, int] = {}  # the number of each, in the order in which they came
        self._histories: list[dict[int, None]] = []  # of each user the places of its items, in the order of the events
        self._events = array("I")  # of each event the user's number and the item's place
        self._items: list[Any] = []
        self._places: dict[Any, int] = {}
        room = min(_AT_FIRST, self._most)
        self._together = np.zeros((room, room), np.float32)
        self._had = np.zeros(room, np.float32)

    def _nearness(self, recent: list[int]) -> Array:
        """For each item the sum of its cosines with these, of which the last counts 1, and those before it less."""
        count = len(self._items)
        root = np.sqrt(self._had[:count] + _SHRINK)
        weights = self._decay ** np.arange(len(recent) - 1, -1, -1) / root[recent]
        near: Array = weights @ self._together[recent, :count] / root
        return near

    def _place(self, item: Any) -> int:
        place = self._places.get(item)
        if place is not None:
            return place
        count = len(self._items)
        if count == self._most:
            raise Failure(
                "resource_exhausted",
                f"{item!r:.80} is one item too many: {count:,} are known. Raise items in the config",
            )
        if count == len(self._had):
            more = min(count, self._most - count)
            self._together = np.pad(self._together, (0, more))
            self._had = np.pad(self._had, (0, more))
        self._items.append(item)
        self._places[item] = count
        return count


def _identity(value: Any, what: str) -> Any:
    if isinstance(value, str | int) and not isinstance(value, bool):
        return value
    raise Failure("invalid_argument", f"a {what} is a text or a whole number, not {value!r:.80}")
