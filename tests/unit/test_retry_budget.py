"""How much may be tried again."""

from __future__ import annotations

import math

import pytest

from mlports.core.retry_budget import RetryBudget


def test_a_share_of_the_calls_may_be_tried_again() -> None:
    budget = RetryBudget(0.5, floor=0)
    budget.calls(10, 0.0)
    assert [budget.allows(1, 0.0) for _ in range(6)] == [True] * 5 + [False]


def test_the_floor_is_free() -> None:
    budget = RetryBudget(0.0, floor=3)
    assert [budget.allows(1, 0.0) for _ in range(4)] == [True] * 3 + [False]


def test_several_are_tried_again_all_or_not_at_all() -> None:
    budget = RetryBudget(0.0, floor=10)
    assert not budget.allows(11, 0.0)
    assert budget.allows(10, 0.0)  # the refused ones took nothing
    assert not budget.allows(1, 0.0)
    assert budget.allows(0, 0.0)


@pytest.mark.parametrize(("later", "allowed"), [(9.9, False), (10.4, False), (11.0, True)])
def test_retries_are_forgotten_after_the_span_to_a_second(later: float, allowed: bool) -> None:
    budget = RetryBudget(0.5, floor=1, span=10.0)
    assert budget.allows(1, 100.0)
    assert budget.allows(1, 100.0 + later) is allowed


def test_calls_are_forgotten_too() -> None:
    budget = RetryBudget(1.0, floor=0, span=10.0)
    budget.calls(5, 100.0)
    assert budget.allows(1, 109.0)
    assert not budget.allows(1, 111.0)


def test_none_is_no_limit() -> None:
    budget = RetryBudget(None, floor=0)
    budget.calls(1, 0.0)
    assert budget.allows(10**9, 0.0)


def test_a_clock_that_goes_back_frees_nothing() -> None:
    budget = RetryBudget(0.0, floor=1)
    assert budget.allows(1, 100.0)
    assert not budget.allows(1, 50.0)
    assert not budget.allows(1, 100.0)


def test_it_remembers_no_more_than_the_span() -> None:
    budget = RetryBudget(0.5, floor=1, span=3.0)
    for tick in range(10_000):
        budget.calls(1, tick * 0.3)
        budget.allows(1, tick * 0.3)
    assert len(budget._seconds) <= 5
    assert budget._calls == sum(second.calls for second in budget._seconds)
    assert budget._retries == sum(second.retries for second in budget._seconds)


@pytest.mark.parametrize(
    ("share", "floor", "span", "told"),
    [
        (-0.1, 1, 1.0, "share of calls"),
        (math.nan, 1, 1.0, "share of calls"),
        (math.inf, 1, 1.0, "share of calls"),
        (0.5, -1, 1.0, "floor must be at least 0, not -1"),
        (0.5, 1, 0.0, "span must be more than 0"),
        (0.5, 1, 1e9, "span must be more than 0"),
    ],
)
def test_what_means_nothing_is_refused(share: float, floor: int, span: float, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        RetryBudget(share, floor, span)
