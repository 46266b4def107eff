"""Streamed arguments: taken from the caller as the worker takes them, closed once, and both directions at once."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
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
    ServiceDown,
    UnknownMethod,
    UnknownService,
    WorkerCrashed,
    WorkerError,
)
from tests.workers import marks, program, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

INPUTS = """
@worker.method
def plain(x):
    return x

@worker.method(input=True)
def total(items, start=0):
    for item in items:
        start += item
    return start

@worker.method(input=True)
def lengths(items):
    return [len(item) for item in items]

@worker.method(input=True)
def echo(items):
    for item in items:
        yield item

@worker.method(input=True, idempotent=True)
def first(items, n):
    if not n:
        return []
    taken = []
    for item in items:
        taken.append(item)
        if len(taken) == n:
            return taken

@worker.method(input=True)
def raises(items):
    for item in items:
        raise ValueError(f"not {item}")

@worker.method(input=True)
def tells(items, place):
    # Tells how it ended.
    try:
        for item in items:
            mark(place + "/took", repr(item))
    except BaseException as error:
        mark(place + "/ended", f"{type(error).__name__}: {getattr(error, 'code', '')}")
        raise
    mark(place + "/ended", "complete")
    return "complete"

@worker.method(input=True)
def slowly(items, place):
    # Takes an item for each file that there is.
    for number, item in enumerate(items):
        mark(place + "/took", str(number))
        wait_for(f"{place}/go-{number}", lambda: current().cancelled)
    return number + 1

@worker.method(input=True, idempotent=True)
def dies(items, n):
    for number, item in enumerate(items):
        if number == n:
            os.kill(os.getpid(), signal.SIGKILL)

@worker.method(input=True, idempotent=True)
def dies_at_first(items, place):
    mark(place + "/tries")
    if len(open(place + "/tries").read()) < 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return sum(items)

@worker.method(input=True)
def again(items):
    return [list(items), list(items), next(items, "over")]
