"""Calls that handlers make: they end with the call that they are made for, and circles of them are told."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from mlports import BatchConfig, CallError, DeadlineExceeded, ServiceConfig
from tests.services import dispatcher_of, failure, outcomes, running
from tests.workers import marks, program, until

PLAIN = """
@worker.method
def via(targets, *params):
    return worker.call(targets[0], targets[1:], *params) if len(targets) > 1 else worker.call(targets[0], *params)

@worker.method
def echo(x):
    return x

@worker.method
def left(*_):
    return current().deadline

@worker.method
def trace(*_):
    return current().meta.get("traceparent")

@worker.method
def hold(place):
    mark(place + "/at-work")
    wait_for(place + "/go-on", lambda: current().cancelled)
    mark(place + "/left", "cancelled" if current().cancelled else "went on")

@worker.method
def calls_when_cancelled(place):
    mark(place + "/at-work")
    wait_for(place + "/never", lambda: current().cancelled)


    def ask():
        try:
            worker.call("inner.note", place + "/noted")
        except CallFailed as error:
            mark(place + "/told", error.code)

    thread = threading.Thread(target=ask)  # it knows of no call that it is cancelled with
    thread.start()
    while thread.is_alive():
        time.sleep(0.001)

@worker.method
def note(path):
    mark(path)
"""

ASYNC = """
@worker.method
async def via(targets, *params):
    way = [targets[1:]] if len(targets) > 1 else []
    return await worker.acall(targets[0], *way, *params)

@worker.method
async def many(target, count):
    return await asyncio.gather(*(worker.acall(target, n / 100) for n in range(count)))

@worker.method
async def nap(seconds):
    await asyncio.sleep(seconds)

@worker.method
async def hold(place):
    mark(place + "/at-work")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        mark(place + "/left", "cancelled")
        raise
