"""What a handler can know of the call it is working on."""

from __future__ import annotations

import contextvars
import time
from typing import TYPE_CHECKING, Any, Callable

from .failures import Cancelled, Failure

if TYPE_CHECKING:
    from .inputs import InputStream

_current: contextvars.ContextVar[Context] = contextvars.ContextVar("mlports_call")


class Context:
    """One call, as its handler sees it. `current()` gives it."""

    __slots__ = ("_expires", "_input", "_on_cancel", "_report", "cancelled", "config", "id", "meta", "method")

    def __init__(
        self,
        id: int,
        method: str,
        meta: dict[str, Any],
        config: dict[str, Any],
        report: Callable[[int, float, float | None, str], None],
    ) -> None:
        self.id = id
        self.method = method
        self.meta = meta
        self.config = config
        self.cancelled = False
        deadline = meta.get("deadline_ms")
        self._expires = None if deadline is None else time.monotonic() + deadline / 1000
        self._report = report
        self._on_cancel: Callable[[], None] | None = None
        self._input: InputStream | None = None

    @property
    def deadline(self) -> float | None:
        """Seconds that are left for this call (below 0: it is late), or None when it may take for ever."""
        return None if self._expires is None else self._expires - time.monotonic()

    @property
    def expired(self) -> bool:
        """Whether the deadline has passed."""
        return self._expires is not None and time.monotonic() >= self._expires

    def check(self) -> None:
        """Raises `Cancelled` once the caller has cancelled, and `Failure` once the deadline has passed."""
        if self.cancelled:
            raise Cancelled
        if self.expired:
            raise Failure("deadline_exceeded", "the deadline passed while the handler was at work")

    def progress(self, done: float, total: float | None = None, text: str = "") -> None:
        """Tells the caller how far the work has come, in any unit; `total` may be unknown."""
        self._report(self.id, done, total, text)

    def cancel(self) -> None:
        """Marks the call as cancelled. For the worker's own use."""
        self.cancelled = True
        if self._on_cancel is not None:
            self._on_cancel()


def current() -> Context:
    """The call that the running handler works on. Raises `RuntimeError` outside of one."""
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError("current() is for handlers: no call is being worked on here") from None
