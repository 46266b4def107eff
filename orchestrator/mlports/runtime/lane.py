"""A lane: a ready port as its service's calls see it, how much it holds, and how much it has answered."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from mlports.core.routing import Window
from mlports.runtime.port import Port
from mlports.runtime.waiting import Line

if TYPE_CHECKING:
    from mlports.core.breaker import Breaker

_NEVER = float("inf")


class Lane:
    """A port and its window, at `number` among its service's places: a policy knows it by that.

    Retired, it gets no more requests, and `on_empty` is called when it holds none. `line` are calls that may go to no
    other, but to one that takes its place; `reserved` is the line of suspects that it is kept free for.
    """

    __slots__ = (
        "answered",
        "breaker",
        "line",
        "number",
        "on_empty",
        "on_worn",
        "port",
        "reserved",
        "retired",
        "window",
        "worn_at",
    )

    def __init__(self, port: Port, number: int, breaker: Breaker | None = None) -> None:
        self.port = port
        self.number = number
        self.breaker = breaker
        self.window = Window(port.peer.concurrency + 1)
        self.line = Line(lane=self)
        self.reserved: Line | None = None
        self.answered = 0  # calls
        self.retired = False
        self.on_empty: Callable[[], None] | None = None
        self.worn_at: float = _NEVER  # as soon as it has answered so many, `on_worn` is called, once
        self.on_worn: Callable[[], None] | None = None

    @property
    def open(self) -> bool:
        """Whether it may be given requests."""
        return self.port.state == "ready" and not self.retired

    @property
    def congested(self) -> bool:
        """Whether its pipe is so full that nothing should be added now."""
        return self.port.congested

    @property
    def idle(self) -> bool:
        """Whether the worker could begin with one more request at once."""
        return len(self.port.session.asked) < self.port.peer.concurrency

    def lets_through(self, now: float) -> bool:
        """Whether its breaker, if it has one, lets requests through."""
        return self.breaker is None or not self.breaker.retry_after(now)

    def retire(self, on_empty: Callable[[], None]) -> None:
        """No more requests; `on_empty`, in the place of an earlier one, at once if it holds none."""
        self.retired = True
        self.worn_at = _NEVER
        if self.window.in_flight:
            self.on_empty = on_empty
        else:
            on_empty()

    def count(self, calls: int) -> None:
        """So many calls more were answered."""
        self.answered += calls
        if self.answered >= self.worn_at and self.on_worn is not None:
            self.worn_at = _NEVER
            self.on_worn()
        if self.retired and self.on_empty is not None and not self.window.in_flight:
            on_empty, self.on_empty = self.on_empty, None
            on_empty()
