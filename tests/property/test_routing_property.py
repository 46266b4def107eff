"""What holds of every routing policy, whichever replicas there are, are open, and have room."""

from __future__ import annotations

import math
from collections import Counter
from copy import deepcopy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mlports.core.routing import (
    SLOTS,
    Broadcast,
    Gathering,
    HashRing,
    Policy,
    RoundRobin,
    Shadow,
    Window,
    difference,
    key_number,
    policy_of,
)


class Lane:
    """What a policy sees of one, with a window for at least `floor` calls."""

    def __init__(self, number: int, floor: int = 8) -> None:
        self.number = number
        self.window = Window(floor)
        self.open = True
        self.congested = False


weights = st.one_of(
    st.none(),
    st.lists(st.one_of(st.integers(0, 10), st.floats(0.001, 1e6)), min_size=1, max_size=6).filter(any),
)
keys = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.lists(inner, max_size=4).map(tuple)),
    max_leaves=8,
)
members = st.lists(st.integers(0, 40), min_size=1, max_size=10, unique=True)


@st.composite
def policies(draw: st.DrawFn) -> tuple[Policy, list[float] | None]:
    given_weights = draw(weights)
    kind = draw(st.sampled_from(["round_robin", "least_loaded", "hash"]))
    policy = policy_of(kind, given_weights, sticky=draw(st.booleans()))
    assert not isinstance(policy, Broadcast)
    return policy, given_weights


happenings = st.lists(
    st.tuples(
        st.sampled_from(["choose", "choose", "choose", "answer", "open", "congested", "gone", "back"]),
        st.integers(0, 5),
        st.integers(1, 3),
        keys,
    ),
    max_size=60,
)


@given(policies(), st.lists(st.integers(2, 5), min_size=1, max_size=6), happenings)
def test_only_an_open_lane_with_room_is_chosen(
    made: tuple[Policy, list[float] | None], floors: list[int], story: list[tuple[str, int, int, Any]]
) -> None:
    """And one is whenever there is any, but where a key waits for its own."""
    policy, listed = made
    every = [Lane(number, floor) for number, floor in enumerate(floors)]
    among, now = list(every), 0.0
    for what, which, weight, key in story:
        lane = every[which % len(every)]
        now += 0.001
        if what == "answer" and lane.window.in_flight:
            lane.window.answered(1, now)
        elif what == "open":
            lane.open = not lane.open
        elif what == "congested":
            lane.congested = not lane.congested
        elif what == "gone" and lane in among:
            among.remove(lane)
        elif what == "back" and lane not in among:
            among.append(lane)
        elif what == "choose":
            weighing = [x for x in among if listed is None or x.number >= len(listed) or listed[x.number]]
            able = [x for x in weighing if x.open and not x.congested and x.window.room(now, weight) > 0]
            index = policy.choose(among, key, now, weight)
            if index is not None:
                assert among[index] in able
                among[index].window.sent(weight, now)
            elif able:
                assert isinstance(policy, HashRing)
                home = policy.home(among, policy.slot(key))
                assert home is not None
                assert among[home] not in able


@given(members, st.integers(1, 5))
def test_in_turn_each_gets_the_same(numbers: list[int], cycles: int) -> None:
    among, policy = [Lane(number) for number in numbers], RoundRobin()
    chosen = [policy.choose(among, None, 0.0) for _ in range(cycles * len(among))]
    assert [among[index].number for index in chosen if index is not None] == cycles * sorted(numbers)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6).filter(any), st.integers(1, 3))
def test_by_weight_each_gets_exactly_its_share_in_every_cycle(listed: list[int], cycles: int) -> None:
    among, policy = [Lane(number) for number in range(len(listed))], RoundRobin(listed)
    for _ in range(cycles):
        share = Counter(policy.choose(among, None, 0.0) for _ in range(sum(listed)))
        assert [share[number] for number in range(len(listed))] == listed


