"""A life of a supervisor's child: a replica's, a program's or a supervisor's, from one start to its end.

To the machine that decides, it is a pid: a new one for each start, and never used again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from mlports.core.supervision import ChildId, Reason
from mlports.core.supervision.specs import Shutdown


class Ending(NamedTuple):
    """How a life ended: for the machine, for people, whether it had come up, and for how many seconds it ran.

    `asked` says that its supervisor wanted it.
    """

    reason: Reason
    story: str
    was_up: bool
    uptime: float
    asked: bool


class Life(Protocol):
    """What a supervisor can do to its child."""

    @property
    def key(self) -> ChildId:
        """Which child it is; the same for all lives of one."""

    @property
    def label(self) -> Mapping[str, Any]:
        """Whose life it is, as events tell it: `service` and `replica`, or `program`, or `supervisor`."""

    @property
    def pid(self) -> int | None:
        """Its process, if it is one and runs."""

    def start(self) -> None:
        """Starts it; its owner is told `on_up` or `on_gone` later. Raises `SpawnFailed`, and then is told nothing."""

    def ask(self, why: str, within: Shutdown | None = None) -> None:
        """Asks it to stop. With `within`, in milliseconds, it is also seen to; None leaves that to `kill`."""

    def kill(self, why: str) -> None:
        """Kills it; one that was asked before, not without a last warning."""


class LifeOwner(Protocol):
    """Who is told of a life: its supervisor."""

    def on_up(self, life: Life) -> None:
        """It has come up."""

    def on_gone(self, life: Life, ending: Ending) -> None:
        """It has ended, and left nothing behind."""
