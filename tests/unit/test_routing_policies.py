"""Round robin and least in flight, their weights, and how a policy is made from a configuration."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest

from mlports.core.routing import (
    ROUTES,
    Broadcast,
    HashRing,
    LeastInFlight,
    Policy,
    RoundRobin,
    Window,
    policy_of,
)


@dataclass
class Lane:
    """What a policy sees, with room for 100 calls."""

    number: int
    open: bool = True
    congested: bool = False
    window: Window = field(default_factory=lambda: Window(100))

    def holding(self, calls: int) -> Lane:
        self.window.sent(calls, 0.0)
        return self


def lanes(count: int) -> list[Lane]:
    return [Lane(number) for number in range(count)]


def turns(policy: Policy, among: list[Lane], count: int) -> list[int | None]:
    """The replicas that get so many requests, one after the other, when each is answered at once."""
    chosen = [policy.choose(among, None, 0.0) for _ in range(count)]
    return [None if index is None else among[index].number for index in chosen]


# -- round robin


def test_each_gets_a_turn() -> None:
    assert turns(RoundRobin(), lanes(3), 7) == [0, 1, 2, 0, 1, 2, 0]


def test_turns_go_by_number_and_not_by_who_came_up_first() -> None:
    assert turns(RoundRobin(), [Lane(2), Lane(0), Lane(5)], 5) == [0, 2, 5, 0, 2]


@pytest.mark.parametrize("weights", [None, [2, 1, 1]])
def test_one_that_is_down_is_left_out_until_it_is_back(weights: list[float] | None) -> None:
    among, policy = lanes(3), RoundRobin(weights)
    among[1].open = False
    assert set(turns(policy, among, 12)) == {0, 2}
    among[1].open = True
    assert set(turns(policy, among, 4)) == {0, 1, 2}


def test_after_one_that_is_gone_the_next_number_follows() -> None:
    among, policy = lanes(4), RoundRobin()
    assert turns(policy, among, 2) == [0, 1]
    assert turns(policy, [among[0], among[2], among[3]], 3) == [2, 3, 0]


@pytest.mark.parametrize("weights", [None, [1, 5, 1]])
@pytest.mark.parametrize("full", ["window", "pipe"])
def test_one_without_room_misses_its_turn(weights: list[float] | None, full: str) -> None:
    among, policy = lanes(3), RoundRobin(weights)
    if full == "window":
        among[1].holding(100)
    else:
        among[1].congested = True
    assert turns(policy, among, 4) == [0, 2, 0, 2]


@pytest.mark.parametrize("weights", [None, [3, 1]])
def test_none_has_room(weights: list[float] | None) -> None:
    among, policy = [Lane(0).holding(100), Lane(1).holding(100)], RoundRobin(weights)
    assert turns(policy, among, 3) == [None] * 3
    assert turns(policy, [], 1) == [None]
    among[0].open = among[1].open = False
    assert turns(policy, among, 1) == [None]


@pytest.mark.parametrize(
    ("weights", "cycle"),
    [
        ([3, 1], [0, 0, 1, 0]),
        ([5, 1, 1], [0, 0, 1, 0, 2, 0, 0]),  # as nginx's own example has it
        ([1, 1, 2], [2, 0, 1, 2]),
        ([0.5, 0.25, 0.25], [0, 1, 2, 0]),
        ([2, 0, 1], [0, 2, 0]),
    ],
)
def test_weights_spread_the_turns_evenly(weights: list[float], cycle: list[int]) -> None:
    assert turns(RoundRobin(weights), lanes(len(weights)), 3 * len(cycle)) == 3 * cycle


def test_a_replica_past_the_weights_weighs_1() -> None:
    assert Counter(turns(RoundRobin([2, 3]), lanes(3), 60)) == {0: 20, 1: 30, 2: 10}


def test_a_canary_gets_its_share_exactly() -> None:
    assert Counter(turns(RoundRobin([99, 1]), lanes(2), 1000)) == {0: 990, 1: 10}


def test_a_replica_of_weight_0_gets_nothing_even_alone() -> None:
    among = lanes(2)
    among[0].open = False
    for policy in (RoundRobin([1, 0]), LeastInFlight([1, 0]), HashRing([1, 0])):
        assert turns(policy, among, 3) == [None] * 3


def test_those_that_are_left_share_evenly_at_once_when_a_heavy_one_dies() -> None:
    among, policy = lanes(3), RoundRobin([1000, 1, 1])
    turns(policy, among, 700)
    among[0].open = False
    first = Counter(turns(policy, among, 12))
    assert min(first[1], first[2]) >= 4


def test_a_missed_turn_is_not_made_up_for() -> None:
    among, policy = lanes(2), RoundRobin([1, 1.5])
    among[1].congested = True
    turns(policy, among, 1000)
    among[1].congested = False
    assert Counter(turns(policy, among, 10))[1] <= 7


# -- least in flight


@pytest.mark.parametrize(
    ("in_flight", "chosen"), [((0, 0, 0), 0), ((1, 0, 2), 1), ((3, 2, 2), 1), ((100, 100, 100), None), ((), None)]
)
def test_the_least_loaded_is_chosen(in_flight: tuple[int, ...], chosen: int | None) -> None:
    among = [Lane(number).holding(count) for number, count in enumerate(in_flight)]
    assert LeastInFlight().choose(among, None, 0.0) == chosen


@pytest.mark.parametrize("weights", [None, [1, 2]])
def test_one_that_is_idle_but_not_open_or_congested_is_not_chosen(weights: list[float] | None) -> None:
    among = [Lane(0, open=False), Lane(1, congested=True), Lane(2).holding(50)]
    assert LeastInFlight(weights).choose(among, None, 0.0) == 2


@pytest.mark.parametrize(
    ("weights", "in_flight", "chosen"),
    [([3, 1], (3, 2), 0), ([3, 1], (9, 2), 1), ([1, 4], (1, 3), 1), ([1, 4], (1, 5), 0), ([0, 1], (0, 50), 1)],
)
def test_the_load_is_counted_by_weight(weights: list[float], in_flight: tuple[int, ...], chosen: int) -> None:
    among = [Lane(number).holding(count) for number, count in enumerate(in_flight)]
    assert LeastInFlight(weights).choose(among, None, 0.0) == chosen


def test_with_weights_ties_go_in_turn() -> None:
    assert turns(LeastInFlight([3, 1]), lanes(2), 8) == [0, 0, 1, 0] * 2


def test_under_load_each_holds_its_share() -> None:
    among, policy = lanes(3), LeastInFlight([5, 3, 2])
    for _ in range(100):
        index = policy.choose(among, None, 0.0)
        assert index is not None
        among[index].window.sent(1, 0.0)
    assert [lane.window.in_flight for lane in among] == [50, 30, 20]


def test_a_heavy_request_fits_where_a_light_one_does_not() -> None:
    among = [Lane(0).holding(100)]
    for policy in (LeastInFlight(), LeastInFlight([2]), RoundRobin(), RoundRobin([2]), HashRing()):
        assert policy.choose(among, "k", 0.0) is None
        assert policy.choose(among, "k", 0.0, 200) == 0


# -- what a configuration says


@pytest.mark.parametrize(
    ("route", "kind"),
    [("least_loaded", LeastInFlight), ("round_robin", RoundRobin), ("hash", HashRing), ("broadcast", Broadcast)],
)
def test_every_route_has_its_policy(route: str, kind: type) -> None:
    assert type(policy_of(route)) is kind
    assert route in ROUTES


@pytest.mark.parametrize("route", ["least_loaded", "round_robin", "hash"])
def test_weights_are_for_every_route_that_chooses_one(route: str) -> None:
    policy = policy_of(route, [0, 1], replicas=2)
    assert not isinstance(policy, Broadcast)
    assert policy.choose(lanes(2), "key", 0.0) == 1


@pytest.mark.parametrize("count", [2, 3])
def test_standby_replicas_may_have_weights(count: int) -> None:
    assert policy_of("round_robin", [1] * count, replicas=2, standby=1)


@pytest.mark.parametrize(
    ("route", "told"),
    [
        ("round-robin", 'no route "round-robin": .*Did you mean "round_robin"'),
        ("", '"least_loaded", "round_robin", "hash", "broadcast"'),
        ("x" * 10_000, 'no route "x{60}"'),
        (None, "not a NoneType"),
        (["hash"], "not a list"),
    ],
)
def test_an_unknown_route_is_refused(route: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        policy_of(route)


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ([], "weights is empty"),
        ([0, 0], "all weights are 0"),
        ([1, -1], "weight of replica 1 must be 0, or from 0.001 to 1000000, not -1"),
        ([1e-9, 1], "weight of replica 0 must be 0, or from 0.001"),
        ([1, 1e7], "not 10000000.0"),
        ([1, 10**400], "not a number of more than 20 digits"),
        ([1, float("nan")], "not nan"),
        ([1, float("inf")], "not inf"),
        ([1, True], "must be a number, not True"),
        ([1, "3"], "must be a number, not '3'"),
        ([1, None], "must be a number, not None"),
        ([[1]], "must be a number, not a list"),
        ("31", "must be a list of one number for each replica"),
        ({0: 3}, "must be a list .* not a dict"),
        (3, "must be a list .* not 3"),
        ([1], "weights has 1 number, and there are 2 replicas"),
        ([1, 1, 1], "weights has 3 numbers, and there are 2 replicas: give one for each replica"),
    ],
)
@pytest.mark.parametrize("route", ["least_loaded", "round_robin", "hash"])
def test_wrong_weights_are_refused(route: str, weights: Any, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        policy_of(route, weights, replicas=2)


def test_too_many_weights_for_the_standby_ones() -> None:
    with pytest.raises(ValueError, match="there are 1 replica and 1 standby"):
        policy_of("hash", [1, 1, 1], replicas=1, standby=1)


def test_a_broadcast_has_no_weights() -> None:
    with pytest.raises(ValueError, match="every replica gets every call"):
        policy_of("broadcast", [1, 1])
