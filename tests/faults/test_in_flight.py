"""What becomes of the calls that a dying worker had in its hands: each is settled exactly once, and none is run twice
that may not be.
"""

from __future__ import annotations

import asyncio
import os
import random
import select
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mlports import WorkerCrashed
from tests.faults.scene import Scene, careless, outcome, scene, verdict_of
from tests.workers import freeze

HOLDER = [sys.executable, str(Path(__file__).with_name("holder.py"))]
HOST = [sys.executable, str(Path(__file__).with_name("host.py"))]


async def test_an_idempotent_call_is_answered_by_the_other_replica(tmp_path: Path) -> None:
    async with scene(careless(), replicas=2) as seen:
        assert await seen.call("dies_once", str(tmp_path / "marker")) == "alive"
        (death,) = seen.deaths()
        assert (death["name"], death["in_flight"]) == ("SIGKILL", [1])
        (retried,) = await seen.until("retried")
        assert (retried["replica"], retried["calls"]) == (death["replica"], 1)
        assert seen.orch.status()["services"]["faulty"]["retried"] == 1


async def test_retries_are_bounded() -> None:
    async with scene(careless(), retries=1, replicas=2) as seen:
        error = await outcome(seen.call("dies_always"))
        assert type(error) is WorkerCrashed
        assert "faulty.dies_always got no answer (attempt 2): worker faulty/" in str(error)
        assert len(seen.deaths()) == 2


async def test_calls_that_are_not_idempotent_are_not_repeated(tmp_path: Path) -> None:
    """100 calls, each counted by the worker in a file before it answers; the worker is killed in the midst of them."""
    record = tmp_path / "record"
    async with scene(HOLDER, config={"record": str(record), "die_at": 40}) as seen:
        outcomes = await asyncio.gather(*(outcome(seen.call("run", number)) for number in range(100)))
        crashed = [number for number, result in enumerate(outcomes) if isinstance(result, WorkerCrashed)]
        answered = [number for number, result in enumerate(outcomes) if result == number]
        assert len(crashed) + len(answered) == 100
        assert 40 in crashed
        runs = Counter(map(int, record.read_text().split()))
        assert max(runs.values()) == 1
        assert set(answered) <= set(runs)
        assert all(verdict_of(outcomes[number]).name == "SIGKILL" for number in crashed)
        assert seen.replica()["restarts"] == 1


async def test_calls_that_never_left_are_sent_again(tmp_path: Path) -> None:
    """A worker that stands still reads nothing; what does not fit into the pipe has not left this process."""
    record = tmp_path / "record"
    bodies = [bytes([number]) * 300_000 for number in range(12)]
    async with scene(HOLDER, config={"record": str(record)}) as seen:
        freeze(seen.replica()["pid"])
        calls = [seen.call("size", number, body) for number, body in enumerate(bodies)]
        await seen.neighbour_ticks()
        os.kill(seen.replica()["pid"], signal.SIGKILL)
        outcomes = await asyncio.gather(*map(outcome, calls))
        crashed = [number for number, result in enumerate(outcomes) if isinstance(result, WorkerCrashed)]
        answered = [number for number, result in enumerate(outcomes) if result == 300_000]
        # A pipe takes 1 MiB at most: three whole calls. One of which a part was written cannot have been run.
        assert crashed == list(range(len(crashed)))
        assert len(crashed) <= 3
        assert len(crashed) + len(answered) == 12
        assert sorted(map(int, record.read_text().split())) == answered
        await seen.until("retried")


async def _kill_some(seen: Scene, times: int, dice: random.Random) -> None:
    """Kills one replica, at random, each time that all are up and have answered something."""
    for kills in range(times):
        await seen.until("ready", 2 + kills)
        await seen.neighbour_ticks(dice.randrange(1, 10))
        replica = seen.replica(dice.randrange(2))
        os.kill(replica["pid"], signal.SIGKILL)
        await seen.until("died", kills + 1)


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_storm_of_kills(seed: int) -> None:
    """64 callers, and replicas that are killed under them: every call is answered, with what is its own."""
    async with scene(careless(), replicas=2, intensity=1000, retries=20) as seen:
        storm = asyncio.create_task(_kill_some(seen, 8, random.Random(seed)))
        made = 0

        async def caller(name: int) -> None:
            nonlocal made
            while not storm.done():
                made += 1
                value = [name, made]
                assert await seen.call("echo", value) == value

        await asyncio.gather(*(caller(name) for name in range(64)))
        await storm
        status = seen.orch.status()["services"]["faulty"]
        assert made > 64
        assert (status["answered"], status["failed"], status["waiting"]) == (made, 0, 0)
        assert [verdict["name"] for verdict in seen.deaths()] == ["SIGKILL"] * 8
        assert sum(replica["restarts"] for replica in status["replicas"]) == 8


async def test_a_storm_under_a_map() -> None:
    async with scene(careless(), replicas=2, intensity=1000, retries=20) as seen:
        storm = asyncio.create_task(_kill_some(seen, 4, random.Random(3)))
        while not storm.done():
            assert await seen.orch.map("faulty.echo", range(2000)) == list(range(2000))
        await storm


# The orchestrator's own death.


@pytest.mark.parametrize("handler", ["idle", "spins", "sleeps", "blocks_the_loop"])
def test_workers_end_by_themselves_when_the_orchestrator_is_killed(handler: str) -> None:
    host = subprocess.Popen([*HOST, handler], stdout=subprocess.PIPE, text=True)
    assert host.stdout is not None
    with host.stdout:
        pids = [int(word) for word in host.stdout.readline().split()]
        assert len(pids) == 2
        handles = [os.pidfd_open(pid) for pid in pids]
        host.kill()
        host.wait()
        # The handlers would go on for a minute.
        for handle in handles:
            assert _ended_within(handle, 4)
            os.close(handle)


def _ended_within(handle: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(seconds * 1000))
