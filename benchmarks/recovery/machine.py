"""How many events a second the supervisor's state machine takes, without a process or a clock."""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.contenders.contender import Unavailable
from benchmarks.recovery.subject import Figures

if TYPE_CHECKING:
    from mlports.core.supervision import Supervisor

CHILDREN = 10

BETWEEN = 2500
"""Milliseconds from crash to crash: as often as may be within a service's usual limits, 5 restarts in 10 s."""


class Machine:
    """One child of ten dies, then the next. Their ends, and each stop and start that follows, are the events.

    The schedule is played once to find what the driver of a supervisor would tell it, all starts and stops succeeding,
    and then told to a second supervisor against the clock: so the time is the machine's alone.
    """

    name: ClassVar[str] = "machine"
    title: ClassVar[str] = "the state machine of supervision"

    def open(self) -> None:
        try:
            import mlports.core.supervision  # noqa: F401
        except ImportError as error:
            raise Unavailable(f"mlports cannot be imported: {error}") from error

    def close(self) -> None:
        pass

    def run(self, *request: Any) -> Figures:
        """`request` is a strategy, and about how many events; the figure is "events", those of a second."""
        strategy, events = request
        play = Play(strategy)
        told = play.until(events)
        supervisor = _supervisor(strategy)
        calls = [(getattr(supervisor, name), arguments) for name, arguments in told]
        start = time.perf_counter()
        for tell, arguments in calls:
            tell(*arguments)
        seconds = time.perf_counter() - start
        if supervisor.phase != "ready":
            raise RuntimeError(f"the {strategy} supervisor is {supervisor.phase} at the end of the schedule")
        return {"events": [len(calls) / seconds]}


class Play:
    """A supervisor that is played; everything that it is told is kept, as the method's name and its arguments."""

    def __init__(self, strategy: str) -> None:
        self._supervisor = _supervisor(strategy)
        self._told: list[tuple[str, tuple[Any, ...]]] = []
        self._now = 0
        self._pids: dict[Hashable, int] = {}
        self._last_pid = 0
        self._simple = strategy == "simple_one_for_one"
        self._victim = 0
        self._tell("start", self._now)
        while len(self._pids) < CHILDREN:
            self._victim = len(self._pids)
            self._tell("start_child", None, [], self._now)

    def until(self, events: int) -> list[tuple[str, tuple[Any, ...]]]:
        """Crash after crash until about so many events have been told; gives them all."""
        while len(self._told) < events:
            self._now += BETWEEN
            self._tell("exited", self._pids[self._victim], "killed", self._now)
            self._victim = (self._victim + 1) % CHILDREN
        return self._told

    def _tell(self, method: str, *arguments: Any) -> None:
        from mlports.core.supervision import Ask, Launch

        self._told.append((method, arguments))
        for instruction in getattr(self._supervisor, method)(*arguments):
            if isinstance(instruction, Launch):
                self._last_pid += 1
                self._pids[self._victim if self._simple else instruction.spec.id] = self._last_pid
                self._tell("started", self._last_pid, self._now)
            elif isinstance(instruction, Ask):
                self._tell("exited", instruction.pid, "shutdown", self._now)


def _supervisor(strategy: Any) -> Supervisor:
    from mlports.core.supervision import ChildSpec, StartCall, Supervisor, SupervisorFlags

    flags = SupervisorFlags(strategy=strategy, intensity=5, period=10)
    specs = [ChildSpec(number, StartCall("worker")) for number in range(CHILDREN)]
    return Supervisor(flags, specs[:1] if strategy == "simple_one_for_one" else specs)
