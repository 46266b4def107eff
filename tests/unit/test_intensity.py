"""How restarts are counted: as OTP's supervisor counts them, in whole seconds."""

from __future__ import annotations

import pytest

from mlports.core.intensity import RestartIntensity


def allowed(intensity: int, period: int, *times: int) -> list[bool]:
    """What a supervisor of these limits says to a restart at each of these times."""
    limit = RestartIntensity(intensity, period)
    return [limit.allow(at) for at in times]


def test_exactly_as_many_as_the_intensity_are_allowed() -> None:
    assert allowed(3, 10, 0, 0, 0, 0) == [True, True, True, False]


def test_with_0_the_first_is_one_too_many() -> None:
    assert allowed(0, 10, 5) == [False]


def test_a_restart_exactly_a_period_ago_still_counts() -> None:
    assert allowed(1, 10, 100, 110) == [True, False]


def test_a_restart_longer_than_a_period_ago_is_forgotten() -> None:
    assert allowed(1, 10, 100, 111) == [True, True]


def test_the_period_slides() -> None:
    assert allowed(2, 10, 0, 6, 11, 17, 18) == [True, True, True, True, False]


def test_one_that_was_refused_counts_too() -> None:
    assert allowed(1, 10, 0, 1, 11) == [True, False, False]


def test_any_clock_will_do_that_does_not_go_back() -> None:
    assert allowed(1, 5, -1000, -995, -994) == [True, False, False]


@pytest.mark.parametrize(("intensity", "period"), [(-1, 10), (5, 0), (5, -1)])
def test_limits_that_mean_nothing_are_refused(intensity: int, period: int) -> None:
    with pytest.raises(ValueError, match=f"not {intensity} in {period}"):
        RestartIntensity(intensity, period)
