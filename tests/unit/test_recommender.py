"""The recommender counts what it says it counts, and what it keeps is enough to go on from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlports_models.item_to_item import Recommender
from mlports_worker import Failure

EVENTS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 12)), max_size=60)
SMALL = {"recent": 3, "decay": 0.5}


def by_definition(events: list[tuple[int, int]], user: int, recent: int, decay: float) -> dict[int, float]:
    """The score of each item that a user has not had, with no more than loops: Σ decay^age · together / √(a · b)."""
    histories: dict[int, list[int]] = {}
    for who, item in events:
        if item not in histories.setdefault(who, []):
            histories[who].append(item)
    had = {item: sum(item in history for history in histories.values()) for _, item in events}

    def together(a: int, b: int) -> int:
        places = [(h.index(a), h.index(b)) for h in histories.values() if a in h and b in h]
        return sum(abs(first - second) <= recent for first, second in places)

    mine = histories.get(user, [])
    scores = {}
    for item in had.keys() - mine:
        near = sum(
            decay**age * together(other, item) / ((had[other] + 10) * (had[item] + 10)) ** 0.5
            for age, other in enumerate(reversed(mine[-recent:]))
        )
        scores[item] = near + 1e-6 * had[item] / (max(had.values()) + 1)
    return scores


@settings(max_examples=60)
@given(EVENTS, st.integers(0, 5))
def test_scores_are_those_of_the_definition(events: list[tuple[int, int]], user: int) -> None:
    recommender = Recommender(SMALL)
    for who, item in events:
        recommender.learn(who, item)
    found, right = recommender.recommend(user, 100), by_definition(events, user, 3, 0.5)
    assert {item for item, _ in found} == right.keys()
    np.testing.assert_allclose([score for _, score in found], [right[item] for item, _ in found], rtol=1e-4)
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert recommender.recommend(user, 3) == found[:3]


@settings(max_examples=30)
@given(EVENTS, EVENTS)
def test_what_is_kept_goes_on_the_same(before: list[tuple[int, int]], after: list[tuple[int, int]]) -> None:
    recommender, restored = Recommender(SMALL), Recommender(SMALL)
    for who, item in before:
        recommender.learn(who, item)
    restored.take(recommender.state())
    for who, item in after:
        for each in (recommender, restored):
            each.learn(who, item)
    assert restored.info() == recommender.info()
    for user in range(5):
        assert restored.recommend(user, 100) == recommender.recommend(user, 100)


def test_room_grows_with_the_items_up_to_a_limit() -> None:
    recommender = Recommender({"items": 700})
    for item in range(700):
        recommender.learn("ada", f"item {item}")
    with pytest.raises(Failure, match="one item too many") as caught:
        recommender.learn("ada", "one more")
    assert caught.value.code == "resource_exhausted"
    assert recommender.info() == {"users": 1, "items": 700, "events": 700}
    assert recommender.recommend("ada", 10) == []
    assert len(recommender.recommend("bob", 10)) == 10


def test_a_stranger_gets_the_most_popular() -> None:
    recommender = Recommender({})
    assert recommender.recommend("nobody", 10) == []
    for user, items in (("a", "xyz"), ("b", "yz"), ("c", "z")):
        for item in items:
            recommender.learn(user, item)
    assert [item for item, _ in recommender.recommend("nobody", 10)] == ["z", "y", "x"]


@pytest.mark.parametrize(
    ("user", "item", "count", "words"),
    [(None, 1, 1, "user"), (1, [2], 1, "item"), (1, True, 1, "item"), (1, 2, 0, "count"), (1, 2, "9", "count")],
)
def test_what_makes_no_sense_is_refused(user: Any, item: Any, count: Any, words: str) -> None:
    recommender = Recommender({})
    recommender.learn("ada", "x")

    def learn_and_recommend() -> None:
        recommender.learn(user, item)
        recommender.recommend(user, count)

    with pytest.raises(Failure, match=words):
        learn_and_recommend()
    assert recommender.recommend("bob", 1)[0][0] == "x"


@pytest.mark.parametrize(
    ("config", "words"),
    [({"decay": 0}, "above 0"), ({"recent": 0}, "1 or more"), ({"item": 3}, "did you mean 'items'")],
)
def test_a_wrong_config_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(Failure, match=words):
        Recommender(config)
