"""Room for the arrays that a worker sends: segments of shared memory that it asks the orchestrator for."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Callable

from .connection import Connection
from .pending_call import PendingCall


class Room:
    """What whoever met `RoomWanted` does next: gets the room, sends without asking again, drops what was not used.

    From any thread.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def without_asking(self, encode: Callable[..., Any], *args: Any) -> Any:
        """Encodes with the room that there is. Under the connection's lock, as all encoding."""
        memory = self._connection.memory
        if memory is None:
            return encode(*args)
        memory.asks = False
        try:
            return encode(*args)
        finally:
            memory.asks = True

    def get(self, sizes: list[int]) -> list[str]:
        """Asks for room for arrays of so many bytes each; the segments of what there is."""
        asked = self._ask(sizes)
        self._connection.wait_until(lambda: all(pending.answer is not None for pending in asked))
        return self._take(asked)

    async def get_async(self, sizes: list[int]) -> list[str]:
        """`get` for async handlers."""
        loop = asyncio.get_running_loop()
        asked = self._ask(sizes)
        answered = asyncio.Event()

        def look() -> None:
            if all(pending.answer is not None for pending in asked):
                answered.set()

        def wake() -> None:
            loop.call_soon_threadsafe(look)

        for pending in asked:
            pending.on_answer = wake
        look()  # they may have been answered before
        with suppress(asyncio.CancelledError):  # the answer is due all the same
            await answered.wait()
        return self._take(asked)

    def drop(self, segments: list[str]) -> None:
        """Gives back what nothing was sent in after all."""
        memory = self._connection.memory
        assert memory is not None
        for segment in segments:
            memory.drop_room(segment)

    def _ask(self, sizes: list[int]) -> list[PendingCall]:
        connection = self._connection
        asked = [PendingCall() for _ in sizes]
        for pending, nbytes in zip(asked, sizes):
            connection.queue(connection.session.request, "$/segment", [nbytes], None, pending)
        connection.flush()
        return asked

    def _take(self, asked: list[PendingCall]) -> list[str]:
        memory, segments = self._connection.memory, []
        assert memory is not None  # or nobody would want room
        for pending in asked:
            if pending.answer is not None and pending.answer.error is None:
                segments.append(memory.add_room(pending.answer.result))
        return segments
