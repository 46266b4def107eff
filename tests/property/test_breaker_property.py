"""What holds of a circuit breaker whatever happens."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlports.core.breaker import Breaker

STEPS = st.lists(
    st.tuples(st.sampled_from(["allows", "succeeded", "failed", "abandoned"]), st.floats(0, 8)), max_size=80
)


@given(st.floats(0.05, 1), st.integers(1, 6), st.floats(0.5, 5), STEPS)
def test_what_it_says_fits_together(share: float, of: int, pause: float, steps: list[tuple[str, float]]) -> None:
    breaker, now, outcomes = Breaker(share, of, pause), 0.0, list[bool]()
    trial = False
    for step, later in steps:
        now += later
        before = breaker.state(now)
        wait = breaker.retry_after(now)
        assert 0 <= wait <= 8 * pause
        assert (wait == 0) == (before == "closed" or (before == "half_open" and not trial))
        if step == "allows":
            allowed = breaker.allows(now)
            assert allowed == (wait == 0)
            assert breaker.state(now) == before
            trial = trial or (before == "half_open" and allowed)
            continue
        getattr(breaker, step)(now)
        after = breaker.state(now)
        if before == "closed" and step != "abandoned":
            outcomes = [*outcomes, step == "failed"][-of:]
            full = len(outcomes) == of and sum(outcomes) / of >= share
            assert after == ("open" if full else "closed")
        elif before == "half_open" and trial:
            assert after == {"succeeded": "closed", "failed": "open", "abandoned": "half_open"}[step]
        else:
            assert after == before
        if after != "closed" or before != "closed":
            outcomes = []
        trial = False


@given(st.integers(1, 30), st.floats(0.05, 1))
def test_a_service_that_is_well_again_is_called_again(failures: int, pause: float) -> None:
    breaker, now = Breaker(0.5, 1, pause), 0.0
    for _ in range(failures):
        assert breaker.allows(now)
        breaker.failed(now)
        now += breaker.retry_after(now) + 1e-6
    assert breaker.allows(now)
    breaker.succeeded(now)
    assert breaker.state(now) == "closed"
