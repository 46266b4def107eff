"""Calls between services that wait for each other."""

from __future__ import annotations

import pytest

from mlports.core.call_cycles import Slots, Waiting, path, stuck


def snapshot(
    slots: list[tuple[str, int, int, tuple[int, ...]]], calls: list[tuple[int, str, int | None]]
) -> tuple[list[Waiting], list[Slots]]:
    return [Waiting(call, service, by, None) for call, service, by in calls], [Slots(*each) for each in slots]


A_B_A = snapshot([("a", 0, 1, (1,)), ("b", 0, 1, (2,))], [(2, "b", 1), (3, "a", 2)])


def test_a_b_a_with_one_replica_each() -> None:
    assert stuck(*A_B_A) == {3}
    assert path(3, *A_B_A, {1: "a", 2: "b", 3: "a"}) == ["a", "b", "a"]
    assert path(3, *A_B_A, {}) == ["a", "b", "a"]


def test_what_is_not_stuck_has_no_path() -> None:
    assert path(1, *A_B_A, {}) == path(2, *A_B_A, {}) == path(99, *A_B_A, {}) == []


def test_a_free_second_replica() -> None:
    waiting, slots = A_B_A
    assert stuck(waiting, [*slots, Slots("a", 1, 1, ())]) == set()


def test_a_second_replica_that_will_be_free() -> None:
    waiting, slots = A_B_A
    assert stuck(waiting, [*slots, Slots("a", 1, 1, (7,))]) == set()


def test_a_second_replica_in_the_same_cycle() -> None:
    waiting, slots = A_B_A
    slots = [*slots, Slots("a", 1, 1, (4,))]
    assert stuck([*waiting, Waiting(5, "b", 4, None)], slots) == {3, 5}
    assert path(5, [*waiting, Waiting(5, "b", 4, None)], slots, {}) == ["a", "b", "a"]


def test_an_async_worker_does_many_at_once() -> None:
    waiting, (a, b) = A_B_A
    assert stuck(waiting, [a._replace(capacity=64), b]) == set()
    full = a._replace(capacity=64, at=(1, *range(100, 163)))
    assert stuck(waiting, [full, b]) == set()  # one of the others ends
    all_of_them = [Waiting(1000 + call, "b", call, None) for call in full.at[1:]]
    assert stuck(waiting + all_of_them, [full, b]) == {3, *range(1100, 1163)}


def test_in_the_pipe_of_a_busy_replica_while_another_is_free() -> None:
    waiting, slots = A_B_A
    slots = [*slots, Slots("a", 1, 1, ())]
    assert stuck([waiting[0], Waiting(3, "a", 2, ("a", 0))], slots) == {3}
    assert path(3, [waiting[0], Waiting(3, "a", 2, ("a", 0))], slots, {}) == ["a", "b", "a"]
    assert stuck([waiting[0], Waiting(3, "a", 2, ("a", 1))], slots) == set()


def test_a_diamond_is_no_cycle() -> None:
    """a calls b and c at once, and both call d."""
    waiting, slots = snapshot(
        [("a", 0, 1, (1,)), ("b", 0, 1, (2,)), ("c", 0, 1, (3,)), ("d", 0, 1, (4,))],
        [(2, "b", 1), (3, "c", 1), (4, "d", 2), (5, "d", 3)],
    )
    assert stuck(waiting, slots) == set()


def test_one_of_two_calls_that_is_stuck_holds_its_caller() -> None:
    waiting, slots = snapshot([("a", 0, 1, (1,)), ("b", 0, 1, (2,))], [(2, "b", 1), (3, "a", 1)])
    assert stuck(waiting, slots) == {3}
    assert path(3, waiting, slots, {}) == ["a", "a"]


def test_three_services() -> None:
    waiting, slots = snapshot(
        [("a", 0, 1, (1,)), ("b", 0, 1, (2,)), ("c", 0, 1, (3,))], [(2, "b", 1), (3, "c", 2), (4, "a", 3)]
    )
    assert stuck(waiting, slots) == {4}
    assert path(4, waiting, slots, {}) == ["a", "b", "c", "a"]


def test_a_call_to_oneself() -> None:
    waiting, slots = snapshot([("a", 0, 1, (1,))], [(2, "a", 1)])
    assert stuck(waiting, slots) == {2}
    assert path(2, waiting, slots, {1: "a"}) == ["a", "a"]


def test_two_independent_cycles_and_who_stands_behind_one() -> None:
    waiting, slots = snapshot(
        [("a", 0, 1, (1,)), ("b", 0, 1, (2,)), ("x", 0, 1, (11,)), ("y", 0, 1, (12,)), ("z", 0, 1, (21,))],
        [(2, "b", 1), (3, "a", 2), (14, "x", 12), (13, "y", 11), (4, "a", None), (22, "a", 21), (23, "z", None)],
    )
    assert stuck(waiting, slots) == {3, 4, 13, 14, 22, 23}
    assert path(13, waiting, slots, {}) == ["y", "x", "y"]
    assert path(14, waiting, slots, {}) == ["x", "y", "x"]
    for call in (3, 4, 22, 23):
        assert path(call, waiting, slots, {}) == ["a", "b", "a"]


def test_the_path_goes_through_a_service_twice_where_the_calls_do() -> None:
    """a calls itself, which it has the room for, and only then b, which calls a."""
    waiting, slots = snapshot([("a", 0, 2, (1, 2)), ("b", 0, 1, (3,))], [(2, "a", 1), (3, "b", 2), (4, "a", 3)])
    assert stuck(waiting, slots) == {4}
    assert path(4, waiting, slots, {}) == ["a", "a", "b", "a"]


@pytest.mark.parametrize("slots", [[], [Slots("a", 0, 0, ())], [Slots("b", 0, 1, (1,))]])
def test_a_service_that_has_no_replica_is_starting(slots: list[Slots]) -> None:
    waiting = [Waiting(2, "a", 1, None), Waiting(3, "a", 1, ("a", 0)), Waiting(4, "a", None, ("a", 5))]
    assert stuck(waiting, slots) == set()


def test_a_replica_that_does_no_more_than_what_it_has() -> None:
    assert stuck([Waiting(2, "a", None, None)], [Slots("a", 0, 0, (1,))]) == set()
    assert stuck([Waiting(2, "a", 1, None)], [Slots("a", 0, 0, (1,))]) == {2}


def test_nothing_at_all() -> None:
    assert stuck([], []) == set()


def test_thousands_that_wait() -> None:
    """Its cost grows as their number does."""
    many = 20_000
    slots = [Slots(f"s{place}", 0, 1, (place,)) for place in range(many)]
    ring = [Waiting(place + 1, f"s{place + 1}", place, None) for place in range(many - 1)]
    assert stuck(ring, slots) == set()
    closing = Waiting(many, "s0", many - 1, None)
    assert stuck([*ring, closing], slots) == {many}
    assert len(path(many, [*ring, closing], slots, {})) == many + 1
