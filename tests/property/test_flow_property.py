"""Flows give what plain loops give; windows and joins what their definitions say; state comes back as it was."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import chain, pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mlports.core.flow import (
    CountWindows,
    Demand,
    IntervalJoin,
    SessionWindows,
    TimeWindows,
    TokenBucket,
    from_plain,
    to_plain,
)
from mlports.flow import Flow

NUMBERS = st.lists(st.integers(-50, 50), max_size=200)
TIMES = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 60)), max_size=60)


def unfold(number: int) -> list[int]:
    return [number] * (number % 4)


OPERATORS: dict[str, tuple[Any, Any]] = {
    "map": (lambda flow: flow.map(lambda x: x * 3 + 1), lambda xs: (x * 3 + 1 for x in xs)),
    "filter": (lambda flow: flow.filter(lambda x: x % 3), lambda xs: (x for x in xs if x % 3)),
    "flat_map": (lambda flow: flow.flat_map(unfold), lambda xs: chain.from_iterable(map(unfold, xs))),
    "batched": (lambda flow: flow.batch(7).flat_map(lambda batch: batch), lambda xs: xs),
    "take": (lambda flow: flow.take(25), lambda xs: list(xs)[:25]),
    "threads": (
        lambda flow: flow.map(lambda x: x - 1, on="threads", workers=2, max_demand=9),
        lambda xs: (x - 1 for x in xs),
    ),
    "branch": (lambda flow: flow.branch(lambda b: b.batch(3).to(len)), lambda xs: xs),
    "merge": (lambda flow: flow.merge(Flow.from_iterable([])), lambda xs: xs),
    "rate": (lambda flow: flow.rate_limit(1e9, burst=13), lambda xs: xs),
}


@settings(max_examples=60)
@given(NUMBERS, st.lists(st.sampled_from(sorted(OPERATORS)), max_size=5), st.integers(1, 40))
def test_any_row_of_stages_gives_what_a_loop_gives(numbers: list[int], names: list[str], most: int) -> None:
    flow: Flow[Any] = Flow.from_iterable(numbers, max_demand=most)
    expected: Iterable[Any] = numbers
    for name in names:
        flow, expected = OPERATORS[name][0](flow), OPERATORS[name][1](expected)
    assert flow.collect() == list(expected)


@given(NUMBERS, st.integers(1, 300))
def test_a_source_is_never_asked_for_more_than_max_demand(numbers: list[int], most: int) -> None:
    taken = worked_off = 0

    def source() -> Iterator[int]:
        nonlocal taken
        for number in numbers:
            taken += 1
            assert taken - worked_off <= most
            yield number

    def work(number: int) -> None:
        nonlocal worked_off
        worked_off += 1

    Flow.from_iterable(source(), max_demand=most).map(lambda x: x).to(work).run()
    assert taken == len(numbers)


@given(st.integers(1, 50), st.lists(st.integers(1, 50), max_size=80))
def test_demand_never_exceeds_max_and_asks_only_at_min(most: int, settles: list[int]) -> None:
    demand = Demand(most)
    for settle in settles:
        if demand.wanted:
            assert demand.outstanding <= demand.min
            demand.taken(demand.wanted)
        assert demand.outstanding <= demand.max
        demand.settled(min(settle, demand.outstanding))


@given(TIMES, st.integers(1, 20), st.integers(0, 15), st.integers(1, 20))
def test_time_windows_hold_what_their_definition_says(
    items: list[tuple[str, int]], size: int, lateness: int, every: int
) -> None:
    every = min(every, size)
    windows = TimeWindows(size, list, lambda kept, item: [*kept, item], every=every, lateness=lateness)
    expected: dict[tuple[str, float], list[int]] = defaultdict(list)
    got = []
    latest = float("-inf")
    for seen, (key, at) in enumerate(items):
        starts = [s for s in range(-size * every, at + 1) if s % every == 0 and s <= at < s + size]
        alive = [s for s in starts if s + size > latest - lateness]
        assert windows.feed(key, at, at) == bool(alive)
        for start in alive:
            expected[key, start].append(at)
        latest = max(latest, at)
        if seen % 3 == 0:  # however often one looks
            got += windows.over()
    got += windows.end()
    assert {(w.key, w.start): w.value for w in got} == expected
    assert len(got) == len(expected), "no window comes twice"
    assert all((w.end - w.start, w.size) == (size, len(w.value)) for w in got)


@given(TIMES, st.integers(1, 12), st.integers(0, 60))
def test_sessions_lie_apart_and_hold_each_item_that_was_in_time_once(
    items: list[tuple[str, int]], gap: int, lateness: int
) -> None:
    windows = SessionWindows(gap, list, lambda kept, item: [*kept, item], lambda a, b: a + b, lateness=lateness)
    in_time: dict[str, list[int]] = defaultdict(list)
    got = []
    for number, (key, at) in enumerate(items):
        if windows.feed(key, at, at):
            in_time[key].append(at)
        if number % 4 == 0:
            got += windows.over()
    got += windows.end()
    by_key: dict[Any, list[Any]] = defaultdict(list)
    for window in got:
        by_key[window.key].append(window)
        times = sorted(window.value)
        assert (times[0], times[-1] + gap, len(times)) == (window.start, window.end, window.size)
        assert all(later - earlier < gap for earlier, later in pairwise(times))
    for key, sessions in by_key.items():
        assert sorted(t for session in sessions for t in session.value) == sorted(in_time[key])
        if lateness == 60:  # nothing is ever late: no two sessions could be one
            sessions.sort(key=lambda session: session.start)
            assert all(a.end <= b.start for a, b in pairwise(sessions))


def test_a_session_costs_the_same_however_many_were_before_it() -> None:
    """Guards against looking at all sessions for each item: it would take minutes, and the test's time would be up."""
    windows = SessionWindows(1, int, lambda count, _: count + 1)
    closed = 0
    for at in range(20_000):
        assert windows.feed("key" if at % 2 else at, None, at)
        closed += len(windows.over())
        assert len(windows) <= 2
    assert closed + len(windows.end()) == 20_000


