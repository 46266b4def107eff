"""A replica's window under any order of requests and answers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mlports.core.routing import Window, least_in_flight

seconds = st.one_of(st.just(0.0), st.floats(1e-7, 1e-3), st.floats(1e-3, 10.0))
steps = st.lists(st.tuples(st.booleans(), st.integers(1, 300), seconds), max_size=100)


@given(st.integers(2, 65), steps)
def test_any_traffic(floor: int, story: list[tuple[bool, int, float]]) -> None:
    """Requests are sent only where there is room, as the service does it, and answered in any grouping."""
    window, now, in_flight = Window(floor), 0.0, 0
    for sends, count, later in story:
        now += later
        room = window.room(now)
        assert room >= 0
        if sends:
            count = min(count, room)
            if count:
                window.sent(count, now)
        else:
            count = min(count, in_flight)
            if count:
                window.answered(count, now)
        in_flight += count if sends else -count
        assert window.in_flight == in_flight >= 0
        assert floor <= window.size <= max(floor, 1024)
        assert in_flight <= max(floor, 1024)
        assert window.pace is None or window.pace >= 0


@given(st.integers(2, 65), steps, st.integers(1, 5000), seconds)
def test_an_idle_one_has_room(floor: int, story: list[tuple[bool, int, float]], weight: int, later: float) -> None:
    """However slow its replica was: else a service could come to a standstill with nothing in flight."""
    window, now = Window(floor), 0.0
    for _, count, passed in story:
        window.sent(count, now)
        now += passed
        window.answered(count, now)
    assert window.room(now + later, weight) >= max(floor, 2 * weight)


@given(st.lists(st.tuples(st.integers(2, 10), st.integers(0, 10)), max_size=8), st.integers(1, 20))
def test_the_choice(loads: list[tuple[int, int]], weight: int) -> None:
    windows = []
    for index, (floor, in_flight) in enumerate(loads):
        window = Window(floor)
        if in_flight:
            window.sent(in_flight, 0.0)
        windows.append((index, window))
    chosen = least_in_flight(windows, 0.0, weight)
    fitting = [window.in_flight for _, window in windows if window.room(0.0, weight) > 0]
    if chosen is None:
        assert not fitting
    else:
        assert windows[chosen][1].room(0.0, weight) > 0
        assert windows[chosen][1].in_flight == min(fitting)
