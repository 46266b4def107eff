"""What a policy sees of a lane, and what every policy can do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mlports.core.routing.window import Window


class LaneView(Protocol):
    """One replica, as far as a choice depends on it.

    `number` is the replica's, from 0; no two lanes that are chosen among have the same. An `open` lane is up and may be
    given requests; one that is starting, stopping, retired or dead is not. A `congested` lane is open, but its pipe is
    so full that nothing should be added now; like a full window, that passes.
    """

    @property
    def number(self) -> int: ...
    @property
    def window(self) -> Window: ...
    @property
    def open(self) -> bool: ...
    @property
    def congested(self) -> bool: ...


class Policy(Protocol):
    """Chooses one lane for each request. A lane that is not open, or has no room, is never chosen."""

    def choose(self, lanes: Sequence[LaneView], key: object, now: float, weight: int = 1) -> int | None:
        """The index in `lanes` of the one that takes the next request, of `weight` calls; None: it waits.

        `lanes` may stand in any order, and those that are down may be left out. `key` is the call's, for the policies
        that look at it. `now` is in monotonic seconds.
        """


def has_room(lane: LaneView, now: float, weight: int = 1) -> bool:
    """Whether an open lane can take a request of `weight` calls now."""
    return not lane.congested and lane.window.room(now, weight) > 0
