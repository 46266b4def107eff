"""Which replica gets a call, while replicas come and go: with real workers."""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from mlports import (
    BatchConfig,
    DeadlineExceeded,
    InvalidArgument,
    Orchestrator,
    ServiceConfig,
    ServiceDown,
    WorkerCrashed,
    WorkerError,
)
from tests.services import dispatcher_of, failure, outcomes, running
from tests.workers import marks, program, until

ECHO = """
@worker.method(idempotent=True)
def pid(*_):
    return os.getpid()

@worker.method(batch=True, idempotent=True)
def pids(xs):
    return [os.getpid() for _ in xs]

@worker.method
def hold(place):
    mark(place + "/at-work")
    wait_for(place + "/go-on", lambda: current().cancelled)
    return os.getpid()

@worker.method
def fails_in(pid):
    if os.getpid() == pid:
        raise ValueError("not here")
    return os.getpid()

@worker.method
def note(path):
    mark(path, str(os.getpid()))
"""


def echo(directory: Path, **settings: Any) -> ServiceConfig:
    return ServiceConfig(command=program(directory, ECHO, "echo"), **settings)


def pids(orch: Orchestrator, service: str = "s") -> list[int]:
    """The processes by the numbers of their places."""
    lanes = sorted(dispatcher_of(orch, service).ready, key=lambda lane: lane.number)
    return [lane.port.pid for lane in lanes]


async def all_up(orch: Orchestrator, count: int) -> None:
    await until(lambda: len(dispatcher_of(orch, "s").ready) == count, f"{count} replicas are up")


# In turn, and by weight.


@pytest.mark.parametrize("batch", [None, BatchConfig(max_size=4)], ids=["single", "batch"])
async def test_round_robin_shares_exactly(tmp_path: Path, batch: BatchConfig | None) -> None:
    async with running(s=echo(tmp_path, replicas=3, route="round_robin", batch=batch)) as orch:
        got = Counter(
            [
                await orch.call("s.pids" if batch else "s.pid") if not batch else await orch.call("s.pids", 1)
                for _ in range(30)
            ]
        )
        assert sorted(got.values()) == [10, 10, 10]


@pytest.mark.parametrize("route", ["round_robin", "least_loaded"])
@pytest.mark.parametrize("batch", [None, BatchConfig(max_size=4)], ids=["single", "batch"])
async def test_weights(tmp_path: Path, route: Any, batch: BatchConfig | None) -> None:
    settings: Any = {"replicas": 3, "route": route, "weights": [3, 1, 0], "batch": batch}
    async with running(s=echo(tmp_path, **settings)) as orch:
        places = pids(orch)
        got = Counter([await orch.call("s.pids" if batch else "s.pid", 1) for _ in range(40)])
        assert got == {places[0]: 30, places[1]: 10}
        at_once = await asyncio.gather(*(orch.call("s.pids" if batch else "s.pid", 1) for _ in range(300)))
        assert places[2] not in at_once


async def test_nobody_gets_the_keys_of_a_replica_whose_others_weigh_nothing(tmp_path: Path) -> None:
    async with running(s=echo(tmp_path, replicas=2, route="hash", weights=[1, 0])) as orch:
        first, second = pids(orch)
        os.kill(first, signal.SIGKILL)
        await until(lambda: pids(orch) == [second], "the first is gone")
        assert await orch.call("s.pid", key="a") not in (first, second)


# By key.


async def test_one_key_goes_to_one_replica_and_moves_as_little_as_can_be(tmp_path: Path) -> None:
    async with running(s=echo(tmp_path, replicas=3, route="hash", key=0)) as orch:
        keys = [*range(40), *"abcdef", b"x", None, True]

        async def homes() -> dict[Any, int]:
            found: dict[Any, set[int]] = defaultdict(set)
            got = await asyncio.gather(*(orch.call("s.pid", key) for _ in range(5) for key in keys))
            for key, pid in zip(keys * 5, got, strict=True):
                found[repr(key)].add(pid)
            assert {len(pids) for pids in found.values()} == {1}
            return {key: pid for key, (pid,) in found.items()}

        before = await homes()
        places = pids(orch)
        assert set(before.values()) == set(places)
        os.kill(places[1], signal.SIGKILL)
        await until(lambda: len(pids(orch)) == 2, "one is gone")
        during = await homes()
        await all_up(orch, 3)
        after = await homes()
        for key, home in before.items():
            if home != places[1]:
                assert home == during[key] == after[key] or during[key] in pids(orch)
                assert after[key] == home
            else:
                assert after[key] == pids(orch)[1]


async def test_one_that_stood_by_has_the_keys_of_the_dead_one(tmp_path: Path) -> None:
    async with running(s=echo(tmp_path, replicas=2, standby=1, route="hash", key=0)) as orch:
        before = {key: await orch.call("s.pid", key) for key in range(40)}
        places = pids(orch)
        os.kill(places[0], signal.SIGKILL)
        await until(lambda: len(pids(orch)) == 2 and pids(orch)[0] != places[0], "one was promoted")
        now = pids(orch)
        assert now[1] == places[1]
        after = {key: await orch.call("s.pid", key) for key in range(40)}
        assert after == {key: now[places.index(home)] for key, home in before.items()}


