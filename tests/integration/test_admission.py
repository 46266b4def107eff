"""Which calls wait, which go first, which are refused, and how many are in the workers' hands: with real workers."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mlports import BatchConfig, DeadlineExceeded, InvalidArgument, Orchestrator, Overloaded, ServiceConfig, connect
from mlports.control import serve
from tests.services import dispatcher_of, failure, nothing_left, outcomes, running
from tests.workers import marks, program, until

COUNTER = """
begun = []

@worker.method
def hold(place):
    mark(place + "/at-work")
    wait_for(place + "/go-on", lambda: current().cancelled)

@worker.method
def note(x):
    begun.append(x)
    return x

@worker.method
def notes():
    taken = list(begun)
    begun.clear()
    return taken

@worker.method(batch=True, idempotent=True)
def same(xs):
    return xs

@worker.method
def ask(target, *params):
    try:
        return worker.call(target, *params)
    except CallFailed as error:
        return [error.code, error.data, error.retryable]
"""

NAPPER = """
now = most = 0

@worker.method
async def together():
    return most

async def one(x):
    global now, most
    now += 1
    most = max(most, now)
    await asyncio.sleep(0.001)
    now -= 1
    return x

@worker.method
async def nap(x):
    return await one(x)

@worker.method(batch=True, idempotent=True)
async def naps(xs):
    return await asyncio.gather(*map(one, xs))
