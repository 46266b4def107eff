"""One worker's process: its transport, its environment, large messages, and how it is stopped."""

from __future__ import annotations

import asyncio
import fcntl
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from mlports import Config, Orchestrator, ServiceConfig, WorkerCrashed
from tests.workers import freeze, marks, program, until

PORT = """
@worker.method
def echo(x):
    return x

@worker.method
def size(body):
    return len(body)

@worker.method
def environment(*names):
    return [os.environ.get(name) for name in names]

@worker.method
def of_a_child(*names):
    code = "import os, sys; print(*(os.environ.get(name) for name in sys.argv[1:]))"
    return subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True).stdout.split()

@worker.method
def place():
    return [os.getcwd(), sys.executable, sys.argv[1:], os.getpid(), os.getsid(0), os.getpgid(0)]

@worker.method
def pipes():
    from mlports_worker.stdio import take_channel
    channel = take_channel()
    return [channel.read, channel.write, *(fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ) for fd in channel)]

@worker.method
def inherited():
    listed = sorted(map(int, os.listdir("/proc/self/fd")))
    code = "import os; print(*sorted(map(int, os.listdir('/proc/self/fd'))))"
    return [listed, subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.split()]

@worker.method
def prints(text):
    print(text, flush=True)
    return text

@worker.method
def reads():
    return sys.stdin.read()

@worker.method
def hold(where):
    mark(where + "/at-work")
    wait_for(where + "/go-on")
    return "held"

@worker.method
def leaves_a_child():
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid
"""

# It writes down what it is told, and when, in seconds since it was told for the first time.
WITNESS = """
import os, select, signal, struct, sys, time
import msgpack

began = None

def note(what):
    global began
    now = time.monotonic()
    began = began or now
    with open(RECORD, "a") as file:
        file.write(f"{what} {now - began:.3f}\\n")

def on_term(number, frame):
    note("SIGTERM")
    if TERM_ENDS_IT:
        os._exit(0)

signal.signal(signal.SIGTERM, on_term)
buffer = b""
while True:
    data = os.read(0, 65536)
    if not data:
        note("end")
        break
    buffer += data
    while len(buffer) >= 4 and len(buffer) >= 4 + struct.unpack(">I", buffer[:4])[0]:
        length = struct.unpack(">I", buffer[:4])[0]
        message = msgpack.unpackb(buffer[4 : 4 + length])
        buffer = buffer[4 + length :]
        if message[0] == 0:
            hello = {"protocol": 1, "max_frame": 1 << 26, "name": "witness", "features": [], "methods": ["x"]}
            answer = msgpack.packb([1, message[1], None, hello])
            os.write(1, struct.pack(">I", len(answer)) + answer)
        else:
            note(message[1])
while True:
    time.sleep(60)
"""


@asynccontextmanager
async def port(directory: Path, **settings: Any) -> AsyncIterator[Orchestrator]:
    """An orchestrator of one worker, the service `port`."""
    settings.setdefault("command", program(directory, PORT, "port"))
    config = Config(service={"port": ServiceConfig(**settings)}, directory=directory)
    async with Orchestrator(config=config) as orch:
        yield orch


def witness(directory: Path, *, term_ends_it: bool = False) -> list[str]:
    """The command of a worker that ignores what it is asked to do, and the file `record` in which it tells of it."""
    path = directory / "witness.py"
    head = f"RECORD = {str(directory / 'record')!r}\nTERM_ENDS_IT = {term_ends_it}\n"
    path.write_text(head + WITNESS)
    return [sys.executable, str(path)]


# Transports.


