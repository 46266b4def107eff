"""When a worker that does well is replaced."""

from __future__ import annotations

import pytest

from mlports.core.recycling import RecyclingLimits, brought_forward, due

BOTH = RecyclingLimits(max_requests=1000, max_age=3600.0)


@pytest.mark.parametrize(
    ("answered", "age", "share", "why"),
    [
        (999, 3599.9, 0.0, None),
        (1000, 0.0, 0.0, "it has answered 1,000 calls (max_requests)"),
        (1001, 0.0, 0.0, "it has answered 1,001 calls (max_requests)"),
        (0, 3600.0, 0.0, "it has run for 3,600.0 s (max_age)"),
        (1000, 3600.0, 0.0, "it has answered 1,000 calls (max_requests)"),
        (949, 3419.9, 0.5, None),  # half of the tenth by which it may be earlier
        (950, 0.0, 0.5, "it has answered 950 calls (max_requests)"),
        (0, 3420.0, 0.5, "it has run for 3,420.0 s (max_age)"),
        (900, 3240.0, 0.99, None),
        (901, 0.0, 0.999, "it has answered 901 calls (max_requests)"),
        (0, 3250.0, 0.999, "it has run for 3,250.0 s (max_age)"),
    ],
)
def test_due(answered: int, age: float, share: float, why: str | None) -> None:
    assert due(BOTH, answered, age, share) == why


def test_without_limits_it_never_is() -> None:
    assert due(RecyclingLimits(None, None), 10**12, 1e12, 0.5) is None


def test_one_limit_is_enough() -> None:
    assert due(RecyclingLimits(10, None), 9, 1e12, 0.0) is None
    assert due(RecyclingLimits(10, None), 10, 0.0, 0.0) == "it has answered 10 calls (max_requests)"
    assert due(RecyclingLimits(None, 0.5), 10**12, 0.4, 0.0) is None
    assert due(RecyclingLimits(None, 0.5), 0, 0.5, 0.0) == "it has run for 0.5 s (max_age)"


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999999])
def test_a_worker_for_one_call_answers_one(share: float) -> None:
    assert due(RecyclingLimits(1, None), 0, 0.0, share) is None
    assert due(RecyclingLimits(1, None), 1, 0.0, share) == "it has answered 1 call (max_requests)"


@pytest.mark.parametrize(
    ("limits", "share", "most", "oldest"),
    [
        (BOTH, 0.0, 1000, 3600.0),
        (BOTH, 0.5, 950, 3420.0),
        (RecyclingLimits(11, None), 0.999, 10, None),  # 9 would be earlier by more than a tenth
        (RecyclingLimits(9, None), 0.999, 9, None),
        (RecyclingLimits(None, 10.0), 0.9, None, 9.1),
        (RecyclingLimits(None, None), 0.9, None, None),
    ],
)
def test_the_limits_of_one_life(limits: RecyclingLimits, share: float, most: int | None, oldest: float | None) -> None:
    life = brought_forward(limits, share)
    assert life.max_requests == most
    assert life.max_age == pytest.approx(oldest)


@pytest.mark.parametrize(
    ("limits", "share", "told"),
    [
        (RecyclingLimits(0, None), 0.0, "max_requests must be at least 1, not 0"),
        (RecyclingLimits(None, 0.0), 0.0, "max_age must be more than 0, not 0.0"),
        (BOTH, 1.0, "share must be from 0 up to, and without, 1, not 1.0"),
        (BOTH, -0.1, "share must be"),
    ],
)
def test_what_means_nothing_is_refused(limits: RecyclingLimits, share: float, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        due(limits, 0, 0.0, share)
