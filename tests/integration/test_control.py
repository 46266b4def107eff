"""The control socket: who may use it, what it survives, and that it gives what the library gives."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest

from mlports import (
    BlockingOrchestrator,
    Client,
    ConfigError,
    DeadlineExceeded,
    InvalidArgument,
    Orchestrator,
    ServiceDown,
    UnknownMethod,
    UnknownService,
    WorkerCrashed,
    WorkerError,
    connect,
)
from mlports.control import ControlServer, StateDir, serve
from mlports.errors import CallError, ControlError, NoOrchestrator
from mlports_protocol import OrchestratorSession
from tests.integration.command_line import PATIENCE, environment, project

T = TypeVar("T")


@asynccontextmanager
async def _served(folder: Path) -> AsyncIterator[tuple[Orchestrator, ControlServer]]:
    """An orchestrator of the tests' worker that listens; in a process that has what its workers need to import."""
    orchestrator = Orchestrator.from_config(project(folder) / "mlports.toml")
    async with serve(orchestrator) as control:
        await orchestrator.start()
        try:
            yield orchestrator, control
        finally:
            await orchestrator.stop()


@pytest.fixture(autouse=True)
def search_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", environment()["PYTHONPATH"])


async def _elsewhere(work: Callable[[], T]) -> T:
    """Blocking work, in a thread of its own that is gone when it is done."""
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()

    def run() -> None:
        try:
            result = work()
        except BaseException as error:
            loop.call_soon_threadsafe(outcome.set_exception, error)
        else:
            loop.call_soon_threadsafe(outcome.set_result, result)

    # One that hangs is not waited for: the leak check names it, and it holds nobody up.
    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        return await outcome
    finally:
        thread.join(PATIENCE if outcome.done() else 0)


async def _line(orchestrator: Orchestrator, text: str) -> None:
    """Returns when a worker has written this line on its stderr."""
    async for event in orchestrator.events(recent=True):
        if event.get("text") == text:
            return


async def test_only_its_owner_may_use_it(tmp_path: Path) -> None:
    """Guards against other users of the machine: whoever connects may run code in the workers."""
    async with _served(tmp_path):
        state = tmp_path / ".mlports"
        assert stat.S_IMODE(state.stat().st_mode) == 0o700
        assert stat.S_IMODE((state / "control.sock").stat().st_mode) == 0o600
        assert stat.S_IMODE((state / "orchestrator.lock").stat().st_mode) == 0o600
    assert not (state / "control.sock").exists()


def test_a_directory_has_one_owner_at_a_time(tmp_path: Path) -> None:
    """Guards against two orchestrators with the same workers, and against locks that outlive their owner."""
    first = StateDir(tmp_path)
    with pytest.raises(ControlError, match=rf"in use by a running orchestrator \(pid {os.getpid()}\)"):
        StateDir(tmp_path)
    first.close()
    StateDir(tmp_path).close()