async def test_descriptors_3_and_4(tmp_path: Path) -> None:
    async with port(tmp_path, transport="fd34") as orch:
        logged: list[str] = []
        orch.event_log.listen(lambda event: logged.append(event.get("text", "")))
        assert (await orch.call("port.pipes"))[:2] == [3, 4]
        assert await orch.call("port.prints", "to standard output") == "to standard output"
        await until(lambda: "to standard output" in logged, "it is in the log")
        assert await orch.call("port.reads") == ""
        assert await orch.map("port.echo", range(1000)) == list(range(1000))
        body = os.urandom(5_000_000)
        assert await orch.call("port.echo", body) == body
        names = ["MLPORTS_WORKER", "MLPORTS_TRANSPORT"]
        assert await orch.call("port.environment", *names) == [None, None]
        assert await orch.call("port.of_a_child", *names) == ["None", "None"]


@pytest.mark.parametrize("transport", ["stdio", "fd34"])
async def test_the_worker_and_what_it_starts_inherit_nothing(tmp_path: Path, transport: str) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    try:
        async with port(tmp_path, transport=transport) as orch:
            own, of_a_child = await orch.call("port.inherited")
            assert reading not in own
            # A child has the standard streams and what lists the directory.
            assert of_a_child == ["0", "1", "2", "3"]
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.skipif(not hasattr(fcntl, "F_SETPIPE_SZ"), reason="pipes have one size here")
async def test_pipes_that_large_messages_went_through_hold_a_mebibyte(tmp_path: Path) -> None:
    async with port(tmp_path) as orch:
        _, _, of_input, of_output = await orch.call("port.pipes")
        assert max(of_input, of_output) <= 1 << 16, "a user may have only so much of them"
        body = bytes(8 << 20)
        assert await orch.call("port.echo", body) == body
        _, _, of_input, of_output = await orch.call("port.pipes")
        most = int(Path("/proc/sys/fs/pipe-max-size").read_text())
        if most >= 1 << 20:
            assert (of_input, of_output) == (1 << 20, 1 << 20)


@pytest.mark.parametrize("transport", ["stdio", "fd34"])
async def test_64_mib_both_ways_at_the_same_time(tmp_path: Path, transport: str) -> None:
    """While the worker writes one answer, the next request is on its way: each waits for the other to be read."""
    async with port(tmp_path, transport=transport, max_frame="80MiB") as orch:
        body = os.urandom(1 << 20) * 64
        async with asyncio.timeout(40):
            calls = [orch.call("port.echo", body, timeout=None) for _ in range(2)]
            for call in calls:
                assert await call == body
        assert await orch.call("port.size", body) == len(body)


async def test_what_waits_to_be_written_is_bounded(tmp_path: Path) -> None:
    """A worker that reads nothing is sent about as much as its pipe holds; the rest waits unencoded."""
    async with port(tmp_path, shutdown="brutal_kill") as orch:
        pid = (await orch.call("port.place"))[3]
        freeze(pid)
        body = bytes(500_000)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        calls = [orch.call("port.size", body, timeout=None) for _ in range(400)]
        await asyncio.sleep(0)
        assert orch.status()["services"]["port"]["waiting"] > 380
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 50
        os.kill(pid, signal.SIGCONT)
        assert await asyncio.gather(*calls) == [len(body)] * 400


# What a worker is given.


async def test_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "inherited")
    monkeypatch.setenv("CHANGED", "ours")
    async with port(tmp_path, env={"CHANGED": "its own", "ADDED": "too"}) as orch:
        values = await orch.call("port.environment", "OURS", "CHANGED", "ADDED", "MLPORTS_WORKER")
        assert values == ["inherited", "its own", "too", None]
        assert await orch.call("port.of_a_child", "ADDED", "MLPORTS_WORKER") == ["too", "None"]


