"""What holds of the small policies whatever happens: backoff, heartbeat, recycling, memory limit."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from mlports.core.backoff import Backoff, BackoffLimits
from mlports.core.liveness import Heartbeat
from mlports.core.memory_limit import MemoryWatch
from mlports.core.recycling import RecyclingLimits, due

shares = st.floats(0.0, 1.0, exclude_max=True)
seconds = st.one_of(st.just(0.0), st.floats(1e-6, 100.0))
limits_in_seconds = st.floats(0.001, 100.0)


@st.composite
def backoffs(draw: st.DrawFn) -> BackoffLimits:
    initial = draw(st.floats(1e-3, 10.0))
    return BackoffLimits(
        initial,
        factor=draw(st.floats(1.0, 1e3)),
        longest=initial * draw(st.floats(1.0, 1e3)),
        jitter=draw(st.floats(0.0, 1.0)),
        healthy=draw(limits_in_seconds),
    )


@given(backoffs(), st.lists(st.tuples(seconds, shares), max_size=60))
def test_any_lives_wait_within_their_bounds(limits: BackoffLimits, lives: list[tuple[float, float]]) -> None:
    drawn = iter([share for _, share in lives])
    backoff = Backoff(limits, lambda: next(drawn))
    crashes = 0  # since the last healthy life
    for uptime, _ in lives:
        if uptime >= limits.healthy:
            crashes = 0
        base = min(limits.initial * math.pow(limits.factor, crashes), limits.longest)
        wait = backoff.delay(uptime)
        assert wait <= limits.longest
        assert base * (1 - limits.jitter) * (1 - 1e-9) <= wait <= base * (1 + 1e-9)
        crashes += 1


@given(backoffs(), st.lists(seconds, max_size=60))
def test_without_jitter_waits_grow_until_a_healthy_life(limits: BackoffLimits, uptimes: list[float]) -> None:
    backoff = Backoff(limits._replace(jitter=0.0), lambda: 0.5)
    before = 0.0
    for uptime in uptimes:
        wait = backoff.delay(uptime)
        if uptime >= limits.healthy:
            assert wait == limits.initial
        else:
            assert wait >= before
        before = wait


beats = st.lists(st.tuples(seconds, st.sampled_from(["heard", "told", "tick", "idle", "excuse"])), max_size=100)


@given(limits_in_seconds, limits_in_seconds, beats)
def test_any_worker_is_judged_by_what_was_heard(
    interval: float, timeout: float, story: list[tuple[float, str]]
) -> None:
    """The driver pings when it is told to, and may tell of the last frame again. `since` is when the worker was last
    asked or excused, while it has not answered."""
    heartbeat, now, heard, asked = Heartbeat(interval, timeout, 0.0), 0.0, 0.0, 0.0
    since: float | None = None
    for later, event in story:
        now += later
        if event == "heard":
            heard = now
        if event in ("heard", "told"):
            heartbeat.heard(heard)
            since = None if heard >= asked else since
        elif event == "excuse" and since is not None:
            heartbeat.excuse(now)
            since = now
        elif event == "tick":
            says, wait = heartbeat.tick(now), heartbeat.next(now)
            assert (wait == 0) == (says is not None)
            if since is None:
                assert says == ("ping" if now >= heard + interval else None)
            else:
                assert says == ("silent" if now >= since + timeout else None)
            if says == "ping":
                heartbeat.pinged(now)
                asked = since = now


@given(limits_in_seconds, limits_in_seconds, seconds, beats)
def test_one_that_says_nothing_any_more_is_found_out(
    interval: float, timeout: float, start: float, story: list[tuple[float, str]]
) -> None:
    """By ticks at the times that `next` gives and at no others, within an interval and a timeout."""
    heartbeat, now = Heartbeat(interval, timeout, start), start
    for later, event in story:
        now += later
        if event == "heard":
            heartbeat.heard(now)
        elif event == "excuse":
            heartbeat.excuse(now)
        elif event == "tick" and heartbeat.tick(now) == "ping":
            heartbeat.pinged(now)
    last, ticks = now, 0
    while (says := heartbeat.tick(now)) != "silent":
        if says == "ping":
            heartbeat.pinged(now)
        now += heartbeat.next(now)
        ticks += 1
        assert ticks <= 6  # a rounded time may come a moment too early, once for the ping and once for the silence
    assert now <= last + interval + timeout + 1e-6


@given(
    st.one_of(st.none(), st.integers(1, 10**9)),
    st.one_of(st.none(), limits_in_seconds),
    st.integers(0, 2 * 10**9),
    st.floats(0.0, 200.0),
    shares,
)
def test_a_worker_is_recycled_in_the_last_tenth_and_no_later(
    most: int | None, oldest: float | None, answered: int, age: float, share: float
) -> None:
    why = due(RecyclingLimits(most, oldest), answered, age, share)
    full = (most is not None and answered >= most) or (oldest is not None and age >= oldest)
    near = (most is not None and answered >= 0.9 * most) or (oldest is not None and age >= 0.9 * oldest)
    assert (why is not None) or not full
    assert (why is None) or near


@given(st.integers(1, 10**6), st.integers(0, 10**6), shares, shares)
def test_a_larger_share_is_never_recycled_later(most: int, answered: int, one: float, other: float) -> None:
    less, more = sorted((one, other))
    limits = RecyclingLimits(most, None)
    assert due(limits, answered, 0.0, less) is None or due(limits, answered, 0.0, more) is not None


@given(
    st.integers(1, 2**40),
    limits_in_seconds,
    st.lists(st.tuples(st.floats(0.0, 2.0), seconds), max_size=60),
)
def test_any_growth_is_drained_once_and_killed_for_a_reason(
    limit: int, patience: float, story: list[tuple[float, float]]
) -> None:
    """Sizes are in parts of the limit."""
    watch, now = MemoryWatch(limit, patience), 0.0
    drained: float | None = None
    for part, later in story:
        now += later
        size = int(part * limit)
        says = watch.measured(size, now)
        if size <= limit:
            assert says is None
        elif 4 * size > 5 * limit:
            assert says == "kill"
        elif drained is None:
            assert says == "drain"
            drained = now
        else:
            assert says == ("kill" if now - drained >= patience else None)