async def test_what_a_dead_one_left_behind_is_taken_over(tmp_path: Path) -> None:
    """Guards the next start after SIGKILL."""
    state = project(tmp_path) / ".mlports"
    code = (
        "import os, signal, socket, sys\nfrom pathlib import Path\nfrom mlports.control import StateDir\n"
        "state = StateDir(Path(sys.argv[1]))\nsocket.socket(socket.AF_UNIX).bind(sys.argv[1] + '/control.sock')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(state)], env=environment(), check=False)
    assert done.returncode == -signal.SIGKILL
    assert (state / "control.sock").exists()
    with pytest.raises(NoOrchestrator):
        connect(tmp_path)
    async with _served(tmp_path):
        assert (await _elsewhere(lambda: _status(tmp_path)))["pid"] == os.getpid()


def _status(folder: Path) -> dict[str, Any]:
    with connect(folder) as client:
        return client.status()


async def test_a_path_longer_than_a_sockets_name_may_be(tmp_path: Path) -> None:
    """Guards projects deep down in the file system: a socket's name holds about 100 bytes."""
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    async with _served(deep):
        assert (await _elsewhere(lambda: _status(deep)))["state"] == "running"


def test_nobody_there(tmp_path: Path) -> None:
    """Guards the three ways of not being there: no directory, no socket, nobody behind it."""
    with pytest.raises(NoOrchestrator, match="mlports run"):
        connect(tmp_path)
    state = tmp_path / ".mlports"
    state.mkdir()
    with pytest.raises(NoOrchestrator):
        connect(state)
    with socket.socket(socket.AF_UNIX) as abandoned:
        abandoned.bind(str(state / "control.sock"))
    with pytest.raises(NoOrchestrator):
        connect(tmp_path)


def test_somebody_else_there(tmp_path: Path) -> None:
    """Guards against programs that speak something else."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "control.sock"))
        server.listen(1)

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"\x00\x00\x00\x02hi")
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(ControlError, match="does not speak mlports' protocol"):
            connect(tmp_path)
        thread.join()


def _frame(payload: bytes) -> bytes:
    return struct.pack(">I", len(payload)) + payload


@pytest.mark.parametrize(
    "garbage",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        struct.pack(">I", 0),
        struct.pack(">I", 2**31) + b"x",
        _frame(b"\xc1"),
        _frame(b"\x94\x00\x00\xa1m\x90"),  # a request before the handshake
        _frame(b"\x90"),
        b"\x00\x00\x00\x05ab",  # a frame that is cut off
    ],
)
async def test_garbage_is_hung_up_on_and_harms_nobody_else(tmp_path: Path, garbage: bytes) -> None:
    """Guards the services against whatever finds the socket."""
    async with _served(tmp_path):
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / ".mlports" / "control.sock"))
        writer.write(garbage)
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        assert (await _elsewhere(lambda: _status(tmp_path)))["state"] == "running"


async def test_odd_requests_are_answered_with_errors(tmp_path: Path) -> None:
    """Guards the connection: only a breach of the protocol ends it, not a request that makes no sense."""

    def ask() -> list[str]:
        codes = []
        with connect(tmp_path) as client:
            odd: list[tuple[str, list[Any], dict[str, Any]]] = [
                ("$/nonsense", [], {}),
                ("$/events", [], {}),
                ("test.echo", [1], {"batch": 1}),
                ("test.echo", [[1], [2]], {"batch": 1}),
                ("no target", [], {}),
                ("test.echo", [], {"deadline_ms": -1}),
                ("test.echo", [1, 2, 3], {}),
            ]
            for method, params, meta in odd:
                try:
                    client._ask(method, params, meta, 10.0)
                except CallError as error:
                    codes.append(error.code)
            assert client.call("test.echo", 1) == 1
        return codes

    async with _served(tmp_path):
        assert await _elsewhere(ask) == [
            "unimplemented",
            *["invalid_argument"] * 3,
            "not_found",
            "deadline_exceeded",
            "invalid_argument",
        ]


async def test_a_client_gets_what_the_library_gives(tmp_path: Path) -> None:
    """Guards programs that move from `mlports.open` to `mlports.connect`: results, streams, maps and progress."""

    def use() -> None:
        with connect(tmp_path / "mlports.toml") as client:
            assert client.call("test.echo", {"a": [1, b"x" * 100_000]}) == {"a": [1, b"x" * 100_000]}
            reports: list[tuple[float, float | None, str]] = []
            assert client.call("test.report", 3, progress=lambda *report: reports.append(report)) == 3
            assert reports == [(1, 3, "at it"), (2, 3, "at it"), (3, 3, "at it")]
            assert client.map("test.echo", range(2500)) == list(range(2500))
            assert list(client.stream("test.count", 1000)) == list(range(1000))
            # Two streams at a time, one of which is left early, and a question in the midst of them.
            numbers, events = client.stream("test.count", 10**6), client.events(1000)
            assert [next(numbers), next(events)["event"], next(numbers)] == [0, "starting", 1]
            assert client.status()["state"] == "running"
            assert next(events)["event"] == "ready"
            numbers.close()  # type: ignore[attr-defined]
            assert client.call("test.echo", 2) == 2
            assert client.status()["services"]["test"]["state"] == "up"

    async with _served(tmp_path):
        await _elsewhere(use)


async def test_errors_are_those_of_the_library(tmp_path: Path) -> None:
    """Guards `except` clauses: the same class, code and story on both sides of the socket."""

    def use() -> None:
        with connect(tmp_path) as client:
            with pytest.raises(WorkerError, match=r"test\.fail: ValueError: no") as raised:
                client.call("test.fail", "no")
            assert raised.value.remote_type == "ValueError"
            assert "raise ValueError" in str(raised.value.__cause__)
            assert (raised.value.service, raised.value.method, raised.value.replica) == ("test", "fail", 0)
            with pytest.raises(DeadlineExceeded):
                client.call("test.hang", 1, timeout=0.1)
            with pytest.raises(UnknownService):
                client.call("none.echo")
            with pytest.raises(UnknownMethod):
                list(client.stream("test.none"))
            with pytest.raises(InvalidArgument):
                client.call("test.echo", object())
            outcomes = client.map("test.fail", ["a", "b"], return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [WorkerError, WorkerError]
            with pytest.raises(WorkerError, match="ValueError: a"):
                client.map("test.fail", ["a", "b"])
            with pytest.raises(WorkerCrashed, match="my last words") as crashed:
                client.call("test.crash")
            assert crashed.value.verdict is not None
            assert (crashed.value.verdict.status, crashed.value.verdict.stderr[-1]) == (7, "my last words")

    async with _served(tmp_path):
        await _elsewhere(use)


async def test_a_client_that_vanishes_cancels_what_it_asked_for(tmp_path: Path) -> None:
    """Guards workers against work that nobody waits for."""
    async with _served(tmp_path) as (orchestrator, _):
        _, writer = await asyncio.open_unix_connection(str(tmp_path / ".mlports" / "control.sock"))
        session = OrchestratorSession()
        writer.writelines(session.hello("control", 0, {}))
        writer.write(_frame(b"\x94\x00\x01\xa9test.hang\x91\x01"))
        await _line(orchestrator, "hanging 1")
        writer.transport.abort()
        await _line(orchestrator, "let go 1")


async def test_a_client_that_does_not_read_holds_up_nobody(tmp_path: Path) -> None:
    """Guards the stop of an orchestrator, and its other clients, against one that was stopped with Ctrl-Z."""
    async with _served(tmp_path) as (orchestrator, control):

        def leave_unread() -> Client:
            client = connect(tmp_path)
            assert next(iter(client.events(1)))["event"] == "ready"
            client._send("test.echo", [b"x" * 8_000_000], {})
            return client

        client = await _elsewhere(leave_unread)
        try:
            assert await orchestrator.call("test.echo", 1) == 1
            await orchestrator.stop()
            await asyncio.wait_for(control.stop(), 20)
        finally:
            client.close()


async def test_the_stop_is_told_to_who_asked_for_it_when_the_directory_is_free(tmp_path: Path) -> None:
    """Guards `mlports stop && mlports run`."""

    def ask() -> None:
        with connect(tmp_path) as client:
            client.shutdown()
        StateDir(tmp_path / ".mlports").close()

    orchestrator = Orchestrator.from_config(project(tmp_path) / "mlports.toml")
    async with serve(orchestrator) as control:
        await orchestrator.start()
        asked = asyncio.create_task(_elsewhere(ask))
        await control.shutdown.wait()
        await orchestrator.stop()
    await asked


async def test_events_come_to_the_last_and_end_with_the_orchestrator(tmp_path: Path) -> None:
    """Guards logs that end before the story does."""
    begun = threading.Event()

    def follow() -> list[str]:
        names = []
        with connect(tmp_path) as client:
            for event in client.events(1000):
                names.append(event["event"])
                begun.set()
        return names

    async with _served(tmp_path):
        following = asyncio.create_task(_elsewhere(follow))
        await _elsewhere(begun.wait)
    assert await following == ["starting", "ready", "stopping", "stopped"]


async def test_calls_before_the_start_and_during_the_stop_are_refused_not_lost(tmp_path: Path) -> None:
    """Guards callers at the edges of an orchestrator's life."""
    orchestrator = Orchestrator.from_config(project(tmp_path) / "mlports.toml")

    def call(timeout: float) -> str:
        with connect(tmp_path) as client:
            try:
                client.call("test.echo", 1, timeout=timeout)
            except CallError as error:
                return error.code
            return "answered"

    async with serve(orchestrator):
        assert await _elsewhere(lambda: call(10)) == "unavailable"
        await orchestrator.start()
        assert await _elsewhere(lambda: call(10)) == "answered"
        await orchestrator.stop()
        assert await _elsewhere(lambda: call(10)) == "unavailable"


async def test_an_orchestrator_that_hangs_does_not_hold_its_clients(tmp_path: Path) -> None:
    """Guards `mlports status` against one that was stopped with SIGSTOP."""
    async with _served(tmp_path):
        client = await _elsewhere(lambda: Client(tmp_path / ".mlports" / "control.sock", patience=0.2))
        with client, pytest.raises(ControlError, match="does not answer"):
            client.status()  # on the loop's own thread, so that nobody can answer


def test_blocking_and_client_have_the_same_ways_to_call() -> None:
    """Guards the command line, which uses one or the other."""
    for name in ("call", "map", "stream", "status", "close", "__enter__", "__exit__"):
        assert callable(getattr(Client, name))
        assert callable(getattr(BlockingOrchestrator, name))
    assert issubclass(ServiceDown, CallError)


async def test_a_file_that_was_broken_since_does_not_keep_from_the_stop(tmp_path: Path) -> None:
    """Guards people who edit the configuration of what is running."""
    async with _served(tmp_path):
        (tmp_path / "mlports.toml").write_text("[service.test]\nno = 1\n")
        assert (await _elsewhere(lambda: _status(tmp_path / "mlports.toml")))["state"] == "running"
    with pytest.raises(ConfigError, match="there is no such key"):
        connect(tmp_path / "mlports.toml")