async def test_replicas_share_the_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"]
    async with port(tmp_path, replicas=2, env={"OPENBLAS_NUM_THREADS": "3"}) as orch:
        threads = str(max(1, (os.cpu_count() or 1) // 2))
        assert await orch.call("port.environment", *names) == [threads, "3", "7"]
    async with port(tmp_path) as orch:
        assert (await orch.call("port.environment", *names))[0] is None


async def test_a_session_of_its_own(tmp_path: Path) -> None:
    async with port(tmp_path) as orch:
        _, _, _, pid, session, group = await orch.call("port.place")
        assert pid == session == group
        assert session != os.getsid(0)


async def test_cwd_is_meant_from_the_configurations_folder(tmp_path: Path) -> None:
    place = tmp_path / "models"
    place.mkdir()
    async with port(tmp_path) as orch:
        assert (await orch.call("port.place"))[0] == str(tmp_path.resolve())
    async with port(tmp_path, cwd="models", command=["python", "../port.py", "a b", "--c"]) as orch:
        cwd, python, arguments, *_ = await orch.call("port.place")
        assert (cwd, python, arguments) == (str(place.resolve()), sys.executable, ["a b", "--c"])


@pytest.mark.parametrize("named", ["folder", "interpreter"])
async def test_python_may_be_that_of_a_venv(tmp_path: Path, named: str) -> None:
    interpreter = tmp_path / "venv" / "bin" / "python"
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text(f'#!/bin/sh\nVENV=ours exec "{sys.executable}" "$@"\n')
    interpreter.chmod(0o755)
    program(tmp_path, PORT, "port")
    python = "venv" if named == "folder" else "venv/bin/python"
    async with port(tmp_path, command=["python", "port.py"], python=python) as orch:
        assert await orch.call("port.environment", "VENV") == ["ours"]


# Its end.


@pytest.mark.parametrize("restart", ["permanent", "transient", "temporary"])
async def test_a_stop_is_no_death(tmp_path: Path, restart: str) -> None:
    events: list[dict[str, Any]] = []
    async with port(tmp_path, restart=restart, replicas=2) as orch:
        orch.event_log.listen(events.append)
    assert [event["event"] for event in events] == ["stopping", "stopped", "stopped"]
    for event in events[1:]:
        assert (event["verdict"]["cause"], event["verdict"]["status"]) == ("stopped", 0)


async def test_what_is_under_way_is_finished_first(tmp_path: Path) -> None:
    async with port(tmp_path) as orch:
        held = orch.call("port.hold", str(tmp_path))
        await until((tmp_path / "at-work").exists, "it is at work")
        stopping = asyncio.create_task(orch.stop())
        await until(lambda: orch.status()["state"] == "stopping", "it stops")
        (tmp_path / "go-on").touch()
        await stopping
        assert await held == "held"


def times(record: Path) -> dict[str, float]:
    """What the witness was told, and how many seconds after the first."""
    return {what: float(seconds) for what, seconds in (line.split() for line in marks(record))}


async def stopped_in(orch: Orchestrator) -> tuple[float, dict[str, Any]]:
    """How many seconds a stop takes, and the worker's verdict."""
    events: list[dict[str, Any]] = []
    orch.event_log.listen(events.append)
    began = time.monotonic()
    await orch.stop("the test is over")
    seconds = time.monotonic() - began
    (stopped,) = [event for event in events if event["event"] == "stopped"]
    return seconds, stopped["verdict"]


async def test_ask_then_sigterm(tmp_path: Path) -> None:
    async with port(tmp_path, command=witness(tmp_path, term_ends_it=True), shutdown=0.4) as orch:
        seconds, verdict = await stopped_in(orch)
    told = times(tmp_path / "record")
    assert list(told) == ["$/stop", "end", "SIGTERM"]
    assert told["end"] < 0.2
    assert 0.3 < told["SIGTERM"] < 1.5
    assert 0.35 < seconds < 2
    assert (verdict["cause"], verdict["status"]) == ("stopped", 0)
    assert verdict["detail"] == "was stopped (the test is over): it ignored the request for 0.4 s, then SIGTERM"


async def test_ask_then_sigterm_then_sigkill(tmp_path: Path) -> None:
    async with port(tmp_path, command=witness(tmp_path), shutdown=0.1) as orch:
        seconds, verdict = await stopped_in(orch)
    assert list(times(tmp_path / "record")) == ["$/stop", "end", "SIGTERM"]
    assert 1.05 < seconds < 3
    assert (verdict["cause"], verdict["status"]) == ("stopped", -signal.SIGKILL)
    assert verdict["detail"].endswith("it ignored the request and SIGTERM, then SIGKILL")


async def test_brutal_kill_asks_nothing(tmp_path: Path) -> None:
    async with port(tmp_path, command=witness(tmp_path), shutdown="brutal_kill") as orch:
        seconds, verdict = await stopped_in(orch)
    assert times(tmp_path / "record") == {}
    assert seconds < 1
    assert (verdict["cause"], verdict["status"]) == ("stopped", -signal.SIGKILL)
    assert verdict["detail"] == "was stopped (the test is over)"


async def test_a_shutdown_of_0_goes_on_to_sigterm_at_once(tmp_path: Path) -> None:
    async with port(tmp_path, command=witness(tmp_path, term_ends_it=True), shutdown=0) as orch:
        seconds, verdict = await stopped_in(orch)
    assert "SIGTERM" in times(tmp_path / "record")
    assert seconds < 1
    assert verdict["status"] == 0


async def test_infinity_waits(tmp_path: Path) -> None:
    async with port(tmp_path, command=witness(tmp_path, term_ends_it=True), shutdown="infinity") as orch:
        pid = orch.status()["services"]["port"]["replicas"][0]["pid"]
        stopping = asyncio.create_task(orch.stop())
        await until(lambda: "end" in times(tmp_path / "record"), "it was asked")
        done, _ = await asyncio.wait([stopping], timeout=1.3)
        assert not done
        assert list(times(tmp_path / "record")) == ["$/stop", "end"]
        os.kill(pid, signal.SIGKILL)
        await stopping


async def test_replicas_are_stopped_together(tmp_path: Path) -> None:
    async with port(tmp_path, command=witness(tmp_path), shutdown=0.1, replicas=3) as orch:
        began = time.monotonic()
        await orch.stop()
        assert time.monotonic() - began < 2.5


async def test_what_it_started_ends_with_it(tmp_path: Path) -> None:
    async with port(tmp_path) as orch:
        assert await orch.call("port.leaves_a_child") > 0
    # That the child is gone is what every test's check for leaks says.


async def test_a_restart_follows_at_once(tmp_path: Path) -> None:
    async with port(tmp_path) as orch:
        events: list[dict[str, Any]] = []
        orch.event_log.listen(events.append)
        for restarts in range(1, 4):
            pid = (await orch.call("port.place"))[3]
            held = orch.call("port.hold", str(tmp_path))
            after = orch.call("port.echo", "after") if restarts == 3 else None
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(WorkerCrashed):
                await held
            if after is not None:
                await asyncio.gather(after, return_exceptions=True)
            assert (await orch.call("port.place"))[3] != pid
            assert orch.status()["services"]["port"]["replicas"][0]["restarts"] == restarts
        deaths = [event["time"] for event in events if event["event"] == "died"]
        starts = [event["time"] for event in events if event["event"] == "starting"]
        assert len(deaths) == len(starts) == 3
        assert all(start - death < 0.1 for death, start in zip(deaths, starts, strict=True))


async def test_two_orchestrators_in_one_program(tmp_path: Path) -> None:
    """Neither's workers hold the other's pipes, so that each ends by itself."""
    async with port(tmp_path) as one:
        async with port(tmp_path) as other:
            assert await one.call("port.echo", 1) == await other.call("port.echo", 1) == 1
        assert await one.call("port.echo", 2) == 2


def test_the_limit_of_open_files_is_raised_where_it_is_too_low(tmp_path: Path) -> None:
    command = program(tmp_path, PORT, "port")
    code = f"""
        import asyncio, resource
        from mlports import Orchestrator, ServiceConfig
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, hard))

        async def main():
            async with Orchestrator(services={{"port": ServiceConfig(command={command!r}, replicas=12)}}) as orch:
                print(len(orch.status()["services"]["port"]["replicas"]), await orch.call("port.echo", "all up"))

        asyncio.run(main())
    """
    ended = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True, timeout=50)
    assert (ended.stdout, ended.stderr) == ("12 all up\n", "")