@given(TIMES, st.integers(1, 7))
def test_count_windows_cut_each_keys_items_into_equal_parts(items: list[tuple[str, int]], size: int) -> None:
    windows = CountWindows(size, list, lambda kept, item: [*kept, item])
    for key, at in items:
        windows.feed(key, at, 0.0)
    every = windows.over() + windows.end()
    for key in "ab":
        own = [at for k, at in items if k == key]
        got = [window.value for window in every if window.key == key]
        assert got == [own[n : n + size] for n in range(0, len(own), size)]


@given(TIMES, TIMES, st.integers(0, 10))
def test_a_join_of_ordered_sides_gives_each_pair_once(
    left: list[tuple[str, int]], right: list[tuple[str, int]], within: int
) -> None:
    left, right = sorted(left, key=lambda x: x[1]), sorted(right, key=lambda x: x[1])
    join = IntervalJoin(within)
    sides, got = [list(left), list(right)], []
    while any(sides):
        side = join.behind if sides[join.behind] else 1 - join.behind
        if not sides[1 - side]:
            join.ended(1 - side)
        key, at = sides[side].pop(0)
        got += join.feed(side, key, at, (key, at))
    expected = [(a, b) for a in left for b in right if a[0] == b[0] and abs(a[1] - b[1]) <= within]
    assert sorted(got) == sorted(expected)
    join.ended(0)
    join.ended(1)
    assert len(join) == 0, "nothing is kept that can find no partner"


@given(st.integers(0, 3000))
def test_a_join_keeps_no_more_than_its_time_spans(count: int) -> None:
    join = IntervalJoin(5)
    for at in range(count):
        join.feed(at % 2, at, at, None)
        assert len(join) <= 250


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.decimals(allow_nan=False)
    | st.datetimes(timezones=st.just(UTC))
    | st.dates()
    | st.timedeltas(),
    lambda inner: (
        st.lists(inner)
        | st.tuples(inner, inner)
        | st.dictionaries(st.text() | st.integers() | st.tuples(st.text(), st.integers()), inner)
        | st.sets(st.integers() | st.text())
        | st.frozensets(st.binary())
    ),
    max_leaves=12,
)


@settings(max_examples=40)
@given(PLAIN)
def test_state_comes_back_from_a_checkpoint_as_it_was(value: Any) -> None:
    back = from_plain(json.loads(json.dumps(to_plain(value))))
    assert back == value
    assert type(back) is type(value)


@given(st.floats(0.5, 1000), st.integers(1, 20), st.lists(st.floats(0, 3), max_size=50))
def test_a_token_bucket_never_lets_more_pass_than_its_rate(rate: float, burst: int, waits: list[float]) -> None:
    bucket, now, passed = TokenBucket(rate, burst), 0.0, 0
    for wait in waits:
        now += wait
        count = bucket.available(now)
        bucket.pass_(count)
        passed += count
        assert passed <= burst + rate * now + 1e-3
    if waits:
        assert bucket.wait(now) <= 1 / rate + 1e-6
        assert bucket.available(now + bucket.wait(now) + 1e-6) >= 1


def test_the_kinds_of_values_above_are_all_that_is_kept() -> None:
    assert {type(from_plain(to_plain(x))) for x in (date.today(), datetime.now(), timedelta(1), Decimal(1))} == {
        date,
        datetime,
        timedelta,
        Decimal,
    }