"""


def counter(directory: Path, **settings: Any) -> ServiceConfig:
    """A service that does one thing after the other, and notes what it begins with."""
    return ServiceConfig(command=program(directory, COUNTER, "counter"), **settings)


def napper(directory: Path, **settings: Any) -> ServiceConfig:
    """A service that does many things at a time, and knows how many they were at most."""
    return ServiceConfig(command=program(directory, NAPPER, "napper"), **settings)


async def held(orch: Orchestrator, place: Path, service: str = "s") -> list[asyncio.Future[Any]]:
    """Calls that keep the only worker busy, so that those that follow wait; `release` ends them."""
    calls = [orch.call(f"{service}.hold", str(place), timeout=None) for _ in range(2)]
    await until(lambda: marks(place / "at-work"), "it is at work")
    return calls


def release(place: Path) -> None:
    (place / "go-on").touch()


@pytest.mark.parametrize("option", [{"priority": 1}, {"tag": "a"}])
async def test_the_first_call_with_a_priority_or_a_tag_leaves_at_once(tmp_path: Path, option: Any) -> None:
    async with running(s=counter(tmp_path)) as orch:
        assert await asyncio.wait_for(orch.call("s.note", 1, timeout=None, **option), 5) == 1


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_again(tmp_path: Path) -> None:
    async with running(s=counter(tmp_path, queue=3)) as orch:
        calls = await held(orch, tmp_path)
        waiting = [orch.call("s.note", n) for n in range(3)]
        refused = orch.call("s.note", 4)
        assert refused.done()
        error = await failure(refused)
        assert isinstance(error, Overloaded)
        assert error.retryable
        assert error.retry_after > 0
        assert "3 calls wait" in str(error)
        release(tmp_path)
        assert await asyncio.gather(*calls, *waiting) == [None, None, 0, 1, 2]


async def test_being_overloaded_reaches_callers_in_other_processes(tmp_path: Path) -> None:
    services: dict[str, Any] = {"s": counter(tmp_path, queue=0), "caller": counter(tmp_path)}
    async with running(directory=tmp_path, **services) as orch:
        calls = await held(orch, tmp_path)
        code, data, retryable = await orch.call("caller.ask", "s.note", 1)
        assert (code, data["error"], retryable) == ("resource_exhausted", "Overloaded", True)
        assert data["retry_after"] > 0
        async with serve(orch):
            error = await asyncio.to_thread(_refused_over_the_socket, orch.state_dir)
        assert isinstance(error, Overloaded)
        assert error.retry_after > 0
        release(tmp_path)
        await asyncio.gather(*calls)


def _refused_over_the_socket(state_dir: Path) -> BaseException | None:
    with connect(state_dir) as client:
        try:
            client.call("s.note", 1)
        except Overloaded as error:
            return error
    return None


async def test_without_a_queue_a_call_goes_to_an_idle_worker_or_nowhere(tmp_path: Path) -> None:
    async with running(s=counter(tmp_path, queue=0, concurrency=1)) as orch:
        for n in range(20):
            assert await orch.call("s.note", n) == n
            assert await orch.call("s.note", n, priority=n, tag="a") == n
        call = orch.call("s.hold", str(tmp_path), timeout=None)
        await until(lambda: marks(tmp_path / "at-work"), "it is at work")
        assert isinstance(await failure(orch.call("s.note", 1)), Overloaded)
        assert isinstance(await failure(orch.call("s.note", 1, priority=5)), Overloaded)
        release(tmp_path)
        await call


def _count(settled: Counter[int], number: int, _: object) -> None:
    settled[number] += 1


@pytest.mark.parametrize("settings", [{}, {"route": "hash", "key": 0}, {"route": "broadcast"}])
async def test_a_flood_is_bounded_and_each_call_settled_once(tmp_path: Path, settings: Any) -> None:
    async with running(s=counter(tmp_path, queue=1024, replicas=2, **settings)) as orch:
        settled: Counter[int] = Counter()
        began = time.monotonic()
        calls = [orch.call("s.note", n, timeout=None) for n in range(5_000)]
        for number, call in enumerate(calls):
            call.add_done_callback(partial(_count, settled, number))
        assert dispatcher_of(orch, "s").waiting <= 2 * 1024
        results = await outcomes(calls)
        assert time.monotonic() - began < 20
        assert set(settled.values()) == {1}
        assert len(settled) == len(calls)
        accepted = [n for n, result in enumerate(results) if not isinstance(result, Overloaded)]
        assert len(accepted) >= 1024
        if settings.get("route") != "broadcast":
            assert [results[n] for n in accepted] == accepted
        else:
            assert [results[n] for n in accepted] == [[n, n] for n in accepted]


async def test_higher_priorities_go_first(tmp_path: Path) -> None:
    async with running(s=counter(tmp_path)) as orch:
        calls = await held(orch, tmp_path)
        calls += [orch.call("s.note", n, priority=n % 3) for n in range(30)]
        release(tmp_path)
        await asyncio.gather(*calls)
        order = await orch.call("s.notes")
        assert [n % 3 for n in order] == [2] * 10 + [1] * 10 + [0] * 10
        assert order == sorted(order, key=lambda n: (-(n % 3), n))


async def test_tags_take_turns(tmp_path: Path) -> None:
    async with running(s=counter(tmp_path)) as orch:
        calls = await held(orch, tmp_path)
        calls += [orch.call("s.note", n, tag="flood") for n in range(200)]
        calls += [orch.call("s.note", -1 - n, tag="small") for n in range(5)]
        release(tmp_path)
        await asyncio.gather(*calls)
        order = await orch.call("s.notes")
        assert max(order.index(-1 - n) for n in range(5)) < 12


@pytest.mark.parametrize(
    "settings",
    [{}, {"route": "hash", "key": 0, "replicas": 2}, {"batch": BatchConfig(max_size=4, key=0)}],
    ids=["plain", "hash", "batch"],
)
async def test_a_tag_that_floods_crowds_nobody_out(tmp_path: Path, settings: Any) -> None:
    """Also where calls wait in several lines: by their key, or for company."""
    async with running(s=counter(tmp_path, queue=20, concurrency=1, **settings)) as orch:
        call = orch.call("s.hold", str(tmp_path), timeout=None)
        await until(lambda: marks(tmp_path / "at-work"), "it is at work")
        method = "s.same" if "batch" in settings else "s.note"
        flood = [orch.call(method, n, tag="flood") for n in range(30)]
        small = [orch.call(method, 100 + n, tag="small") for n in range(5)]
        urgent = [orch.call(method, 200 + n, tag="flood", priority=1) for n in range(3)]
        release(tmp_path)
        await call
        assert await asyncio.gather(*small, *urgent) == [100, 101, 102, 103, 104, 200, 201, 202]
        results = await outcomes(flood)
        errors = [result for result in results if not isinstance(result, int)]
        assert {type(error) for error in errors} == {Overloaded}
        assert all(error.retry_after > 0 for error in errors)
        assert len(errors) == 18


@pytest.mark.parametrize(
    "option", [{"priority": "high"}, {"priority": 1.5}, {"priority": math.nan}, {"tag": ["a"]}, {"tag": 3}]
)
async def test_a_rank_that_is_none_is_refused_and_harms_nobody(tmp_path: Path, option: Any) -> None:
    async with running(s=counter(tmp_path)) as orch:
        assert isinstance(await failure(orch.call("s.note", 1, **option)), InvalidArgument)
        assert await asyncio.wait_for(orch.call("s.note", 2, priority=1), 5) == 2
        assert isinstance(await failure(orch.call("s.note", 1, **option)), InvalidArgument)
        assert await asyncio.wait_for(orch.call("s.note", 3), 5) == 3


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -0.001, math.nan, -math.inf])
async def test_a_deadline_that_has_passed(tmp_path: Path, timeout: float) -> None:
    async with running(s=counter(tmp_path)) as orch:
        calls = [orch.call("s.note", 1, timeout=timeout), orch.call("s.note", 1, timeout=timeout, priority=1)]
        assert all(call.done() for call in calls)
        assert [type(result) for result in await outcomes(calls)] == [DeadlineExceeded] * 2
        assert await orch.call("s.note", 2, timeout=math.inf) == 2
        assert await orch.call("s.notes") == [2]


@pytest.mark.parametrize("option", [{}, {"tag": "a"}])
async def test_what_has_expired_is_never_sent(tmp_path: Path, option: Any) -> None:
    async with running(s=counter(tmp_path)) as orch:
        calls = await held(orch, tmp_path)
        late = [orch.call("s.note", n, timeout=0.001 + n / 20_000, **option) for n in range(200)]
        kept = orch.call("s.note", -1, timeout=None, **option)
        assert {type(result) for result in await outcomes(late)} == {DeadlineExceeded}
        release(tmp_path)
        await asyncio.gather(*calls)
        assert await kept == -1
        assert await orch.call("s.notes") == [-1]


@pytest.mark.parametrize("batch", [None, BatchConfig(max_size=64, max_wait=0.01)], ids=["single", "batch"])
async def test_a_fixed_limit_is_never_exceeded(tmp_path: Path, batch: BatchConfig | None) -> None:
    async with running(s=napper(tmp_path, concurrency=3, batch=batch)) as orch:
        calls = [orch.call("s.nap", n) for n in range(100)]
        calls += [orch.call("s.naps", n) for n in range(100)]
        mapped = await asyncio.gather(orch.map("s.nap", range(150)), orch.map("s.naps", range(150)))
        assert list(mapped) == [list(range(150))] * 2
        assert await asyncio.gather(*calls) == [*range(100), *range(100)]
        assert await orch.call("s.together") <= 3


async def test_a_limit_holds_for_all_replicas_together(tmp_path: Path) -> None:
    async with running(s=napper(tmp_path, concurrency=2, replicas=3)) as orch:
        highest = 0

        def look() -> None:
            nonlocal highest
            highest = max(highest, dispatcher_of(orch, "s").in_flight)

        calls = [orch.call("s.nap", n) for n in range(60)]
        for call in calls:
            call.add_done_callback(lambda _: look())
        assert await asyncio.gather(*calls) == list(range(60))
        assert highest <= 2


async def test_an_adaptive_limit_serves_everyone(tmp_path: Path) -> None:
    async with running(s=napper(tmp_path, concurrency="auto", replicas=2)) as orch:
        calls = [orch.call("s.nap", n) for n in range(1000)]
        assert await asyncio.gather(*calls) == list(range(1000))
        assert orch.status()["services"]["s"]["concurrency"] >= 1


async def test_a_map_is_not_failed_by_those_that_it_gives_way_to(tmp_path: Path) -> None:
    async with running(s=counter(tmp_path, queue=4, concurrency=1)) as orch:
        call = orch.call("s.hold", str(tmp_path), timeout=None)
        await until(lambda: marks(tmp_path / "at-work"), "it is at work")
        mapped = asyncio.ensure_future(orch.map("s.note", range(8)))
        await until(lambda: dispatcher_of(orch, "s").waiting, "the map waits")
        urgent = [orch.call("s.note", 100 + n, priority=1) for n in range(4)]
        release(tmp_path)
        await call
        assert await asyncio.gather(*urgent) == [100, 101, 102, 103]
        assert await mapped == list(range(8))


async def test_cancelled_calls_make_room(tmp_path: Path) -> None:
    async with running(s=counter(tmp_path, queue=10)) as orch:
        calls = await held(orch, tmp_path)
        for _ in range(5):
            waiting = [orch.call("s.note", n, tag=str(n % 3)) for n in range(10)]
            assert isinstance(await failure(orch.call("s.note", 11, tag="0")), Overloaded)
            for call in waiting:
                call.cancel()
        release(tmp_path)
        await asyncio.gather(*calls)
        assert await orch.call("s.notes") == []
        await nothing_left(dispatcher_of(orch, "s"))
