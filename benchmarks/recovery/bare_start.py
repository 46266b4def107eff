"""What no restart can undercut: the worker started by hand, up to its first answer."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.recovery.subject import PAYLOAD, WORKER, Figures
from mlports_protocol import Answered, Event, Greeted, OrchestratorSession


class BareStart:
    """subprocess, hello, one echo, and no orchestrator."""

    name: ClassVar[str] = "kills-bare-start"
    title: ClassVar[str] = "the worker's bare start"

    def open(self) -> None:
        pass

    def close(self) -> None:
        pass

    def run(self, *request: Any) -> Figures:
        """`request` is the number of starts; each gives a figure "ms"."""
        (starts,) = request
        return {"ms": [bare_start(WORKER) for _ in range(starts)]}


def bare_start(command: Sequence[str], cwd: Path | None = None) -> float:
    """Milliseconds from spawning a worker to its first echo. Raises RuntimeError where it gives none."""
    start = time.perf_counter()
    env = {**os.environ, "MLPORTS_WORKER": "1"}
    with subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        try:
            session = OrchestratorSession()
            _send(process, session.hello("echo", 0, {}, frozenset()))
            _receive(process, session, Greeted)
            _send(process, session.request("echo", [PAYLOAD], None, None))
            answer = _receive(process, session, Answered)
            seconds = time.perf_counter() - start
        finally:
            process.kill()
    if bytes(answer.result) != PAYLOAD:
        raise RuntimeError("the echo is not what was sent")
    return seconds * 1e3


def _send(process: subprocess.Popen[bytes], buffers: list[Any]) -> None:
    assert process.stdin
    process.stdin.write(b"".join(buffers))


def _receive(process: subprocess.Popen[bytes], session: OrchestratorSession, kind: type[Event]) -> Any:
    """The next event, which is of this kind. Raises RuntimeError."""
    assert process.stdout
    while (event := session.next_event()) is None:
        data = os.read(process.stdout.fileno(), 65536)
        if not data:
            raise RuntimeError(f"the worker ended with status {process.wait()}")
        session.feed(data)
    if not isinstance(event, kind):
        raise RuntimeError(f"the worker said {event!r}")
    return event
