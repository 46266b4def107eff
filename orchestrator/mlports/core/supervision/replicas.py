"""Supervision of one service's replicas: OTP's one_for_one, as a state machine.

A child is `undefined`, `starting`, `running` or `stopping`:

    state       event                    becomes     instruction
    undefined   start()                  starting    Start
    starting    started                  running
    starting    start_failed, at first   undefined   Stop the others in reverse order, then GiveUp
    starting    start_failed, restarting starting    Start, if the intensity allows it; else as below
    running     exited, to be restarted  starting    Start, if the intensity allows it
                ... and it does not      undefined   Stop the others in reverse order, then GiveUp
    running     exited, not restarted    undefined
    any         stop()                   stopping    Stop, in reverse order
    stopping    exited                   undefined

Whether an exit is followed by a restart: a permanent child's always, a transient one's when its exit was abnormal, a
temporary one's never. A first start that fails is not retried and not counted; one during a restart is both, at once.
Events about a child that is not in a state to have them are ignored: they are late.

There is one difference from OTP: the first starts of all children are asked for together, since nothing orders them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from mlports.core.intensity import RestartIntensity

Restart = Literal["permanent", "transient", "temporary"]


class Start(NamedTuple):
    """Start this child."""

    child: int


class Stop(NamedTuple):
    """Stop this child, and say `exited` when it is gone. Stops are carried out one after the other."""

    child: int


class GiveUp(NamedTuple):
    """The supervisor's own end, once everything before it is carried out. `reason` is for people."""

    reason: str


Instruction = Start | Stop | GiveUp


class OneForOne:
    """A supervisor of `count` children that are all alike, numbered from 0."""

    def __init__(self, count: int, restart: Restart, intensity: RestartIntensity) -> None:
        self.restart: Restart = restart
        self._intensity = intensity
        self._state: list[str] = ["undefined"] * count
        self._began = [False] * count  # has run once: its starts are restarts

    @property
    def states(self) -> Sequence[str]:
        """The children's states, in order."""
        return tuple(self._state)

    def start(self) -> list[Instruction]:
        """The first starts."""
        self._state = ["starting"] * len(self._state)
        return [Start(child) for child in range(len(self._state))]

    def started(self, child: int) -> list[Instruction]:
        """The child is up."""
        if self._state[child] == "starting":
            self._state[child] = "running"
            self._began[child] = True
        return []

    def start_failed(self, child: int, why: str, now: int) -> list[Instruction]:
        """The child did not come up."""
        if self._state[child] != "starting":
            return []
        if self._began[child]:
            return self._restart(child, why, now)
        self._state[child] = "undefined"
        return self._give_up(f"failed to start child {child}: {why}")

    def exited(self, child: int, normal: bool, why: str, now: int) -> list[Instruction]:
        """The child is gone. `normal` says that its exit was `normal` or `shutdown`."""
        state = self._state[child]
        if state not in ("running", "stopping"):
            return []
        self._state[child] = "undefined"
        if state == "stopping":
            return []
        if self.restart == "permanent" or (self.restart == "transient" and not normal):
            return self._restart(child, why, now)
        return []

    def stop(self) -> list[Instruction]:
        """Ends everything, in reverse order of start."""
        return self._stop_others()

    def _restart(self, child: int, why: str, now: int) -> list[Instruction]:
        if self._intensity.allow(now):
            self._state[child] = "starting"
            return [Start(child)]
        self._state[child] = "undefined"
        limit = f"more than {self._intensity.intensity} restarts within {self._intensity.period} s"
        return self._give_up(f"{limit} (reached_max_restart_intensity); the last: {why}")

    def _give_up(self, reason: str) -> list[Instruction]:
        return [*self._stop_others(), GiveUp(reason)]

    def _stop_others(self) -> list[Instruction]:
        stops: list[Instruction] = []
        for child in reversed(range(len(self._state))):
            if self._state[child] in ("starting", "running"):
                self._state[child] = "stopping"
                stops.append(Stop(child))
        return stops
