"""What holds of the adaptive limit whatever is told to it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlports.core.concurrency import AdaptiveLimit

# Each is told many times over, for a round is of many answers.
SAMPLES = st.lists(
    st.tuples(st.floats(0, 1e6), st.integers(1, 2000), st.floats(0, 100), st.booleans(), st.integers(1, 100)),
    max_size=30,
)


@given(st.integers(1, 50), st.integers(0, 50), st.integers(0, 500), SAMPLES)
def test_it_keeps_within_its_bounds(
    least: int, more: int, most: int, samples: list[tuple[float, int, float, bool, int]]
) -> None:
    limit = AdaptiveLimit(least + more, least, least + more + most)
    now = 0.0
    for seconds, in_flight, later, failed, times in samples:
        for _ in range(times):
            now += later
            before = limit.limit
            limit.sample(seconds, in_flight, now, failed)
            assert limit.least <= limit.limit <= limit.most
            if failed:
                assert limit.limit <= before
