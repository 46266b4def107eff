"""Calls that kill the worker that they are sent to: found by halves, alone to blame, and never sent again."""

from __future__ import annotations

import asyncio
import math
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from mlports import (
    BatchConfig,
    CallError,
    DeadlineExceeded,
    Orchestrator,
    Overloaded,
    PoisonRequest,
    ServiceConfig,
    ServiceDown,
    WorkerCrashed,
    connect,
)
from mlports.control import serve
from tests.services import dispatcher_of, failure, outcomes, running
from tests.workers import marks, program, until

FRAIL = """
if os.environ.get("BORN"):
    mark(os.environ["BORN"])

def take(x):
    if x == -1:
        os._exit(7)
    if x == -9:
        os.kill(os.getpid(), signal.SIGKILL)
    if x == -3:
        wait_for("/nowhere")
    return x

@worker.method(batch=True, idempotent=True)
def many(xs):
    return [take(x) for x in xs]

@worker.method(idempotent=True)
def one(x):
    return take(x)

@worker.method(batch=True)
def many_once(xs):
    for x in xs:
        mark(os.environ["BORN"] + "-done", str(x))
    return [take(x) for x in xs]

@worker.method(idempotent=True)
def hold(place):
    mark(place + "/at-work")
    wait_for(place + "/go-on", lambda: current().cancelled)
"""


def frail(directory: Path, **settings: Any) -> ServiceConfig:
    settings = {"batch": BatchConfig(max_size=64, max_wait=0.2), **settings}
    return ServiceConfig(command=program(directory, FRAIL, "frail"), env={"BORN": str(directory / "born")}, **settings)


def deaths(orch: Orchestrator, events: list[dict[str, Any]]) -> int:
    return sum(event["event"] == "died" for event in events)


async def together(orch: Orchestrator, items: list[int], place: Path, method: str = "many") -> list[Any]:
    """The outcomes of these calls, which travel in one batch: they gather while the worker is at something else."""
    (place / "go-on").unlink(missing_ok=True)
    before = len(marks(place / "at-work"))
    calls = [orch.call("s.hold", str(place), timeout=None)]
    await until(lambda: len(marks(place / "at-work")) > before, "it is at work")
    calls += [orch.call(f"s.{method}", item) for item in items]
    (place / "go-on").touch()
    return (await outcomes(calls))[1:]


def listened(orch: Orchestrator) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    orch.event_log.listen(events.append)
    return events


