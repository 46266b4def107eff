"""An orchestrator in the foreground of a terminal: what is printed of it, and what ends it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from mlports.cli.exit_codes import ExitCode

if TYPE_CHECKING:
    from mlports import Orchestrator

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_foreground(orchestrator: Orchestrator, as_json: bool) -> int:
    """Runs it to its end; the exit status. Raises what its start does, and `ServiceDown` when all services are."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(_Foreground(orchestrator, as_json).run())


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where it is installed."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


class _Foreground:
    """One run."""

    def __init__(self, orchestrator: Orchestrator, as_json: bool) -> None:
        self._orchestrator = orchestrator
        self._json = as_json
        self._stopping: asyncio.Task[None] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._why: asyncio.Future[str]  # it is to end

    async def run(self) -> int:
        """Runs it to its end; the exit status. Raises what the start does, and `ServiceDown` when all services are."""
        from mlports.cli.background import BackgroundLines
        from mlports.control import serve

        loop = asyncio.get_running_loop()
        self._why = loop.create_future()
        lines = BackgroundLines(partial(loop.call_soon_threadsafe, self._end, "nobody reads the output any more"))
        self._show = self._printer(lines.put)
        for number in _SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN or number == signal.SIGINT:
                loop.add_signal_handler(number, self._on_signal, number)
        try:
            async with serve(self._orchestrator) as control:
                self._announce()
                self._orchestrator.event_log.listen(self._on_event)
                asked = loop.create_task(self._wait_for(control.shutdown))
                try:
                    return await self._start_and_stop()
                finally:
                    asked.cancel()
        finally:
            lines.close()

    async def _start_and_stop(self) -> int:
        self._starting = asyncio.create_task(self._orchestrator.start())
        down = ""
        try:
            either: list[asyncio.Future[Any]] = [self._starting, self._why]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if self._starting.done():
                self._starting.result()
                down = self._down()  # it may have gone down in the moment before
                if not down:
                    await self._why
                    down = self._down()
        finally:
            reason = self._why.result() if self._why.done() else "the orchestrator stops"
            self._stopping = asyncio.create_task(self._stop(reason))
            await asyncio.wait([self._stopping])
        if self._stopping.cancelled():
            from mlports.cli.output import say

            say("killed")
            return ExitCode.INTERRUPTED
        self._stopping.result()
        if down:
            from mlports.errors import ServiceDown

            raise ServiceDown(f"every service is down:\n{down}")
        return ExitCode.OK

    async def _stop(self, reason: str) -> None:
        assert self._starting is not None
        if not self._starting.done():
            self._starting.cancel()
            await asyncio.wait([self._starting])
        await self._orchestrator.stop(reason)

    async def _wait_for(self, shutdown: asyncio.Event) -> None:
        await shutdown.wait()
        self._end("`mlports stop` asked for it")

    def _end(self, why: str) -> None:
        if not self._why.done():
            self._why.set_result(why)

    def _on_signal(self, number: signal.Signals) -> None:
        if self._stopping is not None and number == signal.SIGINT:
            self._stopping.cancel()  # which kills what is left
        self._end("Ctrl-C" if number == signal.SIGINT else number.name)

    def _on_event(self, event: dict[str, Any]) -> None:
        self._show(event)
        if event["event"] == "gave_up" and self._starting is not None and self._starting.done() and self._down():
            self._end("every service is down")

    def _down(self) -> str:
        """Why each service is down, a line each; nothing as long as one is not."""
        services = self._orchestrator.status()["services"]
        if any(service["state"] != "down" for service in services.values()):
            return ""
        return "\n".join(f"  {name}: {service['reason']}" for name, service in services.items())

    def _announce(self) -> None:
        names = list(self._orchestrator.config.service)
        self._show(
            {
                "time": time.time(),
                "event": "running",
                "pid": os.getpid(),
                "config": str(self._orchestrator.config.path),
                "state_dir": str(self._orchestrator.state_dir),
                "services": names,
            }
        )

    def _printer(self, put: Callable[[str], None]) -> Callable[[dict[str, Any]], None]:
        if self._json:
            from mlports.cli.values import write

            return lambda event: put(write(event))
        from mlports.cli.event_lines import as_line, is_shown
        from mlports.cli.output import coloured

        colour, least = coloured(sys.stdout), self._orchestrator.config.orchestrator.log

        def show(event: dict[str, Any]) -> None:
            if event["event"] == "running":
                event = {"time": event["time"], "event": f"running {event['config']} (pid {event['pid']})"}
                event["text"] = "stop it with Ctrl-C"
            if is_shown(event, least):
                put(as_line(event, colour))

        return show
