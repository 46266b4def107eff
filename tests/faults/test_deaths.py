"""Starts that fail, are given up or are cut short, stops, and what test_table.py does not say of deaths."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from mlports import DeadlineExceeded, Orchestrator, ServiceConfig, ServiceDown, StartFailed, WorkerCrashed
from tests.faults.scene import careless, faulty, outcome, scene


async def test_when_nothing_can_be_started() -> None:
    services = {
        "first": ServiceConfig(command=faulty("exits-before-hello")),
        "second": ServiceConfig(command=["no-such-program"]),
    }
    orch = Orchestrator(services=services)
    with pytest.raises(StartFailed) as caught:
        await orch.start()
    text = str(caught.value)
    assert text.startswith("no service could be started:\n  first: failed to start child first/0: worker first/0 (pid ")
    assert "exited with status 3" in text
    assert "there is no file m.skops" in text
    assert "  second: failed to start child second/0: cannot start 'no-such-program': no such program" in text
    assert orch.status()["state"] == "stopped"


async def test_a_start_that_is_given_up() -> None:
    service = ServiceConfig(command=faulty("never-says-hello"), shutdown=0.1)
    orch = Orchestrator(services={"faulty": service})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.3):
            await orch.start()
    assert orch.status()["state"] == "stopped"
    assert orch.status()["services"]["faulty"]["replicas"][0]["pid"] is None


async def test_a_stop_during_the_start() -> None:
    service = ServiceConfig(command=faulty("never-says-hello"), shutdown=0.1)
    orch = Orchestrator(services={"faulty": service})
    starting = asyncio.Event()
    orch.event_log.listen(lambda event: starting.set())
    start = asyncio.create_task(orch.start())
    await starting.wait()
    call = orch.call("faulty.echo", 1)
    await orch.stop()
    await start
    assert type(await outcome(call)) is ServiceDown
    assert orch.status()["state"] == "stopped"


async def test_a_stop_that_is_cancelled_leaves_nothing() -> None:
    async with scene(faulty("ignores-everything"), shutdown=30) as seen:
        assert await seen.call("go") == "done"
        seen.stopped = True
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await seen.orch.stop()
        assert seen.orch.status()["state"] == "stopped"
        (stopped,) = await seen.until("stopped")
        assert stopped["verdict"]["status"] == -9
        neighbour = seen.orch.status()["services"]["neighbour"]
        assert (neighbour["state"], neighbour["replicas"][0]["restarts"]) == ("stopping", 0)


async def test_a_grandchild_dies_with_the_worker() -> None:
    async with scene(faulty("leaves-a-grandchild")) as seen:
        began = time.monotonic()
        assert type(await outcome(seen.call("go"))) is WorkerCrashed
        # It holds stdout and stderr open: nobody waits for their end.
        assert time.monotonic() - began < 5
    # That the grandchild is gone is what every test's check for leaks says.


async def test_a_call_that_is_never_answered_without_a_heartbeat() -> None:
    async with scene(faulty("stops-itself"), shutdown="brutal_kill") as seen:
        error = await outcome(seen.call("go", timeout=0.3))
        assert type(error) is DeadlineExceeded
        assert "faulty.go was not answered within its timeout: a worker had been at it for 0." in str(error)
        assert seen.deaths() == []


# Programs that cannot be started at all.


def _program(place: Path, text: str, mode: int) -> str:
    place.write_text(text)
    place.chmod(mode)
    return str(place)


def _unstartable(kind: str, directory: Path) -> tuple[list[str], str]:
    program = directory / "program"
    if kind == "missing":
        return ["no-such-program"], "."
    if kind == "not executable":
        return [_program(program, "#!/bin/sh\n", 0o644)], "."
    if kind == "no program":
        return [_program(program, "loss = 0.25\n", 0o755)], "."
    if kind == "no interpreter":
        return [_program(program, "#!/no/such/interpreter\n", 0o755)], "."
    if kind == "directory":
        return [str(directory)], "."
    return careless(), str(directory / "nowhere")


UNSTARTABLE = [  # kind, what is wrong, how to mend it
    ("missing", "cannot start 'no-such-program': no such program, as seen from ", "Correct command"),
    ("not executable", "it may not be executed", "Try: chmod +x "),
    ("no program", "it is no program and has no #! line", "Name its interpreter first in command"),
    ("no interpreter", "the interpreter that its first line names is missing", "install the program"),
    ("directory", "it is a directory", "Name a program"),
    ("no cwd", "its working directory", "Correct cwd, or make the directory"),
]


@pytest.mark.parametrize(
    ("transport", "kind", "what", "fix"),
    [
        *(pytest.param("stdio", *case, id=case[0]) for case in UNSTARTABLE),
        # With fd34 a shell becomes the program, and says itself what is wrong with the file's content.
        *(
            pytest.param("fd34", *case, id=f"{case[0]}, fd34")
            for case in UNSTARTABLE
            if case[0] not in ("no program", "no interpreter")
        ),
    ],
)
async def test_a_program_that_cannot_be_started(transport: str, kind: str, what: str, fix: str, tmp_path: Path) -> None:
    command, cwd = _unstartable(kind, tmp_path)
    async with scene(command, transport=transport, cwd=cwd) as seen:
        (death,) = await seen.until("died")
        verdict = death["verdict"]
        assert (verdict["cause"], verdict["pid"], verdict["status"]) == ("spawn", None, None)
        await seen.until("gave_up")
        error = await outcome(seen.call("echo", 1))
        assert type(error) is ServiceDown
        assert f"service faulty is down: failed to start child faulty/0: cannot start {command[0]!r}" in str(error)
        assert what in str(error)
        assert fix in str(error)
        assert seen.replica()["restarts"] == 0
