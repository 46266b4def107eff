"""The circuit breaker, row by row of its table."""

from __future__ import annotations

import math

import pytest

from mlports.core.breaker import Breaker


def opened(pause: float = 5.0) -> Breaker:
    """One that opened at 0."""
    breaker = Breaker(1.0, 1, pause)
    breaker.failed(0.0)
    assert breaker.state(0.0) == "open"
    return breaker


def on_trial(pause: float = 5.0) -> Breaker:
    """One that is half open since `pause`, with the trial under way."""
    breaker = opened(pause)
    assert breaker.allows(pause)
    return breaker


def told(breaker: Breaker, outcomes: str, now: float = 0.0) -> str:
    for outcome in outcomes:
        (breaker.failed if outcome == "x" else breaker.succeeded)(now)
    return breaker.state(now)


@pytest.mark.parametrize(
    ("share", "outcomes", "state"),
    [
        (0.5, "", "closed"),
        (0.5, "xxx", "closed"),  # too few are known
        (0.5, "xxxx", "open"),
        (0.5, "xx..", "open"),
        (0.5, "x...", "closed"),
        (0.5, "x...x...x", "closed"),  # the first are forgotten
        (0.5, "xx", "closed"),
        (0.5, ".....xx", "open"),
        (1.0, "xxx.xxx", "closed"),
        (1.0, ".xxxx", "open"),
        (0.01, "....x", "open"),
    ],
)
def test_it_opens_at_its_share_of_the_last_4(share: float, outcomes: str, state: str) -> None:
    assert told(Breaker(share, 4, 5.0), outcomes) == state


def test_a_share_that_is_no_binary_fraction_is_reached_exactly() -> None:
    assert told(Breaker(0.07, 100, 5.0), "." * 93 + "x" * 7) == "open"
    assert told(Breaker(0.07, 100, 5.0), "." * 94 + "x" * 6) == "closed"


def test_closed_it_lets_all_through() -> None:
    breaker = Breaker(0.5, 4, 5.0)
    assert all(breaker.allows(0.0) for _ in range(10))
    breaker.abandoned(0.0)
    assert breaker.state(0.0) == "closed"
    assert breaker.retry_after(0.0) == 0.0


def test_open_it_lets_nothing_through_and_late_outcomes_do_not_count() -> None:
    breaker = opened()
    assert not breaker.allows(4.9)
    assert told(breaker, ".", 1.0) == told(breaker, "x", 2.0) == "open"
    breaker.abandoned(3.0)
    assert breaker.retry_after(3.0) == 2.0
    assert breaker.state(4.9) == "open"
    assert breaker.state(5.0) == "half_open"
    assert breaker.retry_after(5.0) == 0.0


def test_half_open_it_lets_one_through_at_a_time() -> None:
    breaker = on_trial()
    assert not breaker.allows(5.0)
    assert not breaker.allows(500.0)
    assert breaker.state(500.0) == "half_open"
    assert breaker.retry_after(500.0) == 5.0


def test_a_success_closes_it_and_what_was_is_forgotten() -> None:
    breaker = Breaker(0.5, 2, 5.0)
    assert told(breaker, "xx") == "open"
    assert breaker.allows(5.0)
    assert told(breaker, ".", 6.0) == "closed"
    assert told(breaker, "x", 6.0) == "closed"
    assert told(breaker, "x", 6.0) == "open"
    assert breaker.retry_after(6.0) == 5.0


def test_a_failed_trial_opens_it_for_twice_as_long_up_to_8_times() -> None:
    breaker, now, pauses = opened(), 5.0, []
    for _ in range(5):
        assert breaker.allows(now)
        breaker.failed(now)
        assert breaker.state(now) == "open"
        pauses.append(breaker.retry_after(now))
        now += pauses[-1]
    assert pauses == [10.0, 20.0, 40.0, 40.0, 40.0]
    assert breaker.allows(now)
    breaker.succeeded(now)
    breaker.failed(now)
    assert breaker.retry_after(now) == 5.0


def test_after_an_abandoned_trial_there_is_another() -> None:
    breaker = on_trial()
    breaker.abandoned(6.0)
    assert breaker.state(6.0) == "half_open"
    assert breaker.allows(6.0)
    assert not breaker.allows(6.0)


def test_half_open_without_a_trial_late_outcomes_do_not_count() -> None:
    breaker = opened()
    assert told(breaker, "x.", 5.0) == "half_open"
    assert breaker.allows(5.0)


@pytest.mark.parametrize(
    ("share", "of", "pause", "why"),
    [
        (0.0, 1, 1.0, "share of failures"),
        (1.1, 1, 1.0, "share of failures"),
        (math.nan, 1, 1.0, "share of failures"),
        (0.5, 0, 1.0, "of must be at least 1 call, not 0"),
        (0.5, 1, 0.0, "pause must be more than 0"),
        (0.5, 1, math.inf, "pause must be more than 0"),
    ],
)
def test_what_means_nothing_is_refused(share: float, of: int, pause: float, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Breaker(share, of, pause)
