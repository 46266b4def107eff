"""The simulated shots: they are those of the zones that they are made of, and come from where those are."""

from __future__ import annotations

import numpy as np
import pytest

from examples.neural_net import shots


def test_each_zone_has_its_share_and_its_rate() -> None:
    places, made = shots.simulate(200_000, np.random.default_rng(1))
    x, y = places.T
    seen = 0
    for name, zone in shots.ZONES.items():
        inside = zone.holds(x, y)
        seen += inside.sum()
        assert inside.mean() == pytest.approx(zone.shots / 209_930, abs=0.005), name
        assert made[inside].mean() == pytest.approx(zone.made, abs=0.03), name
    assert seen == len(places)  # no place is in two of them
    assert made.mean() == pytest.approx(0.457, abs=0.005)


def test_the_same_seed_gives_the_same_shots() -> None:
    first, again = (shots.simulate(100, np.random.default_rng(3)) for _ in range(2))
    for left, right in zip(first, again, strict=True):
        np.testing.assert_array_equal(left, right)


def test_other_coordinates_are_distance_and_angle() -> None:
    np.testing.assert_allclose(
        shots.from_the_basket(np.array([[0.0, 25.0], [-12.5, 0.0]])), [[0.5, 0.5**0.5, 0.5], [0.25, 0.5, 1.0]]
    )
