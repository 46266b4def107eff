"""Streamed answers: item by item, within credit, ended from either side."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
from collections.abc import AsyncIterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mlports import (
    CallError,
    DeadlineExceeded,
    InvalidArgument,
    Orchestrator,
    ServiceConfig,
    UnknownMethod,
    UnknownService,
    WorkerCrashed,
    WorkerError,
)
from tests.workers import marks, program, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

TICKS = """
@worker.method
def echo(x):
    return x

@worker.method
def count(n):
    for number in range(n):
        yield number
    return "what a generator returns is not an item"

@worker.method
def watched(place, n):
    # Tells how far it has come, before each item.
    try:
        for number in range(n):
            mark(place + "/made", str(number))
            yield number
    except GeneratorExit:
        mark(place + "/ended", "closed")
        raise
    finally:
        mark(place + "/ended", "finally")

@worker.method
def steps(place, n):
    try:
        for number in range(n):
            mark(place + "/made", str(number))
            yield number
            wait_for(place + "/go-on", lambda: current().cancelled)
    finally:
        mark(place + "/ended", "finally")

@worker.method
def breaks(n):
    yield from range(n)
    raise ValueError("no more")

@worker.method
def breaks_at_once():
    raise ValueError("nothing at all")
    yield

@worker.method
def dies(n):
    yield from range(n)
    worker.log("info", "the last words")
    os.kill(os.getpid(), signal.SIGKILL)

@worker.method
def waits(place):
    yield "first"
    wait_for(place + "/go-on", lambda: current().cancelled)
    yield "second"

@worker.method
def unsendable(n):
    yield from range(n)
    yield object()

@worker.method
def bodies(n, size):
    for _ in range(n):
        yield bytes(size)

@worker.method
def relays(target, n):
    for number in range(n):
        yield worker.call(target, number)

@worker.method
def left():
    yield current().deadline
