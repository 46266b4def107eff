"""Dynamic batching against a simulated clock and a simulated service."""

from __future__ import annotations

import heapq
from collections import deque

from hypothesis import example, given
from hypothesis import strategies as st

from mlports.core.batching import MOST_IN_BATCH, AutoSize, BatchRule

ROOM = 2  # batches that a replica holds: one in work, one behind it

gaps = st.lists(st.one_of(st.just(0.0), st.floats(0, 0.02)), min_size=1, max_size=80)


@given(
    arrivals=gaps,
    size=st.one_of(st.none(), st.integers(1, 20)),
    wait=st.sampled_from([0.0, 0.001, 0.005, 1.0]),
    replicas=st.integers(1, 3),
    fixed=st.floats(0, 0.05),
    each=st.floats(0, 0.01),
)
@example(arrivals=[0.0] * 40, size=None, wait=0.005, replicas=2, fixed=0.01, each=0.0)
def test_a_service(
    arrivals: list[float], size: int | None, wait: float, replicas: int, fixed: float, each: float
) -> None:
    """Every call goes in a batch that is not too large; with room for it, none waits longer than it must."""
    rule = BatchRule(size, wait)
    waiting: deque[float] = deque()
    in_hand = [0] * replicas
    free_at = [0.0] * replicas
    events: list[tuple[float, int, int, int]] = []  # when, which in order, replica or −1, batch
    now = order = served = 0
    when = 0.0
    for gap in arrivals:
        when += gap
        order += 1
        heapq.heappush(events, (when, order, -1, 0))
    while events:
        now, _, replica, count = heapq.heappop(events)  # type: ignore[assignment]
        if replica >= 0:
            in_hand[replica] -= 1
            served += count
            rule.answered(count, fixed + each * count)
        elif not count:
            waiting.append(now)
        while waiting:
            chosen = min(range(replicas), key=in_hand.__getitem__)
            if in_hand[chosen] >= ROOM:
                break
            idle = in_hand[chosen] == 0
            most = rule.size
            taken = rule.take(len(waiting), waiting[0], idle, now)
            assert 0 <= taken <= min(most, len(waiting), MOST_IN_BATCH)
            if size is not None:
                assert most == size
            if not taken:
                assert not idle
                assert len(waiting) < most
                assert now < rule.due(waiting[0]) <= waiting[0] + wait
                order += 1
                heapq.heappush(events, (rule.due(waiting[0]), order, -1, -1))  # a timer
                break
            for _ in range(taken):
                waiting.popleft()
            in_hand[chosen] += 1
            free_at[chosen] = max(now, free_at[chosen]) + fixed + each * taken
            order += 1
            heapq.heappush(events, (free_at[chosen], order, chosen, taken))
    assert served == len(arrivals)
    assert not waiting


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("answered"), st.integers(-1, 5000), st.floats()),
            st.tuples(st.just("full"), st.integers(1, 100), st.floats(0, 10)),
            st.tuples(st.just("refused"), st.integers(1, 5000), st.just(0.0)),
        ),
        max_size=60,
    )
)
def test_any_measurements(story: list[tuple[str, int, float]]) -> None:
    """The size stays a power of two within its bounds, and below what was refused."""
    auto, bound = AutoSize(), MOST_IN_BATCH
    for what, count, seconds in story:
        if what == "refused":
            auto.refused(count)
            bound = min(bound, max(1, count - 1))
        elif what == "full":
            for _ in range(count):
                auto.answered(auto.size, seconds)
        else:
            auto.answered(count, seconds)
        assert 1 <= auto.size <= bound
        assert auto.size & (auto.size - 1) == 0
