"""`map`: many items through one method, in order, a bounded number at a time."""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import pytest_asyncio

from mlports import (
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

MATHS = """
groups = []

@worker.method
def square(x):
    return x * x

@worker.method
def root(x):
    if x < 0:
        raise ValueError(f"{x} has no root")
    return x ** 0.5

@worker.method
async def late_square(x):
    await asyncio.sleep(0.001)
    return x * x

@worker.method(batch=True, idempotent=True)
def roots(xs):
    groups.append(len(xs))
    if min(xs) < 0:
        raise ValueError("one of them has no root")
    return [x ** 0.5 for x in xs]

@worker.method(batch=True)
def roots_once(xs):
    groups.append(len(xs))
    if min(xs) < 0:
        raise ValueError("one of them has no root")
    return [x ** 0.5 for x in xs]

@worker.method(batch=True)
def roots_or_errors(xs):
    return [x ** 0.5 if x >= 0 else ValueError(f"{x} has no root") for x in xs]

@worker.method(batch=True)
def too_few(xs):
    return xs[1:]

@worker.method
def sizes():
    taken = list(groups)
    groups.clear()
    return taken

@worker.method
def size(body):
    return len(body)

@worker.method(idempotent=True)
def body(size):
    return bytes(size)

@worker.method
def body_once(size):
    return bytes(size)

@worker.method
def sleeps(seconds):
    time.sleep(seconds)
    return seconds

@worker.method
def parts(n):
    for part in range(n):
        yield part

@worker.method
def hold(place):
    mark(place + "/at-work")
    wait_for(place + "/go-on", lambda: current().cancelled)
    mark(place + "/left", "cancelled" if current().cancelled else "went on")
"""

BARE = """\
# A worker without an SDK: it answers requests, and knows nothing else.
import struct, sys
import msgpack

def read(count):
    data = sys.stdin.buffer.read(count)
    if len(data) < count:
        sys.exit(0)
    return data

while True:
    message = msgpack.unpackb(read(struct.unpack(">I", read(4))[0]))
    if message[0] == 0:
        _, number, method, params = message[:4]
        if method == "square":
            answer = [1, number, None, params[0] * params[0]]
        else:
            answer = [1, number, {"code": "unimplemented", "message": "no such method"}, None]
        data = msgpack.packb(answer)
        sys.stdout.buffer.write(struct.pack(">I", len(data)) + data)
        sys.stdout.buffer.flush()
"""


def bare(directory: Path) -> list[str]:
    """The command of a worker that has no SDK."""
    path = directory / "bare.py"
    path.write_text(dedent(BARE))
    return [sys.executable, str(path)]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def orch(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Orchestrator]:
    place = tmp_path_factory.mktemp("programs")
    async with Orchestrator(
        {
            "maths": ServiceConfig(command=program(place, MATHS, "maths"), replicas=2),
            "one": ServiceConfig(command=program(place, MATHS, "one", concurrency=1), queue=4),
            "small": ServiceConfig(command=program(place, MATHS, "small", concurrency=1), max_frame="64KiB"),
            "bare": ServiceConfig(command=bare(place), queue=10),
        }
    ) as orchestrator:
        yield orchestrator


# Order and size.


@pytest.mark.parametrize("method", ["maths.square", "maths.late_square", "one.square", "bare.square"])
@pytest.mark.parametrize("count", [0, 1, 2, 100, 3000])
async def test_the_results_are_in_the_items_order(orch: Orchestrator, method: str, count: int) -> None:
    assert await orch.map(method, range(count)) == [x * x for x in range(count)]


async def test_many_quick_items(orch: Orchestrator) -> None:
    assert await orch.map("maths.square", range(100_000)) == [x * x for x in range(100_000)]


async def test_more_items_than_the_queue_holds(orch: Orchestrator) -> None:
    assert await orch.map("one.square", range(2000)) == [x * x for x in range(2000)]
    # Also when others fill the queue.
    others = [asyncio.create_task(orch.map("one.square", range(500))) for _ in range(5)]
    assert await asyncio.gather(*others) == [[x * x for x in range(500)]] * 5


async def test_the_first_batch_may_be_large(orch: Orchestrator) -> None:
    await orch.call("one.sizes")
    await orch.map("one.roots", range(150), first=100)
    assert await orch.call("one.sizes") == [100, 50]
    with pytest.raises(ValueError, match="at least 1 item, not 0"):
        await orch.map("maths.roots", [1], first=0)


async def test_any_iterable_will_do(orch: Orchestrator) -> None:
    expected = [0, 1, 4]
    assert await orch.map("maths.square", [0, 1, 2]) == expected
    assert await orch.map("maths.square", (x for x in (0, 1, 2))) == expected
    assert await orch.map("maths.square", {0: "a", 1: "b", 2: "c"}) == expected
    assert await orch.map("maths.square", map(int, "012")) == expected


async def test_async_iterables(orch: Orchestrator) -> None:
    async def numbers(count: int) -> AsyncIterator[int]:
        for number in range(count):
            if number % 50 == 0:
                await asyncio.sleep(0.001)
            yield number

    for count in (0, 1, 500):
        assert await orch.map("maths.square", numbers(count)) == [x * x for x in range(count)]
        assert await orch.map("bare.square", numbers(count)) == [x * x for x in range(count)]


async def test_a_queue_fed_while_it_is_mapped(orch: Orchestrator) -> None:
    items: asyncio.Queue[int | None] = asyncio.Queue()

    async def taken() -> AsyncIterator[int]:
        while (item := await items.get()) is not None:
            yield item

    mapping = asyncio.create_task(orch.map("maths.square", taken()))
    for number in [*range(20), None]:
        items.put_nowait(number)
        await asyncio.sleep(0)
    assert await mapping == [x * x for x in range(20)]


@pytest.mark.parametrize("method", ["maths.hold", "one.hold"])
async def test_items_are_taken_as_they_are_needed(orch: Orchestrator, method: str, tmp_path: Path) -> None:
    taken = 0

    def endless() -> Iterator[str]:
        nonlocal taken
        for _ in itertools.count():
            taken += 1
            yield str(tmp_path)

    mapping = asyncio.create_task(orch.map(method, endless()))
    await until((tmp_path / "at-work").exists, "it began")
    for _ in range(20):
        assert await orch.call("bare.square", 2) == 4
    assert taken <= 10
    mapping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await mapping
    await until(lambda: "cancelled" in marks(tmp_path / "left"), "the worker was told")
    assert await orch.call("maths.square", 2) == 4


async def test_an_endless_source_of_quick_items_is_held_too(orch: Orchestrator) -> None:
    taken = done = ahead = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield number

    def on_progress(so_far: float, total: float | None, text: str) -> None:
        nonlocal done, ahead
        assert total is None
        done, ahead = int(so_far), max(ahead, taken - int(so_far))

    mapping = asyncio.create_task(orch.map("maths.square", endless(), progress=on_progress))
    await until(lambda: done > 50_000, "it has got far")
    mapping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await mapping
    assert ahead <= 5 * 4096
    assert await orch.map("maths.square", [3]) == [9]


async def test_progress(orch: Orchestrator) -> None:
    heard: list[tuple[float, float | None, str]] = []
    await orch.map("maths.square", range(1000), progress=lambda *report: heard.append(report))
    counts = [done for done, _, _ in heard]
    assert counts == sorted(counts)
    assert counts[-1] == 1000
    assert {(total, text) for _, total, text in heard} == {(1000, "")}


# Errors.


@pytest.mark.parametrize("method", ["maths.root", "maths.roots", "maths.roots_or_errors"])
async def test_the_first_item_that_fails_ends_it(orch: Orchestrator, method: str) -> None:
    with pytest.raises(WorkerError) as caught:
        await orch.map(method, [4.0, 1.0, -2.0, 9.0, -3.0])
    assert caught.value.remote_type == "ValueError"
    assert (caught.value.service, caught.value.method) == ("maths", method.partition(".")[2])
    assert "in the worker:" in str(caught.value.__cause__)
    if method != "maths.roots":
        assert "-2.0 has no root" in str(caught.value)


@pytest.mark.parametrize("method", ["maths.root", "maths.roots", "maths.roots_or_errors", "one.root"])
async def test_with_return_exceptions_each_error_has_its_items_place(orch: Orchestrator, method: str) -> None:
    items = [float(x) if x % 10 else float(-x - 1) for x in range(1000)]
    outcomes = await orch.map(method, items, return_exceptions=True)
    assert len(outcomes) == 1000
    for item, outcome in zip(items, outcomes, strict=True):
        if item < 0:
            assert type(outcome) is WorkerError
            assert outcome.remote_type == "ValueError"
        else:
            assert outcome == item**0.5


async def test_a_batch_that_fails_is_tried_one_by_one_where_that_is_allowed(orch: Orchestrator) -> None:
    for method in ("roots", "roots_once"):
        await orch.call("one.sizes")
        assert await orch.map(f"one.{method}", [1.0] * 2000) == [1.0] * 2000  # so that it knows that it may take many
        groups = await orch.call("one.sizes")
        assert max(groups) > 4, groups
    items = [1.0] * 10 + [-1.0] + [1.0] * 500
    outcomes = await orch.map("one.roots", items, return_exceptions=True)
    assert [index for index, outcome in enumerate(outcomes) if isinstance(outcome, WorkerError)] == [10]
    outcomes = await orch.map("one.roots_once", items, return_exceptions=True)
    failed = [index for index, outcome in enumerate(outcomes) if isinstance(outcome, WorkerError)]
    assert 10 in failed
    assert failed == list(range(failed[0], failed[-1] + 1)), "one batch, and no other"


async def test_a_batch_method_that_loses_items(orch: Orchestrator) -> None:
    with pytest.raises(WorkerError, match="the batch method too_few returned 0 results for 1 items"):
        await orch.map("maths.too_few", [1, 2, 3])


async def test_batches_and_single_calls_of_the_same_method(orch: Orchestrator) -> None:
    assert await orch.call("maths.roots", 9.0) == 3.0
    assert await orch.call("maths.roots_or_errors", 9.0) == 3.0
    with pytest.raises(WorkerError, match=r"-1\.0 has no root"):
        await orch.call("maths.roots_or_errors", -1.0)
    with pytest.raises(WorkerError, match="returned 0 results for 1 items"):
        await orch.call("maths.too_few", 1)
    answers = await asyncio.gather(*(orch.call("maths.roots", float(x)) for x in range(200)))
    assert answers == [x**0.5 for x in range(200)]


async def test_a_stream_method_gives_a_list_for_each_item(orch: Orchestrator) -> None:
    assert await orch.map("maths.parts", range(5)) == [list(range(n)) for n in range(5)]


async def test_the_source_that_fails(orch: Orchestrator) -> None:
    def breaks() -> Iterator[int]:
        yield from range(10)
        raise RuntimeError("the file ends here")

    with pytest.raises(RuntimeError, match="the file ends here"):
        await orch.map("maths.square", breaks())
    assert await orch.map("maths.square", range(3)) == [0, 1, 4]


async def test_what_does_not_exist(orch: Orchestrator) -> None:
    with pytest.raises(UnknownService):
        await orch.map("moths.square", [1])
    with pytest.raises(UnknownMethod):
        await orch.map("maths.sqare", [1])
    outcomes = await orch.map("maths.sqare", [1, 2], return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [UnknownMethod] * 2
    with pytest.raises(UnknownMethod):
        await orch.map("bare.cube", [1])


@pytest.mark.parametrize("method", ["maths.square", "bare.square"])
async def test_an_item_that_cannot_be_sent_spoils_no_other(orch: Orchestrator, method: str) -> None:
    items: list[Any] = list(range(500))
    items[100] = items[321] = object()
    outcomes = await orch.map(method, items, return_exceptions=True)
    for item, outcome in zip(items, outcomes, strict=True):
        if type(item) is int:
            assert outcome == item * item
        else:
            assert type(outcome) is InvalidArgument
            assert "cannot be sent" in str(outcome)
    with pytest.raises(InvalidArgument):
        await orch.map(method, items)
    assert await orch.map(method, range(10)) == [x * x for x in range(10)]


async def test_items_that_together_are_longer_than_a_frame(orch: Orchestrator) -> None:
    bodies = [b""] * 500 + [bytes(20_000)] * 100
    assert await orch.map("small.size", bodies) == [len(body) for body in bodies]


async def test_results_that_together_are_longer_than_a_frame(orch: Orchestrator) -> None:
    sizes = [0] * 500 + [20_000] * 100
    assert [len(body) for body in await orch.map("small.body", sizes)] == sizes
    # What may not be done again fails, and says what would help.
    with pytest.raises(WorkerError, match=r"peer accepts frames of 65536 \(max_frame\)"):
        await orch.map("small.body_once", sizes)


async def test_one_item_that_is_longer_than_a_frame(orch: Orchestrator) -> None:
    outcomes = await orch.map("small.size", [b"", bytes(100_000), b"x"], return_exceptions=True)
    assert (outcomes[0], type(outcomes[1]), outcomes[2]) == (0, InvalidArgument, 1)


async def test_the_timeout_is_each_batchs_own(orch: Orchestrator) -> None:
    assert await orch.map("one.sleeps", [0.05] * 6, timeout=0.25) == [0.05] * 6
    with pytest.raises(DeadlineExceeded):
        await orch.map("one.sleeps", [0.05, 1.0], timeout=0.2)
    outcomes = await orch.map("maths.sleeps", [0.0, 0.5], timeout=0.2, return_exceptions=True)
    assert outcomes[0] == 0.0
    assert type(outcomes[1]) is DeadlineExceeded


# Workers that die.


async def test_a_worker_that_dies_under_it(tmp_path: Path) -> None:
    async with Orchestrator({"maths": ServiceConfig(command=program(tmp_path, MATHS, "maths"))}) as orch:
        pid = orch.status()["services"]["maths"]["replicas"][0]["pid"]
        mapping = asyncio.create_task(orch.map("maths.hold", [str(tmp_path)]))
        await until((tmp_path / "at-work").exists, "it began")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(WorkerCrashed):
            await mapping
        assert await orch.map("maths.square", range(10)) == [x * x for x in range(10)]


async def test_an_idempotent_map_outlives_its_worker(tmp_path: Path) -> None:
    async with Orchestrator({"maths": ServiceConfig(command=program(tmp_path, MATHS, "maths"))}) as orch:
        pid = orch.status()["services"]["maths"]["replicas"][0]["pid"]
        done = 0

        def on_progress(so_far: float, total: float | None, text: str) -> None:
            nonlocal done
            if not done:
                os.kill(pid, signal.SIGKILL)
            done = int(so_far)

        items = [float(x) for x in range(20_000)]
        assert await orch.map("maths.roots", items, progress=on_progress) == [x**0.5 for x in items]
        assert orch.status()["services"]["maths"]["replicas"][0]["restarts"] == 1


async def test_a_service_that_goes_down(tmp_path: Path) -> None:
    config = ServiceConfig(command=program(tmp_path, MATHS, "maths"), restart="temporary")
    async with Orchestrator({"maths": config}) as orch:
        os.kill(orch.status()["services"]["maths"]["replicas"][0]["pid"], signal.SIGKILL)
        await until(lambda: orch.status()["services"]["maths"]["state"] == "down", "it is down")
        with pytest.raises(ServiceDown):
            await orch.map("maths.square", range(10))
