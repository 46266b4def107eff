"""Half-space trees count what they are defined to count, however readings come, and find the Shuttle's odd ones."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlports_models.detector import Detector
from mlports_models.half_space import HalfSpaceTrees
from mlports_worker import Failure

SMALL = {"window": 20, "trees": 30, "depth": 4}


def readings(count: int, seed: int = 0, features: int = 3) -> Any:
    return np.random.default_rng(seed).normal(size=(count, features))


def by_definition(trees: HalfSpaceTrees, window: Any, reading: Any, depth: int) -> float:
    """The score of a reading: in each tree it goes down, and so does each reading of the window, one by one."""
    total = 0.0
    for tree in range(len(trees.masses)):
        there, point, node = list(trees_of(trees, window)), trees_of(trees, [reading])[0], 0
        for level in range(depth + 1):
            density = len(there) * 2.0**level / len(window)
            if len(there) <= 0.1 * len(window) or level == depth:
                break
            feature, split = trees._features[tree, node], trees._splits[tree, node]
            right = point[feature] >= split
            there = [other for other in there if (other[feature] >= split) == right]
            node = 2 * node + 1 + int(right)
        total += math.log2(1 + density)
    return float(2.0 ** (-total / len(trees.masses)))


def trees_of(trees: HalfSpaceTrees, table: Any) -> Any:
    """Readings in the units of the trees."""
    return (np.asarray(table) - trees._low) / trees._span


@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(1, 4), st.integers(0, 2**32 - 1))
def test_scores_are_those_of_the_definition(depth: int, features: int, seed: int) -> None:
    window, new = readings(30, seed, features), readings(6, seed + 1, features) * 3
    trees = HalfSpaceTrees(window.min(axis=0), window.max(axis=0), trees=3, depth=depth, window=30, seed=seed)
    trees.count(trees.leaves(window))
    trees.turn()
    right = [by_definition(trees, window, reading, depth) for reading in new]
    np.testing.assert_allclose(trees.scores(trees.leaves(new)), right, rtol=1e-12)


def test_each_half_has_the_same_size() -> None:
    """Guards the splits: along a path, what is halved again is halved in the middle of what is left."""
    trees = HalfSpaceTrees(np.zeros(1), np.ones(1), trees=4, depth=5, window=10, seed=3)
    for splits in trees._splits:
        steps = np.diff(np.sort(splits))
        np.testing.assert_allclose(steps, steps[0])
        assert splits.min() < 0
        assert splits.max() > 1  # the box reaches beyond what was seen, both ways


@settings(max_examples=30)
@given(st.integers(1, 90), st.lists(st.integers(0, 90), max_size=8))
def test_readings_are_judged_the_same_however_they_are_divided(count: int, cuts: list[int]) -> None:
    table = readings(count)
    whole = Detector(SMALL).judge(table)
    detector = Detector(SMALL)
    places = [0, *sorted(min(cut, count) for cut in cuts), count]
    parts = [detector.judge(table[start:end]) for start, end in pairwise(places) if start < end]
    for name in ("score", "alert"):
        np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), whole[name])


@pytest.mark.parametrize("place", [1, 19, 20, 33, 40, 71])
def test_what_is_kept_goes_on_the_same(place: int) -> None:
    table = readings(100)
    whole = Detector(SMALL).judge(table)
    detector, restored = Detector(SMALL), Detector(SMALL)
    detector.judge(table[:place])
    restored.take(detector.state())
    assert restored.info() == detector.info()
    rest = restored.judge(table[place:])
    np.testing.assert_array_equal(rest["score"], whole["score"][place:])
    np.testing.assert_array_equal(rest["alert"], whole["alert"][place:])


def test_a_single_reading_and_the_first_window() -> None:
    detector = Detector(SMALL)
    told = detector.judge([0.0, 1.0, 2.0])
    assert (told["number"], told["alert"]) == (0, False)
    assert math.isnan(told["score"])
    found = detector.judge(readings(59))
    assert found["number"] == 1
    assert np.isnan(found["score"][:19]).all()
    assert not np.isnan(found["score"][19:]).any()
    assert not found["alert"][:39].any()  # there is no threshold before there is a window of scores
    assert detector.judge([1e6, -1e6, 1e6])["alert"]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([1.0, 2.0], "2 features"),
        ([[[1.0]]], "shape"),
        ([1, None, 3], "numbers"),
        ([1, math.inf, 3], "NaN"),
        ([], "empty"),
    ],
)
def test_what_is_no_reading_is_refused_and_nothing_is_lost(bad: Any, words: str) -> None:
    detector = Detector(SMALL)
    detector.judge(readings(30))
    with pytest.raises(Failure, match=words):
        detector.judge(bad)
    assert detector.info()["seen"] == 30


@pytest.mark.parametrize(
    ("config", "words"),
    [({"rate": 0}, "between 0 and 1"), ({"depth": 30}, "from 1 to 14"), ({"tree": 3}, "did you mean 'trees'")],
)
def test_a_wrong_config_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(Failure, match=words):
        Detector(config)


def test_a_snapshot_of_other_settings_is_refused() -> None:
    detector = Detector(SMALL)
    detector.judge(readings(30))
    with pytest.raises(Failure, match="snapshot"):
        Detector({"window": 30}).take(detector.state())
