"""How long a child waits for its next start."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from mlports.core.backoff import Backoff, BackoffLimits

LIMITS = BackoffLimits(initial=0.1, factor=2.0, longest=1.0, jitter=0.0, healthy=60.0)


def delays(limits: BackoffLimits, uptimes: Iterable[float], random: float = 0.0) -> list[float]:
    """The waits after lives of so many seconds, one after the other."""
    backoff = Backoff(limits, lambda: random)
    return [backoff.delay(uptime) for uptime in uptimes]


def test_each_wait_is_twice_the_one_before_up_to_the_longest() -> None:
    assert delays(LIMITS, [0.0] * 6) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])


def test_a_short_life_is_no_better_than_none() -> None:
    assert delays(LIMITS, [1.0, 59.9, 0.0]) == pytest.approx([0.1, 0.2, 0.4])


def test_after_a_healthy_life_it_begins_anew() -> None:
    assert delays(LIMITS, [0.0, 0.0, 0.0, 60.0, 0.0, 1e9, 0.0]) == pytest.approx([0.1, 0.2, 0.4, 0.1, 0.2, 0.1, 0.2])


def test_a_factor_of_1_waits_the_same_time_always() -> None:
    assert delays(LIMITS._replace(factor=1.0), [0.0] * 3) == [0.1, 0.1, 0.1]


def test_the_first_may_be_the_longest() -> None:
    assert delays(LIMITS._replace(initial=1.0), [0.0] * 3) == [1.0, 1.0, 1.0]


def test_jitter_takes_away_and_does_not_add_up() -> None:
    half = LIMITS._replace(jitter=0.5)
    assert delays(half, [0.0] * 5, random=0.5) == pytest.approx([0.075, 0.15, 0.3, 0.6, 0.75])
    assert delays(half, [0.0] * 5, random=0.0) == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0])


def test_jitter_is_drawn_anew_each_time() -> None:
    numbers = iter([0.0, 0.5, 0.9])
    backoff = Backoff(LIMITS._replace(factor=1.0, jitter=1.0), lambda: next(numbers))
    assert [backoff.delay(0.0) for _ in range(3)] == pytest.approx([0.1, 0.05, 0.01])


def test_it_crashes_for_years_without_an_overflow() -> None:
    assert delays(LIMITS._replace(factor=1e300, longest=30.0), [0.0] * 10_000)[-1] == 30.0


def test_it_may_never_be_healthy() -> None:
    assert delays(LIMITS._replace(healthy=float("inf")), [1e12, 1e12]) == pytest.approx([0.1, 0.2])


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (LIMITS._replace(initial=0.0), "initial must be more than 0"),
        (LIMITS._replace(initial=-1.0), "initial must be more than 0"),
        (LIMITS._replace(initial=2.0), "at most longest, which must be finite, not 2.0 and 1.0"),
        (LIMITS._replace(longest=float("inf")), "must be finite"),
        (LIMITS._replace(longest=float("nan")), "must be finite"),
        (LIMITS._replace(factor=0.9), "factor must be at least 1, not 0.9"),
        (LIMITS._replace(factor=float("nan")), "factor must be at least 1"),
        (LIMITS._replace(jitter=-0.1), "jitter must be from 0 to 1, not -0.1"),
        (LIMITS._replace(jitter=1.1), "jitter must be from 0 to 1, not 1.1"),
        (LIMITS._replace(healthy=0.0), "healthy must be more than 0, not 0.0"),
    ],
)
def test_limits_that_mean_nothing_are_refused(limits: BackoffLimits, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Backoff(limits, lambda: 0.0)
