"""What is done about a worker that takes too much memory."""

from __future__ import annotations

import pytest

from mlports.core.memory_limit import MemoryWatch


def said(*sizes: int, limit: int = 1000, patience: float = 10.0) -> list[str | None]:
    """What a watch says to sizes that are measured at 0, 1, 2 … seconds."""
    watch = MemoryWatch(limit, patience)
    return [watch.measured(size, float(now)) for now, size in enumerate(sizes)]


def test_up_to_the_limit_all_is_well() -> None:
    assert said(0, 999, 1000, 1000) == [None, None, None, None]


def test_over_the_limit_it_is_drained_once() -> None:
    assert said(1000, 1001, 1100, 1250) == [None, "drain", None, None]


def test_far_over_the_limit_it_is_killed() -> None:
    assert said(1251) == ["kill"]
    assert said(1100, 1250, 1251, 1251) == ["drain", None, "kill", "kill"]


def test_who_is_not_gone_in_time_is_killed() -> None:
    assert said(1001, 1001, 1001, 1001, patience=3.0) == ["drain", None, None, "kill"]


def test_who_comes_back_under_the_limit_may_take_its_time() -> None:
    assert said(1001, 900, 900, 1000, 900, patience=2.0) == ["drain", None, None, None, None]


def test_and_is_killed_when_it_is_over_it_again() -> None:
    assert said(1001, 900, 900, 1001, patience=2.0) == ["drain", None, None, "kill"]
    assert said(1001, 900, 1001, 1001, patience=3.0) == ["drain", None, None, "kill"]


def test_without_patience_the_second_time_is_the_last() -> None:
    assert said(1001, 1001, patience=0.0) == ["drain", "kill"]


def test_patience_may_have_no_end() -> None:
    assert said(*[1250] * 5, patience=float("inf")) == ["drain", None, None, None, None]


def test_a_byte_makes_the_difference_in_a_terabyte_too() -> None:
    limit = 2**40
    assert said(limit, limit + 1, limit * 5 // 4, limit * 5 // 4 + 1, limit=limit) == [None, "drain", None, "kill"]


@pytest.mark.parametrize(("limit", "patience"), [(0, 1.0), (-1, 1.0), (1, -0.1), (1, float("nan"))])
def test_limits_that_mean_nothing_are_refused(limit: int, patience: float) -> None:
    with pytest.raises(ValueError, match=f"not {limit} and {patience}"):
        MemoryWatch(limit, patience)
