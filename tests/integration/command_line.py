"""The command line as its users meet it: a process, its arguments, its outputs and its exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = [ROOT / "protocol", ROOT / "orchestrator", ROOT / "workers" / "python"]
PATIENCE = 40.0
"""Seconds that any command of these tests may take, on a busy machine too."""

Event = dict[str, Any]

WORKER = """
import asyncio
import os
import sys
import tempfile

from mlports_worker import Worker, current

worker = Worker("test")


@worker.setup
def load(config):
    if config.get("broken"):
        raise RuntimeError("there is no model here")


@worker.method(idempotent=True)
def echo(x):
    return x


@worker.method
def add(a, b):
    return a + b


@worker.method
def fail(text):
    raise ValueError(text)


@worker.method
def hard(kind):
    return {"bytes": b"hi", "nan": float("nan"), "keys": {1: float("inf")}}[kind]


@worker.method
def crash():
    print("my last words", file=sys.stderr, flush=True)
    os._exit(7)


@worker.method
def report(n):
    for number in range(n):
        current().progress(number + 1, n, "at it")
    return n


@worker.method
def count(n):
    yield from range(n)


@worker.method
async def hang(who):
    print("hanging", who, file=sys.stderr, flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("let go", who, file=sys.stderr, flush=True)


worker.run()
"""

CONFIG = """
[service.test]
command = ["python", "worker.py"]
shutdown = "200ms"
"""


def project(folder: Path, config: str = CONFIG) -> Path:
    """A folder with a configuration and the worker above."""
    folder.mkdir(exist_ok=True)
    (folder / "mlports.toml").write_text(config)
    (folder / "worker.py").write_text(WORKER)
    return folder


# Where nothing may be written beside the sources, everything would be compiled again for each of a hundred commands.
_compiled = tempfile.TemporaryDirectory(prefix="mlports-compiled-")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a command is started with: this checkout's packages, and no settings of whoever runs the tests."""
    unset = {"NO_COLOR", "MLPORTS_TRACEBACK", "PYTHONIOENCODING", "PYTHONDONTWRITEBYTECODE"}
    inherited = {key: value for key, value in os.environ.items() if key not in unset}
    ours = {"PYTHONPATH": os.pathsep.join(map(str, PACKAGES)), "PYTHONPYCACHEPREFIX": _compiled.name}
    return {**inherited, **ours, **(extra or {})}


class Command(subprocess.Popen[str]):
    """A process that does not outlive a test that fails."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.kill()
        super().__exit__(kind, error, trace)


def start(
    *arguments: str,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: int | IO[Any] = subprocess.DEVNULL,
    stdout: int | IO[Any] = subprocess.PIPE,
    stderr: int | IO[Any] = subprocess.PIPE,
) -> Command:
    """A command, started."""
    return Command(
        [sys.executable, "-m", "mlports", *arguments],
        cwd=cwd,
        env=environment(env),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        text=True,
    )


def mlports(
    *arguments: str,
    cwd: Path,
    input: str = "",
    env: Mapping[str, str] | None = None,
    stdout: int | IO[Any] = subprocess.PIPE,
) -> subprocess.CompletedProcess[str]:
    """A command, run to its end."""
    with start(*arguments, cwd=cwd, env=env, stdin=subprocess.PIPE, stdout=stdout) as process:
        try:
            out, err = process.communicate(input, PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert "Traceback (most recent call last)" not in err.partition("in the worker")[0], err
    return subprocess.CompletedProcess(list(arguments), process.returncode, out, err)


class Run:
    """`mlports run --json`, and the events that it prints."""

    def __init__(self, cwd: Path) -> None:
        self.cwd = cwd
        self.process = start("run", "--json", cwd=cwd)

    def wait_for(self, wanted: Callable[[Event], bool]) -> Event:
        """The first event from here on that is wanted."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: Event = json.loads(line)
            if wanted(event):
                return event
        raise AssertionError(f"it ended without: {self.process.wait(PATIENCE)}")

    def wait_ready(self) -> Event:
        return self.wait_for(lambda event: event["event"] == "ready")

    def wait_line(self, text: str) -> Event:
        """The event of a line on a worker's stderr."""
        return self.wait_for(lambda event: event.get("level") == "stderr" and event["text"] == text)

    def end(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ends it; its exit status."""
        self.process.send_signal(number)
        self.process.communicate(timeout=PATIENCE)
        return self.process.returncode


@contextmanager
def running(cwd: Path) -> Iterator[Run]:
    """A running orchestrator with a ready worker."""
    run = Run(cwd)
    try:
        run.wait_ready()
        yield run
    finally:
        if run.process.poll() is None:
            run.end()
        for stream in (run.process.stdout, run.process.stderr):
            if stream is not None:
                stream.close()