async def test_keys_stay_while_replicas_are_recycled(tmp_path: Path) -> None:
    async with running(s=echo(tmp_path, replicas=2, route="hash", key=0, max_requests=20)) as orch:
        homes: dict[int, int] = {}
        for _ in range(10):
            got = await asyncio.gather(*(orch.call("s.pid", key) for key in range(20)))
            lanes = {lane.port.pid: lane.number for lane in dispatcher_of(orch, "s").lanes.values()}
            for key, pid in enumerate(got):
                if pid in lanes:
                    assert homes.setdefault(key, lanes[pid]) == lanes[pid]
        assert set(homes.values()) == {0, 1}


async def test_keys_that_are_none(tmp_path: Path) -> None:
    async with running(s=echo(tmp_path, replicas=2, route="hash", key=1)) as orch:
        for call in (orch.call("s.pid", 1), orch.call("s.pid"), orch.call("s.pid", 1, [object()])):
            assert isinstance(await failure(call), InvalidArgument)
        assert isinstance(await failure(orch.call("s.pid", key={1: object()})), InvalidArgument)
        assert await orch.call("s.pid", key="a") == await orch.call("s.pid", 1, "a")


# To all.


async def test_a_broadcast_gives_all_results_in_the_order_of_the_replicas(tmp_path: Path) -> None:
    async with running(s=echo(tmp_path, replicas=3, route="broadcast")) as orch:
        places = pids(orch)
        assert await asyncio.gather(*(orch.call("s.pid") for _ in range(20))) == [places] * 20
        error = await failure(orch.call("s.fails_in", places[1]))
        assert isinstance(error, WorkerError)
        orch.cast("s.note", str(tmp_path / "noted"))
        await until(lambda: len(marks(tmp_path / "noted")) == 3, "every one has noted it")
        assert await orch.map("s.pid", range(4)) == [places] * 4


async def test_a_broadcast_waits_for_the_first_replica_that_is_ready(tmp_path: Path) -> None:
    async with running(s=echo(tmp_path, route="broadcast")) as orch:
        (pid,) = pids(orch)
        os.kill(pid, signal.SIGKILL)
        await until(lambda: not pids(orch), "none is up")
        (result,) = await orch.call("s.pid")
        assert result == pids(orch)[0] != pid


async def test_a_replica_that_dies_with_copies_in_hand_and_waiting_fails_them(tmp_path: Path) -> None:
    async with running(s=echo(tmp_path, replicas=2, route="broadcast")) as orch:
        first, second = pids(orch)
        calls = [orch.call("s.hold", str(tmp_path), timeout=None) for _ in range(5)]
        await until(lambda: len(marks(tmp_path / "at-work")) == 2, "both are at it")
        os.kill(first, signal.SIGKILL)
        (tmp_path / "go-on").touch()
        errors = await asyncio.wait_for(outcomes([*calls]), 10)
        assert {type(error) for error in errors} <= {WorkerCrashed, ServiceDown}
        await all_up(orch, 2)
        assert (await orch.call("s.pid"))[1] == second


async def test_copies_that_never_left_the_process_fail_when_their_replica_dies(tmp_path: Path) -> None:
    """They can go nowhere else: they must not wait for a replica that is gone."""
    async with running(s=echo(tmp_path, replicas=2, route="broadcast")) as orch:
        first, _ = pids(orch)
        calls = [orch.call("s.hold", str(tmp_path), timeout=None)]
        await until(lambda: len(marks(tmp_path / "at-work")) == 2, "both are at it")
        large = bytes(3 << 20)  # more than fits into a pipe
        calls += [orch.call("s.pid", large, timeout=None) for _ in range(2)]
        calls_of = dispatcher_of(orch, "s")
        await until(
            lambda: any(port.queued > port.written for port in calls_of.lanes) or calls_of.waiting, "it is on its way"
        )
        os.kill(first, signal.SIGKILL)
        await until(lambda: first not in pids(orch), "it is gone")
        (tmp_path / "go-on").touch()
        results = await asyncio.wait_for(outcomes([*calls]), 10)
        assert {type(result) for result in results} <= {WorkerCrashed, ServiceDown}


async def test_a_replica_that_is_recycled_hands_on_its_copies(tmp_path: Path) -> None:
    async with running(s=echo(tmp_path, replicas=2, route="broadcast", max_requests=10)) as orch:
        for _ in range(5):
            results = await asyncio.wait_for(asyncio.gather(*(orch.call("s.pid", timeout=None) for _ in range(30))), 10)
            assert {len(result) for result in results} == {2}


async def test_a_broadcast_that_is_cancelled_or_expires_ends_everywhere(tmp_path: Path) -> None:
    async with running(s=echo(tmp_path, replicas=2, route="broadcast")) as orch:
        call = orch.call("s.hold", str(tmp_path), timeout=None)
        await until(lambda: len(marks(tmp_path / "at-work")) == 2, "both are at it")
        call.cancel()
        assert isinstance(await failure(orch.call("s.hold", str(tmp_path), timeout=0.05)), DeadlineExceeded)
        assert len(await orch.call("s.pid")) == 2