"""


def plain(directory: Path, **settings: Any) -> ServiceConfig:
    return ServiceConfig(command=program(directory, PLAIN, "plain"), **settings)


def asynchronous(directory: Path, concurrency: int, **settings: Any) -> ServiceConfig:
    command = program(directory, ASYNC, f"async{concurrency}", concurrency=concurrency)
    return ServiceConfig(command=command, **settings)


def is_circle(error: Any) -> bool:
    """Whether this is, or is made of, a `CallCycle`, as it reaches the first caller through the workers."""
    return isinstance(error, CallError) and "is a circle" in str(error)


@pytest.mark.parametrize("kind", ["cancelled", "expired", "dead"])
async def test_what_a_caller_has_asked_for_ends_with_it(tmp_path: Path, kind: str) -> None:
    async with running(outer=plain(tmp_path), inner=plain(tmp_path)) as orch:
        call = orch.call("outer.via", ["inner.hold"], str(tmp_path), timeout=0.3 if kind == "expired" else None)
        await until(lambda: marks(tmp_path / "at-work"), "the inner one is at work")
        if kind == "cancelled":
            call.cancel()
        elif kind == "dead":
            os.kill(dispatcher_of(orch, "outer").ready[0].port.pid, signal.SIGKILL)
        await until(lambda: marks(tmp_path / "left") == ["cancelled"], "the inner one was told")
        await outcomes([call])


async def test_an_async_handler_is_cancelled_through_two_services(tmp_path: Path) -> None:
    services: dict[str, Any] = {
        "outer": plain(tmp_path),
        "middle": asynchronous(tmp_path, 8),
        "inner": asynchronous(tmp_path, 8),
    }
    async with running(**services) as orch:
        call = orch.call("outer.via", ["middle.via", "inner.hold"], str(tmp_path))
        await until(lambda: marks(tmp_path / "at-work"), "the inner one is at work")
        call.cancel()
        await until(lambda: marks(tmp_path / "left") == ["cancelled"], "the inner one was told")


async def test_one_that_was_given_up_can_ask_for_nothing_more(tmp_path: Path) -> None:
    async with running(outer=plain(tmp_path), inner=plain(tmp_path)) as orch:
        call = orch.call("outer.calls_when_cancelled", str(tmp_path))
        await until(lambda: marks(tmp_path / "at-work"), "it is at work")
        call.cancel()
        await until(lambda: marks(tmp_path / "told"), "it was refused")
        assert marks(tmp_path / "told") == ["cancelled"]
        assert marks(tmp_path / "noted") == []


async def test_deadlines_are_inherited(tmp_path: Path) -> None:
    async with running(outer=plain(tmp_path), inner=plain(tmp_path, timeout=None)) as orch:
        left = await orch.call("outer.via", ["inner.left"], timeout=5)
        assert 0 < left <= 5
        error = await failure(orch.call("outer.via", ["inner.hold"], str(tmp_path), timeout=0.2))
        assert isinstance(error, DeadlineExceeded)


async def test_a_trace_is_passed_on_from_end_to_end(tmp_path: Path) -> None:
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    services: dict[str, Any] = {"outer": plain(tmp_path), "middle": asynchronous(tmp_path, 4), "inner": plain(tmp_path)}
    async with running(**services) as orch:
        way = ["middle.via", "inner.trace"]
        assert await orch.call("outer.via", way, trace=trace) == trace
        assert await orch.call("outer.via", way) is None


@pytest.mark.parametrize("way", [["a.via", "b.via", "a.echo"], ["a.via", "a.echo"], ["a.via", "b.via", "b.echo"]])
async def test_a_circle_of_plain_workers_is_told(tmp_path: Path, way: list[str]) -> None:
    async with running(a=plain(tmp_path, timeout=None), b=plain(tmp_path, timeout=None)) as orch:
        began = time.monotonic()
        assert is_circle(await failure(orch.call(way[0], way[1:], 1)))
        assert time.monotonic() - began < 5
        assert await orch.call("a.echo", 1) == 1


async def test_a_circle_of_async_workers_that_are_all_busy_is_told(tmp_path: Path) -> None:
    async with running(a=asynchronous(tmp_path, 4, timeout=None)) as orch:
        way = ["a.nap"]
        results = await asyncio.wait_for(outcomes([orch.call("a.via", way, 0.001) for _ in range(12)]), 10)
        assert any(is_circle(result) for result in results)
        assert all(result is None or is_circle(result) for result in results)
        assert await orch.call("a.nap", 0) is None


async def test_there_is_no_circle_where_another_replica_is_free(tmp_path: Path) -> None:
    async with running(a=plain(tmp_path, replicas=2), b=plain(tmp_path)) as orch:
        for _ in range(3):
            assert await orch.call("a.via", ["b.via", "a.echo"], 1) == 1


async def test_there_is_no_circle_while_a_replica_comes_back(tmp_path: Path) -> None:
    async with running(a=plain(tmp_path, replicas=2), b=plain(tmp_path)) as orch:
        os.kill(dispatcher_of(orch, "a").ready[0].port.pid, signal.SIGKILL)
        await until(lambda: len(dispatcher_of(orch, "a").ready) == 1, "one is left")
        assert await orch.call("a.via", ["b.via", "a.echo"], 1) == 1


async def test_many_calls_that_travel_together_are_no_circle(tmp_path: Path) -> None:
    """One request carries the calls of several handlers, or several of one."""
    services: dict[str, Any] = {
        "outer": plain(tmp_path, replicas=3),
        "middle": asynchronous(tmp_path, 1),
        "inner": asynchronous(tmp_path, 1, batch=BatchConfig(max_size=8)),
    }
    async with running(**services) as orch:
        await asyncio.gather(*(orch.call("inner.nap", 0) for _ in range(500)))  # quick ones, that are packed
        calls = [orch.call("outer.via", ["middle.many"], "inner.nap", 6) for _ in range(1)]
        calls += [orch.call("outer.via", ["middle.nap"], 0.01) for _ in range(4)]
        for result in await outcomes(calls):
            assert not isinstance(result, Exception), result


async def test_under_load_there_are_no_circles_where_there_are_none(tmp_path: Path) -> None:
    services: dict[str, Any] = {
        "a": plain(tmp_path, replicas=2),
        "b": asynchronous(tmp_path, 2, replicas=2),
        "c": plain(tmp_path),
    }
    async with running(**services) as orch:
        ways = [["a.via", "b.via", "c.echo"], ["b.via", "c.echo"], ["a.via", "c.echo"], ["c.echo"]]
        calls: list[asyncio.Future[Any]] = []
        for n in range(400):
            way = ways[n % len(ways)]
            calls.append(orch.call(way[0], *([way[1:]] if len(way) > 1 else []), n))
        assert await asyncio.gather(*calls) == list(range(400))


async def test_a_call_waits_for_another_replica_and_not_in_the_pipe_of_the_one_that_waits_for_it(
    tmp_path: Path,
) -> None:
    async with running(a=plain(tmp_path, replicas=2)) as orch:
        for _ in range(10):  # the first ones take longer
            assert await orch.call("a.via", ["a.echo"], 1) == 1
        busy = orch.call("a.hold", str(tmp_path))
        await until(lambda: marks(tmp_path / "at-work"), "one is busy")
        lane = next(lane for lane in dispatcher_of(orch, "a").ready if lane.window.in_flight)
        await until(lambda: not lane.window.room(time.monotonic()), "it is seen to be busy")
        call = orch.call("a.via", ["a.echo"], 1)
        looks = 0.3  # seconds: some looks for circles pass
        assert not (await asyncio.wait([call], timeout=looks))[0]
        (tmp_path / "go-on").touch()
        assert await asyncio.wait_for(call, 5) == 1
        await busy
