"""Retries never exceed the budget, whatever comes when."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlports.core.retry_budget import RetryBudget

STEPS = st.lists(st.tuples(st.booleans(), st.integers(0, 20), st.floats(0, 4)), max_size=80)


@given(st.floats(0, 2), st.integers(0, 30), st.floats(0.5, 12), STEPS)
def test_retries_keep_to_the_budget(
    share: float, floor: int, span: float, steps: list[tuple[bool, int, float]]
) -> None:
    budget = RetryBudget(share, floor, span)
    now = 1000.0
    calls: list[tuple[float, int]] = []
    retries: list[tuple[float, int]] = []

    def within(log: list[tuple[float, int]], seconds: float) -> int:
        return sum(count for at, count in log if at > now - seconds)

    for retried, count, later in steps:
        now += later
        if not retried:
            budget.calls(count, now)
            calls.append((now, count))
            continue
        allowed = budget.allows(count, now)
        if allowed:
            retries.append((now, count))
            assert within(retries, span) <= floor + share * within(calls, span + 1)
        else:
            assert within(retries, span + 1) + count > floor + share * within(calls, span)
