"""A lane: a ready port as its service's calls see it, how much it holds, and how much it has answered."""

from __future__ import annotations

from collections.abc import Callable

from mlports.core.routing import Window
from mlports.runtime.port import Port

_NEVER = float("inf")


class Lane:
    """A port and its window. Retired, it gets no more requests, and `on_empty` is called when it holds none."""

    __slots__ = ("answered", "on_empty", "on_worn", "port", "retired", "window", "worn_at")

    def __init__(self, port: Port) -> None:
        self.port = port
        self.window = Window(port.peer.concurrency + 1)
        self.answered = 0  # calls
        self.retired = False
        self.on_empty: Callable[[], None] | None = None
        self.worn_at: float = _NEVER  # as soon as it has answered so many, `on_worn` is called, once
        self.on_worn: Callable[[], None] | None = None

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
