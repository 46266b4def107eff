"""A request of the worker's own, from its making to its answer."""

from __future__ import annotations

from typing import Any, Callable

from mlports_protocol import Answered

from .failures import CallFailed


class PendingCall:
    """A call that this worker made, until its answer is here.

    `answer` is set, and then `on_answer` called if there is one, by whichever thread reads.
    """

    __slots__ = ("answer", "on_answer")

    def __init__(self) -> None:
        self.answer: Answered | None = None
        self.on_answer: Callable[[], None] | None = None

    def result(self) -> Any:
        """The result, of a call that is answered. Raises `CallFailed`."""
        assert self.answer is not None
        if self.answer.error is not None:
            error = self.answer.error
            raise CallFailed(error["code"], error["message"], error.get("data"), error.get("retryable", False))
        return self.answer.result
