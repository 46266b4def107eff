"""A whole orchestrator as one port: whoever starts this program is answered on its standard streams, as by a worker.

$/hello ──▶ start the services ──▶ the answer: their methods, as "service.method"
requests ──▶ calls, streams, batches          $/stop ──▶ no new ones; the answers, then the end
the end of the input ──▶ the end, at once
"""

from __future__ import annotations

import asyncio
import os
import stat
from asyncio.streams import FlowControlMixin
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from mlports.control.caller import Caller
from mlports.errors import CallError, HostFailed, NotRunning
from mlports_protocol import (
    DEFAULT_MAX_FRAME,
    Event,
    HelloAsked,
    LocalProtocolError,
    MethodInfo,
    Notification,
    RemoteProtocolError,
    Request,
    StopAsked,
)

if TYPE_CHECKING:
    from mlports.runtime.orchestrator import Orchestrator

FEATURES = frozenset(["ping", "cancel", "stream", "input", "batch", "ndarray"])
_CONCURRENCY = 1024  # calls that the host may have under way; the services' own queues bound them further
_READ_AHEAD = 1024 * 1024  # bytes
_LEVELS = ("debug", "info", "warning", "error")
_LEVEL_OF = {"died": "warning", "gave_up": "error", "restarting": "warning", "guard_lost": "error"}
_UNTOLD = {"time", "event", "level", "text", "fields"}


def can_be_port(descriptor: int) -> bool:
    """Whether a program that speaks the protocol can be at the other end: it is a pipe or a socket."""
    try:
        kind = os.fstat(descriptor).st_mode
    except OSError:  # it is not open
        return False
    return stat.S_ISFIFO(kind) or stat.S_ISSOCK(kind)


async def serve_as_port(orchestrator: Orchestrator, read: int, write: int, stop: asyncio.Event) -> None:
    """Answers the host on these two file descriptors until it stops us, hangs up, or `stop` is set; then stops too.

    Both are pipes or sockets (`can_be_port`). Raises `StartFailed` when no service could be started, and `HostFailed`
    when the host breaks the rules or reads no more.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(_READ_AHEAD)
    incoming, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(os.dup(read), "rb", 0)
    )
    outgoing, protocol = await loop.connect_write_pipe(_Outgoing, os.fdopen(os.dup(write), "wb", 0))
    writer = asyncio.StreamWriter(outgoing, protocol, None, loop)
    host = _Host(orchestrator, writer)
    ends = [
        loop.create_task(host.serve(reader)),
        loop.create_task(host.until_done()),
        loop.create_task(stop.wait()),
        loop.create_task(_until_closed(protocol)),
    ]
    try:
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    except RemoteProtocolError as broken:
        raise HostFailed(f"{type(broken).__name__}: {broken}") from None
    finally:
        for task in ends:
            task.cancel()
        await asyncio.wait(ends)
        host.close()
        await orchestrator.stop("its host is gone")
        incoming.close()
        host.flush()
        writer.close()
        await protocol.closed  # everything is written, or nobody reads it


class _Outgoing(FlowControlMixin):
    """The pipe to the host: when it is closed by the other end, and when by us."""

    def __init__(self) -> None:
        super().__init__()
        self.closed: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if not self.closed.done():
            self.closed.set_result(exc)


async def _until_closed(protocol: _Outgoing) -> None:
    await asyncio.shield(protocol.closed)
    raise HostFailed("the host reads no more: it closed its end of this program's standard output")


class _Host(Caller):
    """The program that opened this one as a port."""

    def __init__(self, orchestrator: Orchestrator, writer: asyncio.StreamWriter) -> None:
        super().__init__(orchestrator, writer, DEFAULT_MAX_FRAME)
        self._methods: Mapping[str, MethodInfo] | None = None
        self._stopping = False
        self._setting_up: asyncio.Task[None] | None = None
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._least = _LEVELS.index(orchestrator.config.orchestrator.log)
        self._deaf = orchestrator.event_log.listen(self._tell)

    async def serve(self, reader: asyncio.StreamReader) -> None:
        """Works until the host closes its end; after `$/stop`, until it has all its answers."""
        await super().serve(reader)
        self._session.end()
        for items in self._inputs.values():
            items.fail(CallError("the host closed its end within the streamed argument", code="unavailable"))
        if self._stopping:
            await self._done

    async def until_done(self) -> None:
        """Returns when the host has asked for the end and has all its answers. Raises what the start does."""
        await self._done

    def close(self) -> None:
        self._deaf()
        if self._setting_up is not None:
            self._setting_up.cancel()
        super().close()

    def _on_event(self, event: Event) -> None:
        if type(event) is StopAsked:
            self._stopping = True
            self._end_when_done()
        elif type(event) is Notification:
            self._cast(event)
        else:
            super()._on_event(event)

    def _greet(self, asked: HelloAsked) -> None:
        self._session.decoder.max_frame = asked.hello.max_frame
        self._setting_up = asyncio.ensure_future(self._set_up(asked))
        self._setting_up.add_done_callback(self._on_set_up)

    async def _set_up(self, asked: HelloAsked) -> None:
        await self._orchestrator.start()
        self._methods = self._orchestrator.methods()
        answer = self._session.answer_hello(
            asked,
            name="mlports",
            language="python",
            sdk="mlports",
            methods=None if self._methods is None else dict(self._methods),
            features=FEATURES,
            concurrency=_CONCURRENCY,
        )
        self._send(answer)

    def _on_set_up(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not self._done.done():
            self._done.set_exception(error)

    def _streams(self, method: str) -> bool:
        return self._methods is not None and method in self._methods and self._methods[method].stream

    def _on_request(self, request: Request) -> None:
        if self._stopping and not request.method.startswith("$/"):
            text = f"{request.method} was not called: this orchestrator was told to stop"
            self._answer(request.id, None, {"code": "unavailable", "message": text, "retryable": True})
            return
        super()._on_request(request)

    def follow(self, request: Request, future: asyncio.Future[Any]) -> None:
        super().follow(request, future)
        future.add_done_callback(lambda _: self._end_when_done())

    def _end_when_done(self) -> None:
        if self._stopping and not self._under_way and not self._done.done():
            self._done.set_result(None)

    def _cast(self, cast: Notification) -> None:
        try:
            self._orchestrator.cast(cast.method, *cast.params)
        except (CallError, NotRunning) as error:
            self._log("warning", f"the cast to {cast.method} was dropped: {error}", {})

    # -- what happens here, for the host's log

    def _tell(self, event: dict[str, Any]) -> None:
        name = event["event"]
        level = event.get("level", _LEVEL_OF.get(name, "info"))
        level = level if level in _LEVELS else "info"  # what a worker wrote on stderr
        if name == "progress" or _LEVELS.index(level) < self._least:
            return
        fields = {key: value for key, value in event.items() if key not in _UNTOLD}
        text = str(event.get("text", ""))
        told = text if name == "log" else f"{name}: {text}" if text else name
        self._log(level, told, {**fields, **event.get("fields", {})})

    def _log(self, level: str, text: str, fields: dict[str, Any]) -> None:
        with suppress(LocalProtocolError):  # nobody said hello yet, or the host takes no frame of this length
            self._send(self._session.notify("$/log", [level, text, fields]))
