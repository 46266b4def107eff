"""How long to wait before a call is sent to another replica too."""

from __future__ import annotations

import math
import sys

import pytest

from mlports.core.hedging import HedgeDelay


def after_answers(after: str, *seconds: float) -> float | None:
    hedge = HedgeDelay(after)
    for each in seconds:
        hedge.sample(each)
    return hedge.delay()


@pytest.mark.parametrize("after", [0.05, 1, 1e-9])
def test_seconds_are_the_delay_from_the_first_call_on(after: float) -> None:
    hedge = HedgeDelay(after)
    assert hedge.delay() == after
    hedge.sample(10.0)
    assert hedge.delay() == after


def test_a_percentile_is_not_known_before_20_answers() -> None:
    hedge = HedgeDelay("p95")
    for _ in range(19):
        assert hedge.delay() is None
        hedge.sample(0.01)
    assert hedge.delay() is None
    hedge.sample(0.01)
    assert hedge.delay() == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize(
    ("after", "expected"), [("p50", 0.050), ("p75", 0.075), ("p95", 0.095), ("p99", 0.099), ("p99.9", 0.100)]
)
def test_a_percentile_is_that_of_the_answers(after: str, expected: float) -> None:
    assert after_answers(after, *(number / 1000 for number in range(1, 101))) == pytest.approx(expected, rel=0.011)


def test_a_share_that_is_no_binary_fraction_is_reached_exactly() -> None:
    """0.56 × 25 is a little more than 14 in floating point, and the 14th is meant all the same."""
    assert after_answers("p56", *(float(number) for number in range(1, 26))) == pytest.approx(14.0, rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.0, 1e-6), (-1.0, 1e-6), (math.nan, 1e-6), (1e-6, 1e-6), (1e-5, 1e-5), (3600.0, 3600.0), (math.inf, 1e9)],
)
def test_times_beyond_the_bounds_count_as_the_bounds(seconds: float, expected: float) -> None:
    assert after_answers("p95", *[seconds] * 20) == pytest.approx(expected, rel=0.0101)


@pytest.mark.parametrize(("after", "most"), [("p50", 3000), ("p95", 4000), ("p99", 20_000)])
def test_what_is_long_ago_is_forgotten(after: str, most: int) -> None:
    hedge = HedgeDelay(after)
    for _ in range(100_000):
        hedge.sample(1.0)
    for _ in range(most):
        hedge.sample(0.001)
    assert hedge.delay() == pytest.approx(0.001, rel=0.01)


def test_it_remembers_in_bounded_memory() -> None:
    hedge = HedgeDelay("p50")
    for number in range(10_000):
        hedge.sample(1.0001**number)
    assert hedge._answers is not None
    assert sys.getsizeof(hedge._answers._counts) < 20_000
    assert hedge._answers._total <= 256


@pytest.mark.parametrize("after", ["p50", "p99.9", "p50.0", "p77.3"])
def test_percentiles(after: str) -> None:
    assert HedgeDelay(after).delay() is None


@pytest.mark.parametrize(
    ("after", "told"),
    [
        ("p49.9", 'from "p50" to "p99.9", or seconds as a number, not \'p49.9\''),
        ("p100", "not 'p100'"),
        ("p99.99", "not 'p99.99'"),
        ("P95", "not 'P95'"),
        ("95", "not '95'"),
        ("p95 ", "not 'p95 '"),
        ("p95\n", "not"),
        ("p٩٥", "not"),
        ("50ms", "not '50ms'"),
        ("", "not ''"),
        ("p" * 1000, "…'"),
        (0, "more than 0 seconds and at most 1,000,000,000, not 0"),
        (-1.0, "not -1.0"),
        (math.nan, "not nan"),
        (math.inf, "not inf"),
        (True, "not a bool"),
        (None, "not a NoneType"),
    ],
)
def test_anything_else_is_refused(after: float | str, told: str) -> None:
    with pytest.raises(ValueError, match="after must be") as refused:
        HedgeDelay(after)
    assert told in str(refused.value)
    assert len(str(refused.value)) < 200
