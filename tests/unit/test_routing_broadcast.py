"""Who gets a copy of a broadcast, and how their outcomes are gathered."""

from __future__ import annotations

import pytest

from mlports.core.routing import Gathering


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
