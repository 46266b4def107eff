"""Workers that are killed and go on from their snapshots: what was answered is not lost, in a process or inline."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from mlports import Orchestrator, ServiceConfig, StartFailed, WorkerCrashed
from tests.services import running
from tests.workers import marks, program, until

PLAIN = """
count = 0

@worker.setup
def begin(config):
    mark(config["lives"])

@worker.snapshot
def keep():
    return {"count": count, "ballast": [count] * 5000}

@worker.restore
def take(state):
    global count
    assert set(state["ballast"]) == {state["count"]}
    count = state["count"]

@worker.method
def add(n=1):
    global count
    count += n
    return count

@worker.method(batch=True)
def add_each(ns):
    return [add(n) for n in ns]

@worker.method
def fail():
    add()
    raise ValueError

@worker.method(idempotent=True)
def get():
    return count
"""

ASYNC = (
    PLAIN.replace("def add(", "async def add(")
    .replace("[add(n) for n in ns]", "[None] * len(ns)")
    .replace("    add()\n", "    global count\n    count += 1\n")
)


def service(tmp_path: Path, body: str = PLAIN, every: Any = 1, **more: Any) -> ServiceConfig:
    config = {"lives": str(tmp_path / "lives"), "snapshot": {"dir": str(tmp_path / "state"), "every": every}}
    return ServiceConfig(command=program(tmp_path, body), config=config, retries=0, **more)


def pid_of(orch: Orchestrator) -> int:
    status: Any = orch.status()
    pid: int = status["services"]["counter"]["replicas"][0]["pid"]
    return pid


async def next_life(orch: Orchestrator, tmp_path: Path) -> None:
    """Kills the worker and returns when another has begun."""
    lives = len(marks(tmp_path / "lives"))
    os.kill(pid_of(orch), signal.SIGKILL)
    await until(lambda: len(marks(tmp_path / "lives")) > lives, "the worker began again")


@pytest.mark.parametrize("body", [PLAIN, ASYNC], ids=["plain", "async"])
async def test_what_was_answered_is_there_after_a_kill(tmp_path: Path, body: str) -> None:
    async with running(counter=service(tmp_path, body)) as orch:
        for n in (1, 2, 3):
            assert await orch.call("counter.add") == n
        await next_life(orch, tmp_path)
        assert await orch.call("counter.get") == 3
        with pytest.raises(Exception, match="ValueError"):
            await orch.call("counter.fail")
        await next_life(orch, tmp_path)
        assert await orch.call("counter.get") == 4


async def test_batches_and_casts_are_kept_too(tmp_path: Path) -> None:
    async with running(counter=service(tmp_path)) as orch:
        assert sorted(await orch.map("counter.add_each", [1, 1, 1]))[-1] == 3
        await next_life(orch, tmp_path)
        assert await orch.call("counter.get") == 3
        orch.cast("counter.add", 10)
        assert await orch.call("counter.get") == 13
        await next_life(orch, tmp_path)
        assert await orch.call("counter.get") == 13


async def test_killed_at_any_moment_it_has_all_that_was_answered_and_nothing_torn(tmp_path: Path) -> None:
    """Calls go on while it is killed, four times: the count never goes back behind an answer."""
    answered = asked = 0
    async with running(intensity=10, counter=service(tmp_path)) as orch:

        async def ask() -> None:
            nonlocal answered, asked
            while True:
                asked += 1
                try:
                    answered = await orch.call("counter.add", timeout=20)
                except WorkerCrashed:
                    assert answered <= await orch.call("counter.get", timeout=20) <= asked

        asking = asyncio.create_task(ask())
        for life in range(4):
            enough = answered + 5 + life

            def some_were(enough: int = enough) -> bool:
                return answered >= enough or asking.done()

            await until(some_were, "some calls were answered")
            assert not asking.done(), asking.exception()
            await next_life(orch, tmp_path)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        assert answered <= await orch.call("counter.get") <= asked


@pytest.mark.parametrize("body", [PLAIN, ASYNC], ids=["plain", "async"])
async def test_an_idle_worker_keeps_what_it_did_when_the_time_has_passed(tmp_path: Path, body: str) -> None:
    file = tmp_path / "state" / "counter-0.snapshot"
    async with running(counter=service(tmp_path, body, every="50ms")) as orch:
        assert await orch.call("counter.add") == 1
        await until(file.exists, "a snapshot was taken without another call")
        await next_life(orch, tmp_path)
        assert await orch.call("counter.get") == 1


async def test_a_stop_keeps_everything_and_the_next_start_goes_on(tmp_path: Path) -> None:
    for total in (1, 2, 3):
        async with running(counter=service(tmp_path, every="1h")) as orch:
            assert await orch.call("counter.add") == total


async def test_replicas_have_a_file_each(tmp_path: Path) -> None:
    async with running(counter=service(tmp_path, replicas=2, route="round_robin")) as orch:
        for _ in range(4):
            await orch.call("counter.add")
        assert sorted(os.listdir(tmp_path / "state")) == ["counter-0.snapshot", "counter-1.snapshot"]


async def test_inline_it_is_the_same(tmp_path: Path) -> None:
    for total in (1, 2):
        async with running(counter=service(tmp_path, transport="inline")) as orch:
            assert await orch.call("counter.add") == total


async def test_a_torn_file_is_put_aside_and_said_so(tmp_path: Path) -> None:
    file = tmp_path / "state" / "counter-0.snapshot"
    async with running(counter=service(tmp_path)) as orch:
        await orch.call("counter.add", 5)
    file.write_bytes(file.read_bytes()[:100])
    async with running(counter=service(tmp_path)) as orch:
        assert await orch.call("counter.get") == 0
        assert await orch.call("counter.add") == 1
        assert file.with_name("counter-0.snapshot.damaged").stat().st_size == 100
        told = await anext(event async for event in orch.events(recent=True) if event["event"] == "log")
        assert told["level"] == "error"
        assert "began afresh" in told["text"]


async def test_a_full_disk_fails_no_call_and_the_last_one_that_went_well_counts(tmp_path: Path) -> None:
    """Files of the worker end at 64 KiB: 5,000 small numbers fit, 5,000 large ones do not."""
    limited = service(tmp_path)
    command = ["sh", "-c", 'ulimit -f 32; exec "$@"', "sh", *limited.command]
    async with running(counter=limited.model_copy(update={"command": command})) as orch:
        assert await orch.call("counter.add", 1) == 1
        assert await orch.call("counter.add", 2**40) == 2**40 + 1
        await next_life(orch, tmp_path)
        assert await orch.call("counter.get") == 1


async def test_a_snapshot_that_the_program_cannot_take_ends_it_with_the_reason(tmp_path: Path) -> None:
    async with running(counter=service(tmp_path)) as orch:
        await orch.call("counter.add")
    other = PLAIN.replace('assert set(state["ballast"])', 'raise KeyError("an older program wrote this", state)  #')
    with pytest.raises(StartFailed, match="an older program wrote this"):
        async with running(counter=service(tmp_path, other)):
            pass


async def test_one_hook_without_the_other_is_told(tmp_path: Path) -> None:
    body = PLAIN.replace("@worker.restore\n", "")
    with pytest.raises(StartFailed, match=r"has no @worker\.restore"):
        async with running(counter=service(tmp_path, body)):
            pass
