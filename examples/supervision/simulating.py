"""The same tree in virtual time: what `mlports simulate` plays."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count, takewhile

from mlports import Config
from mlports.testing.simulation import Crash, play_crashes


def gives_up_at(config: Config, deaths: Iterable[float]) -> int | None:
    """At which death, from 1 on, the supervisor gives up, if the worker is killed at these seconds; None: at none."""
    crashes = [Crash(round(1000 * death), "model/0", "kill") for death in deaths]
    # A line with ">" for each crash, and then those of what came of it.
    number = 0
    for moment in play_crashes(config, crashes):
        number += moment.text.startswith("> ")
        if moment.text.endswith("root_dead"):
            return number
    return None


def every(seconds: float, so_long: float = 600) -> Iterator[float]:
    """A death every so many seconds, for ten minutes."""
    return takewhile(lambda at: at <= so_long, (number * seconds for number in count(1)))