"""

ASYNC_INPUTS = (
    INPUTS.replace("\ndef ", "\nasync def ")
    .replace("for item in items:\n", "async for item in items:\n")
    .replace("[len(item) for item in items]", "[len(item) async for item in items]")
    .replace(
        "    for number, item in enumerate(items):\n",
        "    number = -1\n    async for item in items:\n        number += 1\n",
    )
    .replace("    wait_for(f", "    await asyncio.to_thread(wait_for, f")
    .replace("return sum(items)", "return sum([item async for item in items])")
    .replace(
        "[list(items), list(items), next(items, ",
        "[[i async for i in items], [i async for i in items], await anext(items, ",
    )
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def orch(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Orchestrator]:
    """The same methods for plain and for async handlers."""
    place = tmp_path_factory.mktemp("programs")
    async with Orchestrator(
        {
            "plain": ServiceConfig(command=program(place, INPUTS, "plain"), timeout=10),
            "async": ServiceConfig(command=program(place, ASYNC_INPUTS, "async_"), timeout=10),
        }
    ) as orchestrator:
        yield orchestrator


both = pytest.mark.parametrize("service", ["plain", "async"])
either = pytest.mark.parametrize("kind", ["plain", "async"])


class Source:
    """Numbers from 0, as an iterator of either kind, that counts what is taken of it and how often it is closed."""

    def __init__(self, count: float = float("inf"), error: BaseException | None = None, size: int = 0) -> None:
        self.count, self.error, self.size = count, error, size
        self.taken = 0
        self.closed = 0

    def __next__(self) -> Any:
        if self.taken >= self.count:
            if self.error is not None:
                raise self.error
            raise StopIteration
        self.taken += 1
        return bytes(self.size) if self.size else self.taken - 1

    def of(self, kind: str) -> Plain | Async:
        """An iterator of it."""
        return Plain(self) if kind == "plain" else Async(self)


class Plain:
    def __init__(self, source: Source) -> None:
        self.source = source

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return next(self.source)

    def close(self) -> None:
        self.source.closed += 1


class Async:
    def __init__(self, source: Source) -> None:
        self.source = source

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        try:
            return next(self.source)
        except StopIteration:
            raise StopAsyncIteration from None

    async def aclose(self) -> None:
        self.source.closed += 1


async def read(stream: AsyncIterator[Any], items: list[Any]) -> None:
    """Reads it to its end."""
    async for item in stream:
        items.append(item)


async def closed_once(source: Source) -> None:
    await until(lambda: source.closed, "the iterator was closed")
    await asyncio.sleep(0)
    assert source.closed == 1


def has(path: Path) -> Callable[[], bool]:
    return lambda: bool(marks(path))


@both
@either
@pytest.mark.parametrize("count", [0, 1, 33, 1000])
async def test_the_items_in_order(orch: Orchestrator, service: str, kind: str, count: int) -> None:
    source = Source(count)
    assert await orch.call(f"{service}.first", 10**9, input=source.of(kind)) is None
    assert source.taken == count
    await closed_once(source)
    source = Source(count)
    assert await orch.call(f"{service}.total", 5, input=source.of(kind)) == 5 + sum(range(count))
    assert [item async for item in orch.stream(f"{service}.echo", input=Source(count).of(kind))] == list(range(count))


@both
async def test_any_iterable_will_do(orch: Orchestrator, service: str, tmp_path: Path) -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(100):
            yield number

    for items in (range(100), list(range(100)), dict.fromkeys(range(100)), (n for n in range(100)), numbers()):
        assert await orch.call(f"{service}.total", input=items) == 4950
    assert await orch.call(f"{service}.again", input=[1, 2]) == [[1, 2], [], "over"]
    text = tmp_path / "lines"
    text.write_text("a\nbb\n")
    with text.open() as lines:
        assert await orch.call(f"{service}.lengths", input=lines) == [2, 3]
        assert not lines.closed
    with pytest.raises(TypeError, match="input is an iterable or an async iterable, not 7"):
        orch.call(f"{service}.total", input=7)  # type: ignore[arg-type]


@both
async def test_several_at_once(orch: Orchestrator, service: str) -> None:
    calls = [orch.call(f"{service}.total", input=Source(100 + n).of("async")) for n in range(10)]
    assert await asyncio.gather(*calls) == [sum(range(100 + n)) for n in range(10)]


@both
@either
async def test_both_directions_at_once(orch: Orchestrator, service: str, kind: str) -> None:
    source = Source()
    async with orch.stream(f"{service}.echo", input=source.of(kind)) as stream:
        for number in range(500):
            assert await anext(stream) == number
            # What waits here, in the worker and in its hands.
            assert source.taken <= number + 32 + 32 + 3
    await closed_once(source)


@both
async def test_a_stream_may_be_the_input_of_another(orch: Orchestrator, service: str) -> None:
    inner = orch.stream(f"{service}.echo", input=range(200)) if service == "async" else None
    other = "plain" if service == "async" else "async"
    inner = inner or orch.stream(f"{service}.echo", input=range(200))
    assert await orch.call(f"{other}.total", input=inner) == sum(range(200))


@both
@either
async def test_a_slow_worker_holds_the_caller(orch: Orchestrator, service: str, kind: str, tmp_path: Path) -> None:
    source = Source(100)
    call = orch.call(f"{service}.slowly", str(tmp_path), input=source.of(kind))
    for number in range(10):
        await until(lambda number=number: len(marks(tmp_path / "took")) > number, "it took the item")  # type: ignore[misc]
        for _ in range(5):
            await asyncio.sleep(0)
        assert source.taken <= number + 1 + 32
        (tmp_path / f"go-{number}").touch()
    call.cancel()
    await closed_once(source)
    assert source.taken <= 11 + 32


@both
@either
async def test_large_items_are_few(orch: Orchestrator, service: str, kind: str, tmp_path: Path) -> None:
    """What waits in the worker stays within 8 MiB, and what waits here is one item."""
    source = Source(100, size=3 * 2**20)
    call = orch.call(f"{service}.slowly", str(tmp_path), input=source.of(kind))
    for number in range(4):
        await until(lambda number=number: len(marks(tmp_path / "took")) > number, "it took the item")  # type: ignore[misc]
        (tmp_path / f"go-{number}").touch()
    await until(lambda: len(marks(tmp_path / "took")) == 5, "it took one more")
    assert await orch.call("plain.plain" if service == "async" else "async.plain", 1) == 1
    assert source.taken <= 5 + 3
    call.cancel()
    await closed_once(source)


# How it ends.


@both
@either
async def test_the_exception_of_the_iterator_reaches_the_caller(
    orch: Orchestrator, service: str, kind: str, tmp_path: Path
) -> None:
    for error in (asyncio.CancelledError("mine"), KeyError("mine")):
        place = tmp_path / type(error).__name__
        place.mkdir()
        source = Source(5, error)
        with pytest.raises(type(error)) as caught:
            await orch.call(f"{service}.tells", str(place), input=source.of(kind))
        assert caught.value is error
        await until(has(place / "ended"), "the handler heard of it")
        assert marks(place / "ended") == ["Cancelled: cancelled" if service == "plain" else "CancelledError: "]
        await closed_once(source)
    source = Source(5, error)
    stream = orch.stream(f"{service}.echo", input=source.of(kind))
    items: list[Any] = []
    with pytest.raises(KeyError) as caught_by_stream:
        await read(stream, items)
    assert caught_by_stream.value is error
    assert items == list(range(len(items)))
    await closed_once(source)
    if kind == "plain":
        source = Source(5, StopAsyncIteration())
        with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
            await read(orch.stream(f"{service}.echo", input=source.of(kind)), items)


@both
@either
@pytest.mark.parametrize("wanted", [0, 1, 40])
async def test_an_early_answer_is_the_answer(orch: Orchestrator, service: str, kind: str, wanted: int) -> None:
    source = Source()
    assert await orch.call(f"{service}.first", wanted, input=source.of(kind)) == list(range(wanted))
    await closed_once(source)
    assert source.taken <= wanted + 32
    assert await orch.call(f"{service}.plain", 1) == 1


@both
@either
async def test_a_handler_that_raises(orch: Orchestrator, service: str, kind: str) -> None:
    source = Source()
    with pytest.raises(WorkerError, match="not 0"):
        await orch.call(f"{service}.raises", input=source.of(kind))
    await closed_once(source)


@both
@either
async def test_a_cancelled_call(orch: Orchestrator, service: str, kind: str, tmp_path: Path) -> None:
    source = Source(3)
    never = asyncio.Event()

    async def stalls() -> AsyncIterator[int]:
        try:
            for number in range(3):
                yield number
            await never.wait()
        finally:
            source.closed += 1

    if kind == "async":
        call = orch.call(f"{service}.tells", str(tmp_path), input=stalls())
        await until(lambda: len(marks(tmp_path / "took")) == 3, "it took what there was")
    else:
        source = Source()
        call = orch.call(f"{service}.tells", str(tmp_path), input=source.of(kind))
        await until(has(tmp_path / "took"), "it began")
    call.cancel()
    await until(has(tmp_path / "ended"), "the handler heard of it")
    assert marks(tmp_path / "ended") == ["Cancelled: cancelled" if service == "plain" else "CancelledError: "]
    await closed_once(source)
    assert await orch.call(f"{service}.plain", 1) == 1


@either
async def test_a_cancel_and_the_first_credit_in_the_same_turn_of_the_loop(
    orch: Orchestrator, kind: str, tmp_path: Path
) -> None:
    for _ in range(20):
        source = Source()
        call = orch.call("plain.tells", str(tmp_path), input=source.of(kind))
        time.sleep(0.003)  # the loop is kept busy, so that the credit is there when it looks again
        await asyncio.sleep(0)
        call.cancel()
        await closed_once(source)
        assert await orch.call("plain.plain", 1) == 1


@both
async def test_a_deadline_while_items_are_waited_for(orch: Orchestrator, service: str, tmp_path: Path) -> None:
    closed = []

    async def stalls() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.Event().wait()
        finally:
            closed.append(1)

    with pytest.raises(DeadlineExceeded):
        await orch.call(f"{service}.tells", str(tmp_path), input=stalls(), timeout=0.2)
    await until(has(tmp_path / "ended"), "the handler heard of it")
    (ended,) = marks(tmp_path / "ended")
    if service == "plain":
        # By its own clock, or because it was told.
        assert ended in ("Failure: deadline_exceeded", "Cancelled: cancelled")
    else:
        assert ended == "CancelledError: "
    await until(lambda: closed == [1], "the iterator was closed")
    assert await orch.call(f"{service}.plain", 1) == 1


async def test_a_plain_handler_keeps_to_the_deadline_by_itself(orch: Orchestrator, tmp_path: Path) -> None:
    """Also when nobody tells it: the caller's loop is busy."""

    async def stalls() -> AsyncIterator[int]:
        yield 1
        await asyncio.Event().wait()

    call = orch.call("plain.tells", str(tmp_path), input=stalls(), timeout=0.3)
    await until(has(tmp_path / "took"), "it began")
    while not marks(tmp_path / "ended"):
        pass
    assert marks(tmp_path / "ended") == ["Failure: deadline_exceeded"]
    with pytest.raises(DeadlineExceeded):
        await call


