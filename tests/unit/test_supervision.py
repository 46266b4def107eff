"""`OneForOne`: every row of its table of transitions, and OTP's rules for who is restarted and when that ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from mlports.core.intensity import RestartIntensity
from mlports.core.supervision import GiveUp, Instruction, OneForOne, Restart, Start, Stop


def machine(count: int = 3, restart: Restart = "permanent", intensity: int = 5, period: int = 10) -> OneForOne:
    """A supervisor that was not started yet."""
    return OneForOne(count, restart, RestartIntensity(intensity, period))


def running(count: int = 3, restart: Restart = "permanent", intensity: int = 5, period: int = 10) -> OneForOne:
    """A supervisor whose children are all up."""
    supervisor = machine(count, restart, intensity, period)
    supervisor.start()
    for child in range(count):
        supervisor.started(child)
    return supervisor


def kinds(instructions: list[Instruction]) -> list[str]:
    return [type(instruction).__name__ for instruction in instructions]


# Each row of the table.


def test_nothing_runs_before_the_start() -> None:
    assert machine(2).states == ("undefined", "undefined")


def test_undefined_start() -> None:
    supervisor = machine(3)
    assert supervisor.start() == [Start(0), Start(1), Start(2)]
    assert supervisor.states == ("starting",) * 3


def test_starting_started() -> None:
    supervisor = machine(2)
    supervisor.start()
    assert supervisor.started(1) == []
    assert supervisor.states == ("starting", "running")


def test_starting_start_failed_at_first() -> None:
    supervisor = machine(4, intensity=100)
    supervisor.start()
    supervisor.started(0)
    supervisor.started(3)
    assert supervisor.start_failed(1, "no such file", 0) == [
        Stop(3),
        Stop(2),
        Stop(0),
        GiveUp("failed to start child 1: no such file"),
    ]
    assert supervisor.states == ("stopping", "undefined", "stopping", "stopping")


def test_starting_start_failed_while_restarting() -> None:
    supervisor = running(2, intensity=3)
    assert supervisor.exited(0, False, "exit 1", 0) == [Start(0)]
    assert supervisor.start_failed(0, "no such file", 0) == [Start(0)]
    assert supervisor.states == ("starting", "running")
    assert supervisor.start_failed(0, "no such file", 0) == [Start(0)]
    # The fourth in all: the death itself and each failed attempt count.
    instructions = supervisor.start_failed(0, "no such file", 0)
    assert instructions[0] == Stop(1)
    assert isinstance(instructions[1], GiveUp)
    assert "reached_max_restart_intensity" in instructions[1].reason
    assert instructions[1].reason.endswith("the last: no such file")
    assert supervisor.states == ("undefined", "stopping")


def test_running_exited_to_be_restarted() -> None:
    supervisor = running(3)
    assert supervisor.exited(1, False, "exit 1", 0) == [Start(1)]
    assert supervisor.states == ("running", "starting", "running")


def test_running_exited_once_too_often() -> None:
    supervisor = running(3, intensity=1, period=7)
    assert supervisor.exited(1, False, "exit 1", 0) == [Start(1)]
    supervisor.started(1)
    assert supervisor.exited(2, False, "SIGKILL", 7) == [
        Stop(1),
        Stop(0),
        GiveUp("more than 1 restarts within 7 s (reached_max_restart_intensity); the last: SIGKILL"),
    ]
    assert supervisor.states == ("stopping", "stopping", "undefined")


def test_running_exited_not_restarted() -> None:
    supervisor = running(2, "temporary")
    assert supervisor.exited(1, False, "exit 1", 0) == []
    assert supervisor.states == ("running", "undefined")


def test_any_stop() -> None:
    supervisor = running(4, "temporary")
    supervisor.exited(2, True, "exit 0", 0)
    assert supervisor.stop() == [Stop(3), Stop(1), Stop(0)]
    assert supervisor.states == ("stopping", "stopping", "undefined", "stopping")


def test_starting_stop() -> None:
    supervisor = machine(2)
    supervisor.start()
    assert supervisor.stop() == [Stop(1), Stop(0)]


def test_stopping_exited() -> None:
    supervisor = running(2, intensity=0)
    supervisor.stop()
    assert supervisor.exited(1, False, "SIGKILL", 0) == []
    assert supervisor.states == ("stopping", "undefined")
    assert supervisor.exited(0, True, "exit 0", 0) == []
    assert supervisor.states == ("undefined", "undefined")


# Who is restarted.


@pytest.mark.parametrize(
    ("restart", "normal", "again"),
    [
        ("permanent", True, True),
        ("permanent", False, True),
        ("transient", True, False),
        ("transient", False, True),
        ("temporary", True, False),
        ("temporary", False, False),
    ],
)
def test_restart(restart: Restart, normal: bool, again: bool) -> None:
    supervisor = running(1, restart)
    assert supervisor.exited(0, normal, "", 0) == ([Start(0)] if again else [])
    assert supervisor.states == ("starting" if again else "undefined",)


@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_an_exit_without_a_restart_is_not_counted(restart: Restart) -> None:
    supervisor = running(5, restart, intensity=0)
    for child in range(5):
        assert supervisor.exited(child, True, "exit 0", 0) == []
    assert supervisor.states == ("undefined",) * 5


# Counting, over all children together.


def test_two_deaths_at_the_same_time_count_two() -> None:
    supervisor = running(3, intensity=1)
    assert kinds(supervisor.exited(0, False, "", 0)) == ["Start"]
    assert kinds(supervisor.exited(1, False, "", 0)) == ["Stop", "Stop", "GiveUp"]


def test_the_count_is_never_reset_by_success() -> None:
    supervisor = running(1, intensity=2)
    for _ in range(2):
        assert supervisor.exited(0, False, "", 0) == [Start(0)]
        supervisor.started(0)
    assert kinds(supervisor.exited(0, False, "", 0)) == ["GiveUp"]


def test_deaths_far_enough_apart_go_on_for_ever() -> None:
    supervisor = running(1, intensity=1, period=10)
    for at in range(0, 1100, 11):
        assert supervisor.exited(0, False, "", at) == [Start(0)]
        supervisor.started(0)


def test_a_first_start_that_fails_is_not_counted_as_a_restart_of_others() -> None:
    supervisor = machine(2, intensity=1000)
    supervisor.start()
    supervisor.started(0)
    assert kinds(supervisor.start_failed(1, "", 0)) == ["Stop", "GiveUp"]


def test_a_child_that_ran_once_is_a_restart_also_while_another_starts_for_the_first_time() -> None:
    supervisor = machine(2)
    supervisor.start()
    supervisor.started(0)
    assert supervisor.exited(0, False, "", 0) == [Start(0)]
    assert supervisor.start_failed(0, "", 0) == [Start(0)]
    assert supervisor.states == ("starting", "starting")


# What comes late is ignored.

LATE: list[tuple[str, Callable[[], OneForOne], Callable[[OneForOne], list[Instruction]]]] = [
    ("started, undefined", machine, lambda it: it.started(0)),
    ("started, running", running, lambda it: it.started(0)),
    ("start_failed, undefined", machine, lambda it: it.start_failed(0, "", 0)),
    ("start_failed, running", running, lambda it: it.start_failed(0, "", 0)),
    ("exited, undefined", machine, lambda it: it.exited(0, False, "", 0)),
]


@pytest.mark.parametrize(("made", "event"), [case[1:] for case in LATE], ids=[case[0] for case in LATE])
def test_late_events(made: Callable[[], OneForOne], event: Callable[[OneForOne], list[Instruction]]) -> None:
    supervisor = made()
    before = supervisor.states
    assert event(supervisor) == []
    assert supervisor.states == before


def test_exited_while_starting_is_late() -> None:
    """It is about the process before: the one that starts now says `started` or `start_failed` first."""
    supervisor = running(1)
    supervisor.exited(0, False, "", 0)
    assert supervisor.exited(0, False, "", 0) == []
    assert supervisor.states == ("starting",)
    supervisor.started(0)
    assert supervisor.states == ("running",)


def test_started_while_stopping_is_late() -> None:
    supervisor = machine(1)
    supervisor.start()
    supervisor.stop()
    assert supervisor.started(0) == []
    assert supervisor.states == ("stopping",)


def test_nothing_is_started_after_the_end() -> None:
    supervisor = running(3, intensity=0)
    assert kinds(supervisor.exited(1, False, "", 0)) == ["Stop", "Stop", "GiveUp"]
    for child in (0, 2):
        assert supervisor.exited(child, False, "", 0) == []
        assert supervisor.start_failed(child, "", 0) == []
        assert supervisor.started(child) == []
    assert supervisor.states == ("undefined",) * 3


def test_stop_twice_asks_once() -> None:
    supervisor = running(2)
    assert supervisor.stop() == [Stop(1), Stop(0)]
    assert supervisor.stop() == []


def test_stop_after_giving_up_does_not_ask_again() -> None:
    supervisor = running(2, intensity=0)
    supervisor.exited(0, False, "", 0)
    assert supervisor.stop() == []
