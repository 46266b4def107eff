"""Who gets a copy of a broadcast, and how their outcomes are gathered."""

from __future__ import annotations

import pytest

from mlports.core.routing import Broadcast, Gathering
from tests.unit.test_routing_policies import Lane, lanes


def test_all_that_are_open_get_it_by_number() -> None:
    among = [Lane(3), Lane(1), Lane(2, open=False), Lane(0)]
    assert Broadcast().choose_all(among, 0.0) == [3, 1, 0]


def test_it_waits_until_all_have_room() -> None:
    among = [Lane(0), Lane(1).holding(100)]
    assert Broadcast().choose_all(among, 0.0) is None
    assert Broadcast().choose_all(among, 0.0, 200) == [0, 1]
    among[1].window.answered(1, 0.001)
    assert Broadcast().choose_all(among, 0.001) == [0, 1]
    among[0].congested = True
    assert Broadcast().choose_all(among, 0.001) is None
    among[0].open = False
    assert Broadcast().choose_all(among, 0.001) == [1]


def test_it_waits_while_none_is_open() -> None:
    assert Broadcast().choose_all([], 0.0) is None
    among = lanes(2)
    among[0].open = among[1].open = False
    assert Broadcast().choose_all(among, 0.0) is None


def test_outcomes_are_in_the_replicas_order() -> None:
    gathering, died = Gathering([2, 0, 1]), RuntimeError("it died")
    assert gathering.settled(1, "b") is False
    assert gathering.missing == [0, 2]
    assert gathering.outcomes() == [[1, "b"]]
    assert gathering.settled(2, died) is False
    assert gathering.settled(0, None) is True
    assert gathering.missing == []
    assert gathering.outcomes() == [[0, None], [1, "b"], [2, died]]


def test_the_first_outcome_stands_and_it_is_complete_once() -> None:
    gathering = Gathering([0, 1])
    assert [gathering.settled(0, "answer"), gathering.settled(0, OSError("it died later"))] == [False, False]
    assert [gathering.settled(1, "answer"), gathering.settled(1, "again")] == [True, False]
    assert gathering.outcomes() == [[0, "answer"], [1, "answer"]]


def test_one_that_got_no_copy_has_no_outcome() -> None:
    with pytest.raises(ValueError, match=r"replica 7 got no copy of the broadcast; these did: \[0, 1\]"):
        Gathering([0, 1]).settled(7, "answer")


@pytest.mark.parametrize(("replicas", "told"), [([], "at least one"), ([1, 0, 1], r"once, not to \[0, 1, 1\]")])
def test_replicas_that_make_no_broadcast(replicas: list[int], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Gathering(replicas)
