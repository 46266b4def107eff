"""Simulated shots at a basket: no real shot chart comes with any package.

The simulator knows one thing of the real game, and nothing else: how many of the 209,930 shots of the NBA's season of
2016-17 were taken from each zone, and what share of those went in. Within a zone a shot comes from anywhere alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Array = np.ndarray[Any, Any]
HALF_COURT, BASELINE, SIDE = 41.75, -5.25, 25.0  # feet, from the point below the basket
ARC, CORNER, BREAK = 23.75, 22.0, 8.75


class Zone(NamedTuple):
    """How many shots were taken from it, the share that went in, and whether a place (x, y, in feet) is in it."""

    shots: int
    made: float
    holds: Callable[[Array, Array], Array]
    depth: tuple[float, float] = (BASELINE, HALF_COURT)  # y from and to


def _restricted(x: Array, y: Array) -> Array:
    return np.hypot(x, y) < 4


def _paint(x: Array, y: Array) -> Array:
    return (abs(x) <= 8) & (y <= 13.75) & ~_restricted(x, y)


def _beyond_the_break(x: Array, y: Array) -> Array:
    return (np.hypot(x, y) >= ARC) & (y > BREAK)


def _within_the_arc(x: Array, y: Array) -> Array:
    inside = np.where(y > BREAK, np.hypot(x, y) < ARC, abs(x) < CORNER)
    return inside & ~_paint(x, y) & ~_restricted(x, y)


ZONES = {
    "restricted area": Zone(67_289, 0.611, _restricted, (-4, 4)),
    "paint otherwise": Zone(29_823, 0.418, _paint, (BASELINE, 13.75)),
    "mid-range": Zone(46_575, 0.403, _within_the_arc, (BASELINE, ARC)),
    "left corner three": Zone(8_031, 0.386, lambda x, y: (x <= -CORNER) & (y <= BREAK), (BASELINE, BREAK)),
    "right corner three": Zone(7_640, 0.388, lambda x, y: (x >= CORNER) & (y <= BREAK), (BASELINE, BREAK)),
    "above the break": Zone(50_073, 0.351, lambda x, y: _beyond_the_break(x, y) & (np.hypot(x, y) < 27), (BREAK, 27)),
    "backcourt": Zone(499, 0.020, lambda x, y: y > HALF_COURT, (HALF_COURT, 88.75)),
}


def simulate(count: int, random: np.random.Generator) -> tuple[Array, Array]:
    """Where shots come from (count × 2: x and y in feet), and whether each goes in (count, 0 or 1)."""
    zones = list(ZONES.values())
    shares = np.array([zone.shots for zone in zones], float)
    which = random.choice(len(zones), count, p=shares / shares.sum())
    places = np.empty((count, 2))
    for number, zone in enumerate(zones):
        wanted = np.flatnonzero(which == number)
        while len(wanted):  # places are drawn again until they are in the zone
            x = random.uniform(-SIDE, SIDE, len(wanted))
            y = random.uniform(*zone.depth, len(wanted))
            places[wanted] = np.column_stack([x, y])
            wanted = wanted[~zone.holds(x, y)]
    made = random.uniform(size=count) < np.array([zone.made for zone in zones])[which]
    return places, made.astype(float)


def from_the_basket(places: Array) -> Array:
    """The same places in other coordinates: the distance in court widths, its root, and the angle in half turns."""
    distance = np.hypot(places[:, 0], places[:, 1]) / (2 * SIDE)
    angle = np.arctan2(places[:, 1], places[:, 0]) / np.pi
    return np.column_stack([distance, np.sqrt(distance), angle])
