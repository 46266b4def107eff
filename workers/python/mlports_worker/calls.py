"""The calls that a worker makes itself, of other services, through its orchestrator."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Any, Callable

from .connection import Connection
from .context import _current
from .failures import CallFailed
from .pending_call import PendingCall
from .room import Room
from .shared_memory import RoomWanted


class Calls:
    """Calls of other services. Each names the handler's call that it is made in, and has no more time than that."""

    def __init__(self, connection: Connection, room: Room) -> None:
        self._connection = connection
        self._session = connection.session
        self._room = room

    def call(self, target: str, params: tuple[Any, ...], timeout: float | None) -> Any:
        """Calls another service and waits for its answer, reading meanwhile if nobody else does.

        `timeout` in seconds, None for no other than the handler's own. Raises `CallFailed`.
        """
        pending = PendingCall()
        try:
            self._ask(self._session.request, target, params, timeout, pending)
        except RoomWanted as wanted:
            segments = self._room.get(wanted.sizes)
            self._ask_with_room(segments, target, params, timeout, pending)
        if not self._connection.wait_until(lambda: pending.answer is not None, timeout):
            if self._connection.ended:
                raise CallFailed("unavailable", f"the orchestrator went away before {target} was answered")
            raise CallFailed("deadline_exceeded", f"{target} was not answered within {timeout} s")
        return pending.result()

    async def acall(self, target: str, params: tuple[Any, ...], timeout: float | None) -> Any:
        """The same for async handlers."""
        loop = asyncio.get_running_loop()
        answered = loop.create_future()
        pending = PendingCall()

        def settle() -> None:
            if not answered.done():
                answered.set_result(None)

        def wake() -> None:
            loop.call_soon_threadsafe(settle)

        pending.on_answer = wake
        try:
            self._ask(self._session.request, target, params, timeout, pending)
        except RoomWanted as wanted:
            segments = await self._room.get_async(wanted.sizes)
            self._ask_with_room(segments, target, params, timeout, pending)
        try:
            await asyncio.wait_for(answered, timeout)
        except asyncio.TimeoutError:
            raise CallFailed("deadline_exceeded", f"{target} was not answered within {timeout} s") from None
        return pending.result()

    def _ask_with_room(
        self, segments: list[str], target: str, params: tuple[Any, ...], timeout: float | None, pending: PendingCall
    ) -> None:
        try:
            request = partial(self._room.without_asking, self._session.request)
            self._ask(request, target, params, timeout, pending)
        finally:
            self._room.drop(segments)

    def _ask(
        self,
        request: Callable[..., Any],
        target: str,
        params: tuple[Any, ...],
        timeout: float | None,
        pending: PendingCall,
    ) -> None:
        context = _current.get(None)
        left = context.deadline if context is not None else None
        if timeout is not None:
            left = timeout if left is None else min(left, timeout)
        meta: dict[str, Any] = {} if left is None else {"deadline_ms": max(0, int(left * 1000))}
        if context is not None:
            if context.id >= 0:  # a cast has none
                meta["parent"] = context.id
            if "traceparent" in context.meta:
                meta["traceparent"] = context.meta["traceparent"]
        self._connection.send_now(request, target, list(params), meta, pending)