@both
@either
@pytest.mark.parametrize("after", [0, 5])
async def test_a_worker_that_dies(service: str, kind: str, after: int, tmp_path: Path) -> None:
    """It is not asked again, though the method is idempotent: the items are gone."""
    body = INPUTS if service == "plain" else ASYNC_INPUTS
    async with Orchestrator({"w": ServiceConfig(command=program(tmp_path, body, "w"), retries=3)}) as orch:
        source = Source()
        with pytest.raises(WorkerCrashed):
            await orch.call("w.dies", after, input=source.of(kind))
        await closed_once(source)
        assert source.taken <= after + 1 + 32
        # Where no item was taken, nothing is lost, and it is.
        assert await orch.call("w.dies_at_first", str(tmp_path), input=Source(5).of(kind)) == 10
        assert len(marks(tmp_path / "tries")) == 2


@both
async def test_the_stop_lets_it_finish(service: str, tmp_path: Path) -> None:
    body = INPUTS if service == "plain" else ASYNC_INPUTS
    async with Orchestrator({"w": ServiceConfig(command=program(tmp_path, body, "w"))}) as orch:
        stopping = asyncio.Event()

        async def numbers() -> AsyncIterator[int]:
            yield 1
            await stopping.wait()
            for number in range(2, 101):
                yield number

        call = orch.call("w.total", input=numbers())
        await until(lambda: orch.status()["services"]["w"]["replicas"][0]["in_flight"], "it was sent")
        end = asyncio.create_task(orch.stop())
        await until(lambda: orch.status()["state"] == "stopping", "it is being stopped")
        stopping.set()
        assert await call == 5050
        await end


