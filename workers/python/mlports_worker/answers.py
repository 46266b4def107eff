"""The answers to a worker's jobs: each gets one, whatever its handler's result is made of."""

from __future__ import annotations

from typing import Any

from mlports_protocol import LocalProtocolError, OversizedMessage

from .connection import Connection
from .context import Context
from .failures import Failure, sendable
from .jobs import Job
from .room import Room
from .shared_memory import RoomWanted


class Answers:
    """Answers jobs, from any thread, and takes them out of `contexts`, those of the requests that are open, by id."""

    def __init__(self, connection: Connection, room: Room, contexts: dict[int, Context]) -> None:
        self._connection = connection
        self._session = connection.session
        self._room = room
        self._contexts = contexts

    def give(self, job: Job, result: Any) -> None:
        """Answers with a result; with an error that says why, if it cannot be sent."""
        try:
            self._connection.queue(self._session.answer, job.number, None, result)
        except RoomWanted as wanted:
            self._give_with_room(job, result, self._room.get(wanted.sizes))
        except LocalProtocolError as error:
            self._give_unencodable(job, result, error)
        self._contexts.pop(job.number, None)

    async def give_async(self, job: Job, result: Any) -> None:
        """`give` for async handlers, whose contexts `AsyncJobs` takes out."""
        try:
            self._connection.queue(self._session.answer, job.number, None, result)
        except RoomWanted as wanted:
            self._give_with_room(job, result, await self._room.get_async(wanted.sizes))
        except LocalProtocolError as error:
            self._give_unencodable(job, result, error)

    def give_error(self, job: Job, error: dict[str, Any]) -> None:
        """Answers with an error map; with its code and message alone, if its data cannot be sent."""
        try:
            self._connection.queue(self._session.answer, job.number, error)
        except LocalProtocolError:
            plain = {"code": sendable(str(error["code"])), "message": sendable(str(error["message"]))}
            self._connection.queue(self._session.answer, job.number, plain)
        self._contexts.pop(job.number, None)

    def _give_with_room(self, job: Job, result: Any, segments: list[str]) -> None:
        try:
            self._connection.queue(self._room.without_asking, self._session.answer, job.number, None, result)
        except LocalProtocolError as error:
            self._give_unencodable(job, result, error)
        finally:
            self._room.drop(segments)

    def _give_unencodable(self, job: Job, result: Any, error: LocalProtocolError) -> None:
        code = "resource_exhausted" if isinstance(error, OversizedMessage) else "internal"
        message = f"the result of {job.handler.name} cannot be sent: {error}"
        if "batch" in job.context.meta and type(result) is list:
            for pair in result:
                try:
                    self._connection.try_encoding(self._session.check, pair)
                except LocalProtocolError as reason:
                    text = f"the result of {job.handler.name} cannot be sent: {reason}"
                    pair[:] = [Failure("internal", text).as_error(), None]
            try:
                self._connection.queue(self._room.without_asking, self._session.answer, job.number, None, result)
                return
            except LocalProtocolError as whole:
                code = "resource_exhausted" if isinstance(whole, OversizedMessage) else "internal"
                message = f"the results of {job.handler.name} cannot be sent: {whole}"
        self._connection.queue(self._session.answer, job.number, Failure(code, message).as_error())