"""

ASYNC_TICKS = (
    TICKS.replace("\ndef ", "\nasync def ")
    .replace("    yield from range(n)\n", "    for number in range(n):\n        yield number\n")
    .replace('    return "what a generator returns is not an item"\n', "")
    .replace("yield worker.call(", "yield await worker.acall(")
    .replace("    wait_for(place", "    await asyncio.to_thread(wait_for, place")
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def orch(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Orchestrator]:
    """The same methods as generators and as async generators, in processes of their own and inline."""
    place = tmp_path_factory.mktemp("programs")
    async with Orchestrator(
        {
            "plain": ServiceConfig(command=program(place, TICKS, "plain"), timeout=10),
            "async": ServiceConfig(command=program(place, ASYNC_TICKS, "async_"), timeout=10),
            "inline": ServiceConfig(command=program(place, TICKS, "inline"), timeout=10, transport="inline"),
            "inline-async": ServiceConfig(
                command=program(place, ASYNC_TICKS, "inline_async"), timeout=10, transport="inline"
            ),
            "other": ServiceConfig(command=program(place, TICKS, "other")),
        }
    ) as orchestrator:
        yield orchestrator


both = pytest.mark.parametrize("service", ["plain", "async"])
every = pytest.mark.parametrize("service", ["plain", "async", "inline", "inline-async"])


def is_ahead(made: Path, count: int) -> bool:
    """Whether a `watched` generator has made so many items."""
    return len(marks(made)) >= count


async def leaves(stream: AsyncIterator[Any], *, broken: bool) -> None:
    """Reads five items, and leaves the loop by a `break` or an error."""
    async for item in stream:
        if item == 5:
            if broken:
                raise ZeroDivisionError
            break


async def taken(stream: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in stream]


async def taken_and_failed(stream: AsyncIterator[Any]) -> tuple[list[Any], CallError]:
    """The items that came, and the error that ended them."""
    items = []
    try:
        async for item in stream:
            items.append(item)
    except CallError as error:
        return items, error
    raise AssertionError(f"no error came after {items}")


@every
@pytest.mark.parametrize("count", [0, 1, 31, 32, 33, 1000])
async def test_the_items_in_order(orch: Orchestrator, service: str, count: int) -> None:
    assert await taken(orch.stream(f"{service}.count", count)) == list(range(count))


@every
async def test_several_streams_at_once(orch: Orchestrator, service: str) -> None:
    streams = [taken(orch.stream(f"{service}.count", 100 + n)) for n in range(10)]
    assert await asyncio.gather(*streams) == [list(range(100 + n)) for n in range(10)]


@every
async def test_large_items(orch: Orchestrator, service: str) -> None:
    sizes = [len(body) async for body in orch.stream(f"{service}.bodies", 60, 300_000)]
    assert sizes == [300_000] * 60


@every
async def test_a_reader_that_stops_holds_the_worker(orch: Orchestrator, service: str, tmp_path: Path) -> None:
    stream = orch.stream(f"{service}.watched", str(tmp_path), 1000)
    made = tmp_path / "made"
    read = 0
    for stop in (1, 10, 50, 200):
        while read < stop:
            assert await anext(stream) == read
            read += 1
        # The 32 that it may be ahead, and the one in its hand for which there is no credit.
        await until(partial(is_ahead, made, read + 16), "the worker is ahead")
        for _ in range(20):
            assert await orch.call("other.echo", 1) == 1
        assert len(marks(made)) <= read + 32 + 1
    assert [item async for item in stream] == list(range(200, 1000))
    await until(lambda: marks(tmp_path / "ended") == ["finally"], "it ended by itself")


@every
@pytest.mark.parametrize("how", ["break", "aclose", "with", "cancel", "error"])
async def test_leaving_early_ends_the_generator(orch: Orchestrator, service: str, how: str, tmp_path: Path) -> None:
    stream = orch.stream(f"{service}.watched", str(tmp_path), 1_000_000)
    if how == "aclose":
        assert await anext(stream) == 0
        await stream.aclose()
        await stream.aclose()
        assert await taken(stream) == []
    elif how == "with":
        async with stream as items:
            assert await anext(items) == 0
        assert await taken(stream) == []
    elif how == "cancel":
        assert await anext(stream) == 0
        reading = asyncio.create_task(taken(stream))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await taken(stream) == []
    else:
        del stream
        with suppress(ZeroDivisionError):
            await leaves(orch.stream(f"{service}.watched", str(tmp_path), 1_000_000), broken=how == "error")
    await until(lambda: "finally" in marks(tmp_path / "ended"), "the generator's finally ran")
    assert await orch.call(f"{service}.echo", 1) == 1


@pytest.mark.parametrize("how", ["forgotten", "left", "cancelled before it could begin"])
async def test_a_stream_that_nobody_reads_is_ended(orch: Orchestrator, how: str, tmp_path: Path) -> None:
    if how == "left":
        async with orch.stream("plain.watched", str(tmp_path), 1000):
            await until((tmp_path / "made").exists, "it began")
    else:
        stream = orch.stream("plain.watched", str(tmp_path), 1000)
        await until((tmp_path / "made").exists, "it began")
        if how != "forgotten":
            reading = asyncio.create_task(taken(stream))
            reading.cancel()
            await asyncio.wait([reading])
            del reading
        del stream
    await until(lambda: "finally" in marks(tmp_path / "ended"), "the generator's finally ran")


@both  # the inline one's loop would keep a thread for what waits
async def test_a_generator_that_is_in_the_midst_of_something(orch: Orchestrator, service: str, tmp_path: Path) -> None:
    async with orch.stream(f"{service}.waits", str(tmp_path)) as stream:
        assert await anext(stream) == "first"
    assert await orch.call(f"{service}.echo", 1) == 1


@both
async def test_a_generator_is_closed_within_one_item(orch: Orchestrator, service: str, tmp_path: Path) -> None:
    stream = orch.stream(f"{service}.steps", str(tmp_path), 1000)
    assert await anext(stream) == 0
    await stream.aclose()
    await until(lambda: marks(tmp_path / "ended") == ["finally"], "the generator's finally ran")
    assert len(marks(tmp_path / "made")) <= 2


@both
async def test_a_reader_that_stops_holds_large_items_too(orch: Orchestrator, service: str) -> None:
    """Of 3 MiB each: what waits stays about 8 MiB."""
    stream = orch.stream(f"{service}.bodies", 100, 3 * 2**20)
    assert len(await anext(stream)) == 3 * 2**20
    await until(lambda: len(stream._items.waiting) >= 2, "the worker is ahead")
    for _ in range(20):
        assert await orch.call("other.echo", 1) == 1
    assert sum(size for _, size in stream._items.waiting) <= 9.1 * 2**20
    await stream.aclose()


# Errors.


@every
@pytest.mark.parametrize("count", [0, 1, 100])
async def test_an_error_comes_after_the_items_before_it(orch: Orchestrator, service: str, count: int) -> None:
    stream = orch.stream(f"{service}.breaks", count)
    items, error = await taken_and_failed(stream)
    assert items == list(range(count))
    assert type(error) is WorkerError
    assert (error.remote_type, str(error)) == ("ValueError", f"{service}.breaks: ValueError: no more")
    # It is raised once.
    assert await taken(stream) == []


@every
async def test_an_error_before_the_first_item(orch: Orchestrator, service: str) -> None:
    items, error = await taken_and_failed(orch.stream(f"{service}.breaks_at_once"))
    assert items == []
    assert "nothing at all" in str(error)


@every
async def test_an_item_that_cannot_be_sent(orch: Orchestrator, service: str) -> None:
    items, error = await taken_and_failed(orch.stream(f"{service}.unsendable", 3))
    assert items == [0, 1, 2]
    assert type(error) is WorkerError
    assert "cannot be sent" in str(error)
    assert await orch.call(f"{service}.echo", 1) == 1


async def test_what_cannot_be_called(orch: Orchestrator) -> None:
    for stream, kind in (
        (orch.stream("nobody.count", 3), UnknownService),
        (orch.stream("plain.nothing", 3), UnknownMethod),
        (orch.stream("plain.count", object()), InvalidArgument),
        (orch.stream("plain.count", 1, 2, 3), InvalidArgument),
        (orch.stream("async.count"), InvalidArgument),
    ):
        items, error = await taken_and_failed(stream)
        assert (items, type(error)) == ([], kind)


async def test_an_error_that_nobody_looks_at_is_no_trouble(orch: Orchestrator) -> None:
    """Whoever leaves early does not want to hear of it."""
    troubles: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: troubles.append(context))
    stream = orch.stream("plain.breaks", 3)
    assert await anext(stream) == 0
    assert await orch.call("plain.echo", 1) == 1  # by now the error is here
    await stream.aclose()
    del stream
    orch.stream("nobody.count")
    assert await orch.call("plain.echo", 1) == 1
    gc.collect()
    loop.set_exception_handler(None)
    assert not troubles


@both
async def test_a_crash_is_one_error_after_the_items(tmp_path: Path, service: str) -> None:
    source = TICKS if service == "plain" else ASYNC_TICKS
    async with Orchestrator({"ticks": ServiceConfig(command=program(tmp_path, source, "ticks"))}) as orch:
        stream = orch.stream("ticks.dies", 20)
        items, error = await taken_and_failed(stream)
        assert type(error) is WorkerCrashed
        assert error.verdict is not None
        assert error.verdict.name == "SIGKILL"
        # Those that it had not written yet went with it.
        assert items == list(range(len(items)))
        assert len(items) <= 20
        assert await taken(stream) == []
        assert await taken(orch.stream("ticks.count", 5)) == list(range(5))


async def test_items_that_had_arrived_are_not_lost_in_a_crash(tmp_path: Path) -> None:
    async with Orchestrator({"ticks": ServiceConfig(command=program(tmp_path, TICKS, "ticks"))}) as orch:
        stream = orch.stream("ticks.watched", str(tmp_path), 1000)
        await until(lambda: len(marks(tmp_path / "made")) == 33, "it has used its credit up")
        os.kill(orch.status()["services"]["ticks"]["replicas"][0]["pid"], signal.SIGKILL)
        await until(lambda: orch.status()["services"]["ticks"]["replicas"][0]["restarts"] == 1, "it was restarted")
        items, error = await taken_and_failed(stream)
        assert items == list(range(32))
        assert type(error) is WorkerCrashed


# Streams and calls.


@every
async def test_a_call_of_a_stream_method_gives_the_list(orch: Orchestrator, service: str) -> None:
    assert await orch.call(f"{service}.count", 100) == list(range(100))
    with pytest.raises(WorkerError, match="no more"):
        await orch.call(f"{service}.breaks", 3)
    calls = [orch.call(f"{service}.count", n) for n in range(50)]
    assert await asyncio.gather(*calls) == [list(range(n)) for n in range(50)]


@every
async def test_a_stream_of_a_plain_method_is_refused(orch: Orchestrator, service: str) -> None:
    with pytest.raises(UnknownMethod, match=r"echo does not stream: it is called, and answers once"):
        await anext(orch.stream(f"{service}.echo", 1))
    assert await orch.call(f"{service}.echo", 1) == 1


@every
async def test_a_stream_may_call_others(orch: Orchestrator, service: str) -> None:
    assert await taken(orch.stream(f"{service}.relays", "other.echo", 100)) == list(range(100))


async def test_calls_wait_behind_a_plain_stream_and_are_answered_after_it(orch: Orchestrator) -> None:
    stream = orch.stream("plain.count", 500)
    assert await anext(stream) == 0
    call = orch.call("plain.echo", "after")
    assert await taken(stream) == list(range(1, 500))
    assert await call == "after"


async def test_calls_are_answered_beside_an_async_stream(orch: Orchestrator) -> None:
    async with orch.stream("async.count", 500) as stream:
        assert await anext(stream) == 0
        assert await orch.call("async.echo", "meanwhile", timeout=5) == "meanwhile"


# Timeouts.


@both  # the inline one's loop would keep a thread for what waits
async def test_a_timeout(orch: Orchestrator, service: str, tmp_path: Path) -> None:
    items, error = await taken_and_failed(orch.stream(f"{service}.waits", str(tmp_path), timeout=0.2))
    assert items == ["first"]
    assert type(error) is DeadlineExceeded
    assert await orch.call(f"{service}.echo", 1) == 1


@every
async def test_no_timeout_unless_one_is_given(orch: Orchestrator, service: str) -> None:
    assert await taken(orch.stream(f"{service}.left")) == [None]
    (left,) = await taken(orch.stream(f"{service}.left", timeout=5))
    assert 4 < left <= 5