# What cannot be.


@both
@either
async def test_what_cannot_be_called(orch: Orchestrator, service: str, kind: str) -> None:
    for target, params, error, told in (
        (f"{service}.plain", (1,), InvalidArgument, f"{service}.plain takes no streamed argument"),
        (f"{service}.nothing", (), UnknownMethod, "has no method"),
        (f"{service}.total", (object(),), InvalidArgument, "the arguments of"),
        ("nobody.total", (), UnknownService, "nobody"),
    ):
        source = Source()
        with pytest.raises(error, match=told):
            await orch.call(target, *params, input=source.of(kind))
        await closed_once(source)
        source = Source()
        with pytest.raises(CallError):
            await anext(orch.stream(target, *params, input=source.of(kind)))
        await closed_once(source)
        assert source.taken == 0
    with pytest.raises(InvalidArgument, match=r"total takes a streamed argument: give it one with input="):
        await orch.call(f"{service}.total")
    with pytest.raises(InvalidArgument, match="takes a streamed argument"):
        await orch.map(f"{service}.total", [1, 2])
    with pytest.raises(UnknownMethod, match="total does not stream"):
        await anext(orch.stream(f"{service}.total", input=[1]))


@both
@either
async def test_an_item_that_cannot_be_sent(orch: Orchestrator, service: str, kind: str) -> None:
    async def items() -> AsyncIterator[Any]:
        yield 1
        yield object()

    text = rf"item 1 of the streamed argument of {service}\.total cannot be sent"
    with pytest.raises(InvalidArgument, match=text):
        await orch.call(f"{service}.total", input=items() if kind == "async" else [1, object()])
    assert await orch.call(f"{service}.plain", 1) == 1


