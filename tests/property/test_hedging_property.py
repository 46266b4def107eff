"""The percentile that is kept in little memory against the exact one."""

from __future__ import annotations

import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from mlports.core.hedging import HedgeDelay

PERCENTILES = st.integers(500, 999)
# Fewer than are remembered for any percentile, so that all weigh the same.
ANSWERS = st.lists(st.floats(2e-6, 1e4), min_size=20, max_size=250)


@given(PERCENTILES, ANSWERS)
def test_it_is_within_1_percent_of_the_exact_one(tenths: int, answers: list[float]) -> None:
    hedge = HedgeDelay(f"p{tenths / 10}")
    for seconds in answers:
        hedge.sample(seconds)
    exact = sorted(answers)[math.ceil(Fraction(tenths, 1000) * len(answers)) - 1]
    delay = hedge.delay()
    assert delay is not None
    assert abs(delay - exact) <= 0.0100001 * exact


@given(PERCENTILES, ANSWERS, st.integers(1, 40))
def test_it_is_one_of_the_answers_however_many_came(tenths: int, answers: list[float], times: int) -> None:
    hedge = HedgeDelay(f"p{tenths / 10}")
    for _ in range(times):
        for seconds in answers:
            hedge.sample(seconds)
    delay = hedge.delay()
    assert delay is not None
    assert any(abs(delay - seconds) <= 0.0100001 * seconds for seconds in answers)
