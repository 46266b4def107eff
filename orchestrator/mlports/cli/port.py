"""`mlports port`: an orchestrator for a program that opens it as a port."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

from mlports.cli.command import CONFIG, ConfigOption, JsonOption, WrongUsage, resolve

if TYPE_CHECKING:
    from mlports import Orchestrator


def port(config: ConfigOption = CONFIG, json: JsonOption = False) -> None:
    """Be a port: run the services for the program that started this one, and answer it on standard input and output.

    It speaks the workers' protocol as a worker does (protocol/SPEC.md), and its methods are all the services', by the
    name "service.method", and the pipelines', "pipeline.run". So a program in any language that can open a port has
    all services through one: in Erlang, open_port with {packet, 4}. Events and logs go to the host as $/log. It ends
    when the host says $/stop or closes its end; `mlports status` and the rest see it as any orchestrator. Why it
    could not start, with --json as an object, goes to standard error.
    """
    import asyncio

    from mlports import Orchestrator
    from mlports.cli.foreground import loop_factory
    from mlports.control.port import can_be_port

    if not (can_be_port(0) and can_be_port(1)):
        raise WrongUsage(
            "its standard input and output are not pipes, and `mlports port` speaks with a program at the other end of "
            "two: start it from one that speaks the protocol, or call the services with `mlports call`"
        )
    orchestrator = Orchestrator.from_config(resolve(config))
    read, write = _take_streams()
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(orchestrator, read, write))


def _take_streams() -> tuple[int, int]:
    """The host's two ends, out of the way of whatever prints; nothing that we start inherits them."""
    read, write = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return read, write


async def _serve(orchestrator: Orchestrator, read: int, write: int) -> None:
    import asyncio

    from mlports.control import serve
    from mlports.control.port import serve_as_port

    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGINT, lambda: None)  # at a terminal every process gets it: the host decides
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    async with serve(orchestrator) as control:
        asked = loop.create_task(control.shutdown.wait())
        asked.add_done_callback(lambda _: stop.set())
        try:
            await serve_as_port(orchestrator, read, write, stop)
        finally:
            asked.cancel()
