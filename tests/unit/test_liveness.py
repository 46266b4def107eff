"""When a worker is pinged, and when it is said to be silent."""

from __future__ import annotations

import pytest

from mlports.core.liveness import Heartbeat


def pinged_at_5() -> Heartbeat:
    """A heartbeat of 5 s and 15 s, begun at 0, with an unanswered ping: the worker is silent from 20 on."""
    heartbeat = Heartbeat(5.0, 15.0, 0.0)
    heartbeat.pinged(5.0)
    return heartbeat


def test_a_ping_is_due_when_nothing_was_heard_for_the_interval() -> None:
    heartbeat = Heartbeat(5.0, 15.0, 100.0)
    assert [heartbeat.tick(now) for now in (100.0, 104.9, 105.0, 200.0)] == [None, None, "ping", "ping"]


def test_a_worker_that_talks_is_never_pinged() -> None:
    heartbeat = Heartbeat(5.0, 15.0, 0.0)
    for now in range(0, 1000, 4):
        assert heartbeat.tick(now) is None
        heartbeat.heard(now)


def test_silent_is_who_leaves_a_ping_unanswered_for_the_timeout() -> None:
    heartbeat = pinged_at_5()
    assert [heartbeat.tick(now) for now in (5.0, 10.0, 19.9, 20.0, 30.0)] == [None, None, None, "silent", "silent"]


def test_a_silence_without_a_ping_is_none() -> None:
    """Who was not asked need not answer: the orchestrator may have slept."""
    heartbeat = Heartbeat(5.0, 15.0, 0.0)
    assert heartbeat.tick(3600.0) == "ping"
    heartbeat.pinged(3600.0)
    assert heartbeat.tick(3614.9) is None
    assert heartbeat.tick(3615.0) == "silent"


def test_anything_that_is_heard_answers_the_ping() -> None:
    heartbeat = pinged_at_5()
    heartbeat.heard(19.0)
    assert [heartbeat.tick(now) for now in (20.0, 23.9, 24.0)] == [None, None, "ping"]


def test_what_came_before_the_ping_does_not_answer_it_however_late_it_is_told() -> None:
    heartbeat = pinged_at_5()
    heartbeat.heard(4.9)
    assert [heartbeat.tick(now) for now in (19.9, 20.0)] == [None, "silent"]
    heartbeat.heard(4.9)
    assert heartbeat.tick(20.0) == "silent"


def test_what_came_at_the_same_moment_answers_it() -> None:
    """On a coarse clock it may be the answer."""
    heartbeat = pinged_at_5()
    heartbeat.heard(5.0)
    assert [heartbeat.tick(now) for now in (9.9, 10.0)] == [None, "ping"]


def test_what_is_told_late_counts_from_when_it_came() -> None:
    heartbeat = pinged_at_5()
    heartbeat.excuse(20.0)
    heartbeat.heard(6.0)
    assert heartbeat.next(20.0) == 0.0
    assert heartbeat.tick(20.0) == "ping"


def test_what_is_told_out_of_order_does_not_go_back() -> None:
    heartbeat = Heartbeat(5.0, 15.0, 0.0)
    heartbeat.heard(4.0)
    heartbeat.heard(1.0)
    assert [heartbeat.tick(now) for now in (8.9, 9.0)] == [None, "ping"]


def test_who_is_heard_after_all_is_silent_no_more() -> None:
    heartbeat = pinged_at_5()
    assert heartbeat.tick(20.0) == "silent"
    heartbeat.heard(20.5)
    assert heartbeat.tick(20.5) is None


def test_a_second_ping_does_not_lengthen_the_time() -> None:
    heartbeat = pinged_at_5()
    heartbeat.pinged(19.0)
    assert heartbeat.tick(20.0) == "silent"


def test_who_is_excused_gets_another_timeout() -> None:
    heartbeat = pinged_at_5()
    heartbeat.excuse(21.0)
    assert [heartbeat.tick(now) for now in (21.0, 35.9, 36.0)] == [None, None, "silent"]
    heartbeat.excuse(36.0)
    assert [heartbeat.tick(now) for now in (50.9, 51.0)] == [None, "silent"]


def test_an_excuse_ends_with_what_is_heard() -> None:
    heartbeat = pinged_at_5()
    heartbeat.excuse(20.0)
    heartbeat.heard(21.0)
    assert heartbeat.tick(26.0) == "ping"


def test_who_was_not_asked_needs_no_excuse() -> None:
    heartbeat = Heartbeat(5.0, 15.0, 0.0)
    heartbeat.excuse(4.0)
    assert heartbeat.tick(5.0) == "ping"


def test_the_next_tick_of_use() -> None:
    heartbeat = Heartbeat(5.0, 15.0, 0.0)
    assert [heartbeat.next(now) for now in (0.0, 2.0, 5.0, 9.0)] == [5.0, 3.0, 0.0, 0.0]
    heartbeat.heard(2.0)
    assert heartbeat.next(2.0) == 5.0
    heartbeat.pinged(7.0)
    assert [heartbeat.next(now) for now in (7.0, 20.0, 22.0, 30.0)] == [15.0, 2.0, 0.0, 0.0]
    heartbeat.excuse(30.0)
    assert heartbeat.next(30.0) == 15.0


@pytest.mark.parametrize(("interval", "timeout"), [(0.0, 1.0), (-1.0, 1.0), (1.0, 0.0), (1.0, float("nan"))])
def test_times_that_mean_nothing_are_refused(interval: float, timeout: float) -> None:
    with pytest.raises(ValueError, match=f"not {interval} and {timeout}"):
        Heartbeat(interval, timeout, 0.0)