@given(
    st.lists(st.floats(0.001, 1e6), min_size=2, max_size=6),
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(["open", "congested"]), st.integers(0, 30)), max_size=12),
    st.integers(1, 200),
)
def test_by_weight_nobody_is_far_from_its_share_after_changes(
    listed: list[float], changes: list[tuple[int, str, int]], rounds: int
) -> None:
    among, policy = [Lane(number) for number in range(len(listed))], RoundRobin(listed)
    for which, what, count in changes:
        lane = among[which % len(among)]
        setattr(lane, what, not getattr(lane, what))
        for _ in range(count):
            policy.choose(among, None, 0.0)
    able = [lane for lane in among if lane.open and not lane.congested]
    total = sum(listed[lane.number] for lane in able)
    share = Counter(policy.choose(among, None, 0.0) for _ in range(rounds))
    for lane in able:
        assert abs(share[lane.number] - rounds * listed[lane.number] / total) <= len(able) + 1


@given(keys)
def test_every_key_has_a_number_which_depends_on_its_value_alone(key: Any) -> None:
    assert 0 <= key_number(key) < 2**32
    assert key_number(deepcopy(key)) == key_number(key)


RING = HashRing()  # it remembers what it has worked out, and nothing else


def shares(ring: HashRing, among: list[Lane]) -> list[int]:
    """By slot, the number of its home."""
    found = []
    for slot in range(0, SLOTS, 4):
        index = ring.home(among, slot)
        assert index is not None
        found.append(among[index].number)
    return found


@given(members, st.integers(0, 40))
def test_one_replica_more_takes_about_its_share_and_nothing_else_moves(numbers: list[int], added: int) -> None:
    """And one less gives up what it had, and nothing else moves: that is the same, read backwards."""
    few = [Lane(number) for number in numbers if number != added]
    if not few:
        return
    before, after = shares(RING, few), shares(RING, [*few, Lane(added)])
    moved = [now for then, now in zip(before, after, strict=True) if then != now]
    assert set(moved) <= {added}
    expected = len(before) / (len(few) + 1)
    assert abs(len(moved) - expected) <= 5 * math.sqrt(expected)


@given(st.lists(st.floats(0.1, 10.0), min_size=2, max_size=8), st.data())
def test_with_weights_too(listed: list[float], data: st.DataObject) -> None:
    gone = data.draw(st.integers(0, len(listed) - 1))
    ring, among = HashRing(listed), [Lane(number) for number in range(len(listed))]
    before = shares(ring, among)
    among[gone].open = False
    after = shares(ring, among)
    assert all(then in (now, gone) for then, now in zip(before, after, strict=True))
    expected = len(before) * listed[gone] / sum(listed)
    assert abs(before.count(gone) - expected) <= 5 * math.sqrt(expected) + 5


@given(members, st.data())
def test_a_broadcast_is_settled_once_when_all_are(numbers: list[int], data: st.DataObject) -> None:
    open_ones = sorted(numbers)
    gathering = Gathering(open_ones)
    first: dict[int, object] = {}
    for number in data.draw(st.lists(st.sampled_from(open_ones))) + data.draw(st.permutations(open_ones)):
        outcome = object()
        completes = set(first) | {number} == set(open_ones) and number not in first
        first.setdefault(number, outcome)
        assert gathering.settled(number, outcome) is completes
    assert gathering.missing == []
    assert gathering.outcomes() == [[number, first[number]] for number in open_ones]


results = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=4)),
    max_leaves=12,
)


@given(results, results, st.sampled_from([0.0, 1e-9, 0.5, 3.0]))
def test_results_are_compared_the_same_both_ways(one: Any, two: Any, tolerance: float) -> None:
    assert difference(one, deepcopy(one), tolerance) is None
    there, back = difference(one, two, tolerance), difference(two, one, tolerance)
    assert (there is None) is (back is None)


@given(st.floats(0.0, 1.0), st.lists(st.tuples(st.floats(0.0, 1.0, exclude_max=True), results, results), max_size=30))
def test_every_copy_is_counted_once(share: float, calls: list[tuple[float, Any, Any]]) -> None:
    shadow = Shadow(share, kept=5)
    for random, primary, copy in calls:
        if shadow.copies(random):
            shadow.settled("f", primary, copy)
    assert shadow.copied == shadow.same + shadow.different + shadow.failed
    assert shadow.copied == sum(random < share for random, _, _ in calls)
    assert len(shadow.last) == min(5, shadow.different + shadow.failed)
