"""How much a replica is given, and which one is given it."""

from __future__ import annotations

import pytest

from mlports.core.batching import frame_size
from mlports.core.routing import Window, least_in_flight


def answering(pace: float, times: int = 200, floor: int = 2) -> tuple[Window, float]:
    """A window whose replica has answered one request after the other, each after `pace` seconds, and the time now."""
    window, now = Window(floor), 0.0
    for _ in range(times):
        window.sent(1, now)
        now += pace
        window.answered(1, now)
    return window, now


def test_it_begins_with_its_floor() -> None:
    window = Window(3)
    assert (window.in_flight, window.size, window.room(100.0)) == (0, 3, 3)


def test_what_is_sent_takes_room_and_what_is_answered_gives_it_back() -> None:
    window = Window(3)
    window.sent(2, 0.0)
    assert (window.in_flight, window.room(0.0)) == (2, 1)
    window.sent(1, 0.0)
    assert window.room(0.0) == 0
    window.answered(3, 0.001)
    assert window.in_flight == 0
    assert window.room(0.001) > 0


def test_a_quick_replica_gets_what_it_answers_within_2_ms() -> None:
    window, now = answering(pace=0.0001)
    assert window.pace == pytest.approx(0.0001)
    assert 19 <= window.room(now) <= 20


def test_a_slow_replica_gets_its_floor_alone() -> None:
    window, now = answering(pace=0.050)
    assert window.room(now) == 2


def test_it_grows_by_doubling() -> None:
    window, now = Window(2), 0.0
    sizes = []
    for _ in range(4):
        window.sent(1, now)
        now += 0.00001
        window.answered(1, now)
        sizes.append(window.size)
    assert sizes == [4, 8, 16, 32]


def test_it_has_a_bound() -> None:
    window, _ = answering(pace=0.0)
    assert window.size == 1024


def test_it_shrinks_when_the_replica_becomes_slow() -> None:
    window, now = answering(pace=0.00001)
    assert window.size > 100
    for _ in range(10):
        window.sent(1, now)
        now += 0.020
        window.answered(1, now)
    assert window.size == 2


def test_one_late_answer_is_no_slow_replica_and_several_are() -> None:
    window, now = answering(pace=0.000003)
    together = []
    for _ in range(8):
        window.sent(1, now)
        now += 0.020
        window.answered(1, now)
        together.append(frame_size(256, window.room(now), 1, window.pace))
    assert together[0] == 128
    assert together[-1] == 1


def test_a_late_frame_of_many_is_a_slow_replica() -> None:
    window, now = answering(pace=0.000003)
    window.sent(100, now)
    window.answered(100, now + 1.0)
    assert frame_size(256, window.room(now + 1.0), 1, window.pace) == 1


def test_many_answers_at_once_share_the_time() -> None:
    window = Window(2)
    window.sent(10, 0.0)
    window.answered(10, 0.010)
    assert window.pace == pytest.approx(0.001)


def test_idle_time_is_no_work_time() -> None:
    window, now = answering(pace=0.0001)
    window.sent(1, now + 60)
    window.answered(1, now + 60.0001)
    assert window.pace == pytest.approx(0.0001)


def test_an_idle_replica_has_room_however_long_it_was_idle() -> None:
    window, now = answering(pace=0.0001)
    assert window.room(now + 3600) == window.size


def test_a_replica_whose_answers_fail_to_appear_gets_no_more() -> None:
    window, now = answering(pace=0.0001)
    window.sent(1, now)
    assert window.room(now + 0.004) > 0
    assert window.room(now + 0.006) == 0
    window.answered(1, now + 1)
    assert window.room(now + 1) > 0


def test_a_replica_that_works_on_several_at_once_gets_so_many_also_while_one_is_slow() -> None:
    window, now = answering(pace=0.0001, floor=65)
    window.sent(1, now)
    assert window.room(now + 1) == 63
    window.sent(63, now + 1)
    assert window.room(now + 1) == 0


def test_two_heavy_requests_always_fit() -> None:
    window = Window(2)
    assert window.room(0.0, weight=500) == 1000
    window.sent(500, 0.0)
    assert window.room(0.0, weight=500) == 500
    window.sent(500, 0.0)
    assert window.room(0.0, weight=500) == 0


def windows(*in_flight: int, floor: int = 4) -> list[tuple[int, Window]]:
    """Windows that hold so many requests since 0.0."""
    made = [(index, Window(floor)) for index in range(len(in_flight))]
    for count, (_, window) in zip(in_flight, made, strict=True):
        window.sent(count, 0.0)
    return made


@pytest.mark.parametrize(
    ("in_flight", "chosen"),
    [((0, 0, 0), 0), ((1, 0, 2), 1), ((3, 2, 2), 1), ((4, 3, 4), 1), ((4, 4, 4), None), ((), None), ((1, 1), 0)],
)
def test_the_least_loaded_is_chosen(in_flight: tuple[int, ...], chosen: int | None) -> None:
    assert least_in_flight(windows(*in_flight), 0.0) == chosen


def test_the_index_is_the_callers_own() -> None:
    (_, one), (_, two) = windows(3, 1)
    assert least_in_flight([(7, one), (9, two)], 0.0) == 9


def test_one_that_is_stuck_is_passed_over_for_a_fuller_one() -> None:
    stuck, busy = Window(2), Window(4)
    stuck.sent(1, 0.0)
    busy.sent(2, 1.0)
    assert least_in_flight([(0, stuck), (1, busy)], 1.0) == 1


def test_a_heavy_request_fits_where_a_light_one_does_not() -> None:
    made = windows(4)
    assert least_in_flight(made, 0.0) is None
    assert least_in_flight(made, 0.0, weight=100) == 0
