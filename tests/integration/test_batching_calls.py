"""Calls that go out in batches, with real workers."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from mlports import (
    BatchConfig,
    CallCancelled,
    CallError,
    DeadlineExceeded,
    InvalidArgument,
    Orchestrator,
    ServiceConfig,
    WorkerError,
)
from tests.services import dispatcher_of, failure, outcomes, running
from tests.workers import marks, program, until

BATCHER = """
sizes = []

@worker.method(batch=True, idempotent=True)
def double(xs):
    sizes.append(len(xs))
    return [ValueError(f"no {x}") if isinstance(x, str) else x * 2 for x in xs]

@worker.method(batch=True)
def shapes(xs):
    sizes.append(len(xs))
    return [len(xs)] * len(xs) if len({len(x) for x in xs}) == 1 else [None] * len(xs)

@worker.method(batch=True)
def second(xs, keys):
    sizes.append(len(xs))
    return [len(set(keys))] * len(xs)

@worker.method(batch=True)
def wrong(xs):
    return xs[1:] if xs[0] else [*xs, 1]

@worker.method
def plain(x):
    return x + 1

@worker.method
def taken():
    taken = list(sizes)
    sizes.clear()
    return taken

@worker.method
def hold(place):
    mark(place + "/at-work")
    wait_for(place + "/go-on", lambda: current().cancelled)
"""

SLEEPER = """
now = most = 0

@worker.method(batch=True)
async def nap(xs):
    global now, most
    now += 1
    most = max(most, now)
    await asyncio.sleep(0.05)
    now -= 1
    return [len(xs)] * len(xs)

@worker.method
async def together():
    return most
"""


def batcher(directory: Path, *, max_size: Any = 8, max_wait: float = 0.05, key: Any = None, **more: Any) -> Any:
    batch = BatchConfig(max_size=max_size, max_wait=max_wait, key=key)
    return ServiceConfig(command=program(directory, BATCHER, "batcher"), batch=batch, **more)


async def busy(orch: Orchestrator, place: Path) -> asyncio.Future[Any]:
    """A call that keeps the worker busy until `go-on` is there, so that those that follow gather."""
    (place / "go-on").unlink(missing_ok=True)
    before = len(marks(place / "at-work"))
    call = orch.call("s.hold", str(place), timeout=None)
    await until(lambda: len(marks(place / "at-work")) > before, "it is at work")
    return call


@pytest.mark.parametrize("max_size", [1, 8, "auto"])
async def test_batches_are_never_larger_than_they_may_be(tmp_path: Path, max_size: Any) -> None:
    async with running(s=batcher(tmp_path, max_size=max_size)) as orch:
        calls = [orch.call("s.double", n) for n in range(500)]
        others = [orch.call("s.plain", n) for n in range(100)]
        mapped = asyncio.ensure_future(orch.map("s.double", range(1000)))
        assert await asyncio.gather(*calls) == [2 * n for n in range(500)]
        assert await asyncio.gather(*others) == [n + 1 for n in range(100)]
        assert await mapped == [2 * n for n in range(1000)]
        sizes = await orch.call("s.taken")
        assert sum(sizes) == 1500
        assert max(sizes) <= (4096 if max_size == "auto" else max_size)


async def test_a_lone_call_waits_for_nobody_and_no_call_longer_than_it_may(tmp_path: Path) -> None:
    async with running(s=batcher(tmp_path, max_wait=5.0)) as orch:
        began = time.monotonic()
        for n in range(10):
            assert await orch.call("s.double", n) == 2 * n
        assert time.monotonic() - began < 4


async def test_each_item_has_its_own_error(tmp_path: Path) -> None:
    async with running(s=batcher(tmp_path)) as orch:
        gate = await busy(orch, tmp_path)
        calls = [orch.call("s.double", "a" if n == 3 else n) for n in range(6)]
        (tmp_path / "go-on").touch()
        await gate
        results = await outcomes(calls)
        assert isinstance(results[3], WorkerError)
        assert "no a" in str(results[3])
        assert results[:3] + results[4:] == [0, 2, 4, 8, 10]


async def test_shapes_and_keys_are_kept_apart(tmp_path: Path) -> None:
    async with running(s=batcher(tmp_path)) as orch:
        gate = await busy(orch, tmp_path)
        calls = [orch.call("s.shapes", [0] * (n % 3 + 1)) for n in range(12)]
        (tmp_path / "go-on").touch()
        await gate
        assert None not in await asyncio.gather(*calls)
    async with running(s=batcher(tmp_path, key=1)) as orch:
        gate = await busy(orch, tmp_path)
        calls = [orch.call("s.second", n, "ab"[n % 2]) for n in range(12)]
        unhashable = orch.call("s.second", 1, ["no", "key"])
        assert isinstance(await failure(unhashable), InvalidArgument)
        (tmp_path / "go-on").touch()
        await gate
        assert set(await asyncio.gather(*calls)) == {1}


@pytest.mark.parametrize("first", [0, 1], ids=["too many", "too few"])
async def test_a_wrong_number_of_results_fails_each_call_and_says_so(tmp_path: Path, first: int) -> None:
    async with running(s=batcher(tmp_path)) as orch:
        gate = await busy(orch, tmp_path)
        calls = [orch.call("s.wrong", first) for _ in range(5)]
        (tmp_path / "go-on").touch()
        await gate
        errors = await outcomes(calls)
        assert all(isinstance(error, CallError) and error.code == "internal" for error in errors)
        assert all("for 5 items" in str(error) for error in errors)


async def test_within_a_batch_a_short_deadline_ends_one_call_and_a_cancel_another(tmp_path: Path) -> None:
    async with running(s=batcher(tmp_path)) as orch:
        gate = await busy(orch, tmp_path)
        calls = [orch.call("s.double", n, timeout=0.05 if n == 2 else None) for n in range(6)]
        calls[4].cancel()
        assert isinstance(await failure(calls[2]), DeadlineExceeded)
        (tmp_path / "go-on").touch()
        await gate
        results = await outcomes(calls)
        assert [results[n] for n in (0, 1, 3, 5)] == [0, 2, 6, 10]
        assert isinstance(results[4], asyncio.CancelledError | CallCancelled)


async def test_async_workers_have_several_batches_at_a_time(tmp_path: Path) -> None:
    command = program(tmp_path, SLEEPER, "sleeper", concurrency=4)
    async with running(s=ServiceConfig(command=command, batch=BatchConfig(max_size=8, max_wait=0.01))) as orch:
        sizes = await asyncio.gather(*(orch.call("s.nap", n) for n in range(64)))
        assert max(sizes) <= 8
        assert 2 <= await orch.call("s.together") <= 4


async def test_batches_outlive_their_workers_replacements(tmp_path: Path) -> None:
    async with running(s=batcher(tmp_path, replicas=2, max_requests=30)) as orch:
        for _ in range(5):
            assert await asyncio.gather(*(orch.call("s.double", n) for n in range(60))) == [2 * n for n in range(60)]


async def test_a_batch_that_no_frame_takes_goes_in_parts(tmp_path: Path) -> None:
    async with running(s=batcher(tmp_path, max_frame=4096)) as orch:
        gate = await busy(orch, tmp_path)
        calls = [orch.call("s.double", bytes(1000)) for _ in range(8)]
        (tmp_path / "go-on").touch()
        await gate
        assert await asyncio.gather(*calls) == [bytes(2000)] * 8
        assert dispatcher_of(orch, "s").failed == 0