BARE = """
import struct, sys, os, msgpack
def read(n):
    data = b""
    while len(data) < n:
        piece = os.read(0, n - len(data))
        if not piece:
            sys.exit(0)
        data += piece
    return data
while True:
    kind, number, method, params = msgpack.unpackb(read(struct.unpack(">I", read(4))[0]))[:4]
    error = {"code": "unimplemented", "message": "no"} if method == "$/hello" else None
    body = msgpack.packb([1, number, error, None if error else params])
    os.write(1, struct.pack(">I", len(body)) + body)
"""


async def test_a_worker_without_the_feature(tmp_path: Path) -> None:
    path = tmp_path / "bare.py"
    path.write_text(BARE)
    command = [*program(tmp_path, "", "unused")[:1], str(path)]
    async with Orchestrator({"bare": ServiceConfig(command=command)}) as orch:
        assert await orch.call("bare.f", 1) == [1]
        source = Source()
        with pytest.raises(UnknownMethod, match=r"bare\.f cannot be given a streamed argument .* feature input"):
            await orch.call("bare.f", 1, input=source.of("async"))
        await closed_once(source)


GENEROUS = """
import struct, sys, os, time, msgpack
def read(n):
    data = b""
    while len(data) < n:
        piece = os.read(0, n - len(data))
        if not piece:
            sys.exit(0)
        data += piece
    return data
def receive():
    return msgpack.unpackb(read(struct.unpack(">I", read(4))[0]))
def send(message):
    body = msgpack.packb(message)
    os.write(1, struct.pack(">I", len(body)) + body)
send([1, receive()[1], None, {"protocol": 1, "features": ["input"]}])
number = receive()[1]
send([2, "$/input_credit", [number, 100000]])
while not os.path.exists(sys.argv[1]):
    time.sleep(0.01)
count = 0
while receive()[1] == "$/input":
    count += 1
send([1, number, None, count])
read(1)
"""


@either
async def test_a_worker_that_promises_more_than_it_reads(kind: str, tmp_path: Path) -> None:
    """Credit for 100,000 items and a pipe that nobody empties: what waits here is bounded all the same."""
    path = tmp_path / "generous.py"
    path.write_text(GENEROUS)
    command = [*program(tmp_path, "", "unused")[:1], str(path), str(tmp_path / "go-on")]
    async with Orchestrator({"w": ServiceConfig(command=command)}) as orch:
        source = Source(100, size=2**20)
        call = orch.call("w.takes", input=source.of(kind))
        await until(lambda: source.taken >= 2, "items are on their way")
        for _ in range(300):
            await asyncio.sleep(0)
        # In the pipe, which may be large, and here.
        assert source.taken <= 4
        (tmp_path / "go-on").touch()
        assert await call == 100
        await closed_once(source)


async def test_calls_that_never_left_close_their_iterators_too(tmp_path: Path) -> None:
    async with Orchestrator({"w": ServiceConfig(command=program(tmp_path, INPUTS, "w"), queue=1)}) as orch:
        going = Source()
        call = orch.call("w.slowly", str(tmp_path), input=going.of("async"))
        await until(has(tmp_path / "took"), "it began")
        waiting = [Source() for _ in range(200)]
        calls = [orch.call("w.total", input=source.of("plain")) for source in waiting]
        for each in calls:
            each.cancel()
        for source in waiting:
            await closed_once(source)
            assert source.taken == 0
        os.kill(orch.status()["services"]["w"]["replicas"][0]["pid"], signal.SIGKILL)
        with pytest.raises(WorkerCrashed):
            await call
        await closed_once(going)
        late = Source()
        await orch.stop()
    assert issubclass(ServiceDown, CallError)
    assert late.taken == 0