@pytest.mark.parametrize("size", [2, 5, 64])
@pytest.mark.parametrize("poison", [-1, -9], ids=["exit", "SIGKILL"])
async def test_one_bad_call_is_found_and_refused(tmp_path: Path, size: int, poison: int) -> None:
    async with running(s=frail(tmp_path)) as orch:
        events = listened(orch)
        items = [*range(size - 1)]
        items.insert(size // 3, poison)
        results = await together(orch, items, tmp_path)
        guilty = results[items.index(poison)]
        assert isinstance(guilty, PoisonRequest)
        assert [result for result in results if result is not guilty] == [*range(size - 1)]
        most = math.ceil(math.log2(size)) + 1 + (size == 2 and poison == -9)
        assert deaths(orch, events) <= most
        # From now on nobody gets it.
        assert isinstance(await failure(orch.call("s.many", poison)), PoisonRequest)
        mapped = await orch.map("s.many", [1, poison, 2], return_exceptions=True)
        assert isinstance(mapped[1], PoisonRequest)
        assert [mapped[0], mapped[2]] == [1, 2]
        (held,) = orch.status()["quarantine"]
        assert guilty.digest is not None
        assert held["digest"] == guilty.digest
        assert deaths(orch, events) <= most
        assert orch.release(guilty.digest[:10]) == [guilty.digest]
        assert orch.status()["quarantine"] == []


@pytest.mark.parametrize(
    "settings", [{"replicas": 3}, {"replicas": 2, "route": "hash"}, {"standby": 1}, {"concurrency": 2}]
)
async def test_with_other_replicas_two_bad_calls_hurt_only_themselves(tmp_path: Path, settings: Any) -> None:
    async with running(s=frail(tmp_path, **settings)) as orch:
        events = listened(orch)
        items = [1, 2, -1, 3, 4, 5, -9, 6, *range(20)]
        keyed: Any = {"key": "k"} if settings.get("route") == "hash" else {}
        calls = [orch.call("s.many", item, **keyed) for item in items]
        other = [orch.call("s.one", n, **keyed) for n in range(100)]
        results = await outcomes(calls)
        for item, result in zip(items, results, strict=True):
            if item < 0:
                assert isinstance(result, PoisonRequest), result
            else:
                assert result == item
        assert await asyncio.gather(*other) == [*range(100)]
        assert deaths(orch, events) <= 2 * (math.ceil(math.log2(len(items))) + 2)


async def test_a_map_loses_only_its_bad_items(tmp_path: Path) -> None:
    async with running(s=frail(tmp_path)) as orch:
        items = [*range(300), -1, *range(300)]
        for method in ("s.many", "s.one"):
            results = await orch.map(method, items, return_exceptions=True)
            assert isinstance(results[300], PoisonRequest), results[300]
            assert results[:300] + results[301:] == [*range(300), *range(300)]


async def test_quick_calls_that_were_packed(tmp_path: Path) -> None:
    async with running(s=frail(tmp_path)) as orch:
        await asyncio.gather(*(orch.call("s.one", n) for n in range(1000)))
        calls = [orch.call("s.one", -1 if n == 100 else n) for n in range(400)]
        results = await outcomes(calls)
        assert isinstance(results.pop(100), WorkerCrashed)
        assert results == [n for n in range(400) if n != 100]


async def test_what_is_not_idempotent_fails_and_is_never_run_twice(tmp_path: Path) -> None:
    async with running(s=frail(tmp_path)) as orch:
        results = await together(orch, [1, 2, -1, 3], tmp_path, "many_once")
        assert {type(result) for result in results} == {WorkerCrashed}
        assert set(Counter(marks(tmp_path / "born-done")).values()) == {1}
        assert orch.status()["quarantine"] == []


async def test_the_same_bad_call_many_times_costs_no_more_deaths_than_once(tmp_path: Path) -> None:
    async with running(s=frail(tmp_path, batch=BatchConfig(max_size=4, max_wait=0.2))) as orch:
        events = listened(orch)
        results = await together(orch, [-1, 1, 2, 3, *[-1] * 12], tmp_path)
        assert results[1:4] == [1, 2, 3]
        assert {type(result) for result in results[:1] + results[4:]} == {PoisonRequest}
        assert deaths(orch, events) <= 4


async def command(*arguments: str, cwd: Path) -> str:
    """What `mlports` with these arguments prints."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "mlports", *arguments, cwd=cwd, stdout=pipe)
    output, _ = await process.communicate()
    assert process.returncode == 0
    return output.decode()


async def test_people_see_what_is_in_quarantine_and_release_it(tmp_path: Path) -> None:
    place = tmp_path / "mlports.toml"
    place.write_text('[service.s]\ncommand = "true"\n')  # it says where the orchestrator keeps its state
    async with running(directory=tmp_path, s=frail(tmp_path)) as orch, serve(orch):
        results = await together(orch, [1, -1, 2], tmp_path)
        assert isinstance(results[1], PoisonRequest)
        digest = results[1].digest
        assert digest is not None
        assert f"{digest}  s.many  refused 0" in await command("events", "--quarantined", cwd=tmp_path)
        refused = await asyncio.to_thread(_called_over_the_socket, place)
        assert isinstance(refused, PoisonRequest)
        assert "refused 1" in await command("events", "--quarantined", cwd=tmp_path)
        assert digest in await command("release", digest[:8], cwd=tmp_path)
        assert await command("events", "--quarantined", cwd=tmp_path) == ""
        assert orch.status()["quarantine"] == []


def _called_over_the_socket(place: Path) -> Exception | None:
    with connect(place) as client:
        try:
            client.call("s.many", -1)
        except CallError as error:
            return error
    return None


async def test_stopping_in_the_middle(tmp_path: Path) -> None:
    async with running(s=frail(tmp_path)) as orch:
        events = listened(orch)
        calls = [orch.call("s.many", n if n != 20 else -1) for n in range(64)]
        await until(lambda: deaths(orch, events) >= 2, "it has begun")
        await asyncio.wait_for(orch.stop(), 10)
        assert all(call.done() for call in calls)
        results = await outcomes(calls)
        assert {type(result) for result in results} <= {int, ServiceDown, WorkerCrashed, PoisonRequest}


async def test_suspects_whose_time_is_up_keep_no_replica(tmp_path: Path) -> None:
    async with running(s=frail(tmp_path, grace=0.2, queue=40)) as orch:
        calls = [orch.call("s.many", item, timeout=0.4) for item in [0, 1, -1, 3, -3, 4]]
        waiting = [orch.call("s.one", n, timeout=None) for n in range(30)]
        for call in waiting[::2]:
            call.cancel()
        waiting += [orch.call("s.one", n, timeout=None) for n in range(10)]
        results = await outcomes(calls)
        assert isinstance(results[4], Exception)
        assert (await asyncio.wait_for(outcomes(waiting), 10))[-10:] == [*range(10)]


async def test_a_replica_that_is_kept_free_for_suspects_is_free_again_when_they_have_gone(tmp_path: Path) -> None:
    async with running(s=frail(tmp_path, replicas=2, queue=6)) as orch:
        calls = dispatcher_of(orch, "s")
        holds = [orch.call("s.hold", str(tmp_path), timeout=None)]
        await until(lambda: marks(tmp_path / "at-work"), "one is busy")
        suspects = [orch.call("s.many", item, timeout=0.4) for item in (1, -1, 2, 3)]
        await until(lambda: calls.sender.reserved, "the busy one is to be kept free")
        await until(lambda: len(calls.ready) == 2, "the other is back")
        holds.append(orch.call("s.hold", str(tmp_path), timeout=None))
        await until(lambda: len(marks(tmp_path / "at-work")) == 2, "both are busy")
        assert {type(result) for result in await outcomes(suspects)} == {DeadlineExceeded}
        waiting = [orch.call("s.one", n, timeout=None) for n in range(12)]
        assert isinstance(await failure(waiting[-1]), Overloaded)
        (tmp_path / "go-on").touch()
        await asyncio.gather(*holds)
        results = await outcomes(waiting)
        assert results[:5] == [0, 1, 2, 3, 4]


async def test_being_killed_from_outside_blames_nobody(tmp_path: Path) -> None:
    async with running(s=frail(tmp_path, retries=50, retry_budget=None), intensity=1000) as orch:
        results = []
        for _ in range(8):
            calls = [orch.call("s.many", n) for n in range(50)]
            lanes = dispatcher_of(orch, "s").ready
            if lanes:
                os.kill(lanes[0].port.pid, signal.SIGKILL)
            results.append(await outcomes(calls))
        assert results == [[*range(50)]] * 8
        assert orch.status()["quarantine"] == []
