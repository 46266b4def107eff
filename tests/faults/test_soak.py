"""Calls by the hundred thousand while workers are killed: each settles once, and rightly, and nothing grows."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import random
import secrets
import signal
import subprocess
import sys
import time
from array import array
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mlports import Config, Orchestrator, WorkerCrashed
from mlports.runtime.call import Call, Sent
from mlports.runtime.health import Health
from mlports.runtime.lane import Lane
from mlports.runtime.port import Port
from mlports.runtime.process import Process
from mlports.runtime.replica import Replica
from tests import leaks
from tests.faults import run_orchestrator
from tests.faults.run_orchestrator import Killer, Load, children, configuration, is_soaked, mixed, scrambled, soaked
from tests.workers import until

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists() or not hasattr(os, "pidfd_open"), reason="needs Linux: /proc and pidfds"
)

REPLICAS = 4
IN_FLIGHT = 256
GROWTH = 10 << 20  # bytes
GUARDS_GROWTH = 1 << 20  # bytes
KINDS = (Port, Replica, Process, Lane, Health, Call, Sent)


class Size(NamedTuple):
    """How many calls there are; and in seconds: how long half of them take, all may take, and from kill to kill."""

    calls: int
    pause: float
    bound: float
    interval: float


LONG = [pytest.mark.soak, pytest.mark.timeout(1000)]
SIZES = [
    pytest.param(Size(5_000, 0.0012, 120, 0.15), id="short"),
    pytest.param(Size(200_000, 0.0, 900, 0.1), id="quick", marks=LONG),
    pytest.param(Size(200_000, 0.001, 900, 0.1), id="slow", marks=LONG),
]


@pytest.fixture
def dice() -> random.Random:
    """Chance, which MLPORTS_SOAK_SEED repeats as far as the machine's own allows."""
    seed = int(os.environ.get("MLPORTS_SOAK_SEED") or secrets.randbelow(2**31))
    print(f"MLPORTS_SOAK_SEED={seed}")
    return random.Random(seed)


class Footprint(NamedTuple):
    """What an orchestrator at rest takes up: in bytes, and in numbers of things."""

    resident: int
    guard: int
    descriptors: int
    threads: int
    children: int
    objects: Counter[str]


def _objects() -> Counter[str]:
    gc.collect()
    return Counter(type(each).__name__ for each in gc.get_objects() if type(each) in KINDS)


def _resident(pid: int | str) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def _guards() -> list[int]:
    return [pid for pid in children() if Path(f"/proc/{pid}/comm").read_text() == "mlports-guard\n"]


def _footprint() -> Footprint:
    objects = _objects()
    (guard,) = _guards()
    return Footprint(
        _resident("self"),
        _resident(guard),
        len(os.listdir("/proc/self/fd")),
        len(os.listdir("/proc/self/task")),
        len(children()),
        objects,
    )


class Soak:
    """A running orchestrator whose workers are killed, and what is seen of it."""

    def __init__(self, orch: Orchestrator, killer: Killer) -> None:
        self.orch = orch
        self.killer = killer
        self.deaths = 0
        self.retried = 0
        self.counts: Counter[str] = Counter()  # of events
        self.wrong: list[Any] = []  # deaths that were not ours, and failures of the event loop's callbacks
        orch.event_log.listen(self._note)
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self.wrong.append(context))

    def _note(self, event: dict[str, Any]) -> None:
        self.counts[event["event"]] += 1
        if event["event"] == "died":
            verdict = event["verdict"]
            self.deaths += 1
            if (verdict["name"], verdict["cause"]) != ("SIGKILL", "signal") or verdict["pid"] not in self.killer.pids:
                self.wrong.append(event)
        elif event["event"] == "retried":
            self.retried += event["calls"]
        elif event["event"] in ("gave_up", "guard_lost", "log"):
            self.wrong.append(event)

    def status(self, service: str = "soaked") -> dict[str, Any]:
        status: dict[str, Any] = self.orch.status()["services"][service]
        return status

    async def rest(self) -> None:
        """Returns when nothing is under way: all workers are up, and have nothing to do."""

        def rests() -> bool:
            services = self.orch.status()["services"].values()
            replicas = [replica for service in services for replica in service["replicas"]]
            idle = all(each["state"] in ("ready", "standby") and not each["in_flight"] for each in replicas)
            alive = sum(map(is_soaked, children()))  # who is dead may not have been found dead
            return idle and alive == len(replicas) and not any(service["waiting"] for service in services)

        await until(rests, "all workers are up and idle")

    async def footprint(self) -> Footprint:
        """What it takes up at rest, as soon as that is what its workers need."""
        await self.rest()
        await until(lambda: len(_guards()) == 1, "the guard is up")
        services = self.orch.status()["services"].values()
        workers = Counter(replica["state"] for service in services for replica in service["replicas"])
        each = dict.fromkeys(("Port", "Replica", "Process", "Health"), workers.total())
        needed = Counter({**each, "Lane": workers["ready"]})
        end = time.monotonic() + 10
        while (found := _footprint()).objects != needed:  # what is timed holds on to some for a few seconds
            assert time.monotonic() < end, (found, needed)
            await asyncio.sleep(0.1)
        assert found.children == workers.total() + 1
        return found

    async def no_more_than(self, before: Footprint) -> Footprint:
        """The footprint, which is no larger than it was before."""
        after = await self.footprint()
        assert (after.descriptors, after.threads) == (before.descriptors, before.threads)
        assert after.resident - before.resident < GROWTH, (before, after)
        assert after.guard - before.guard < GUARDS_GROWTH, (before, after)
        return after


@asynccontextmanager
async def soak(config: Config, killer: Killer) -> AsyncIterator[Soak]:
    """Runs an orchestrator, and checks that it leaves nothing."""
    before = _objects()
    orch = Orchestrator(config=config)
    seen = Soak(orch, killer)
    await orch.start()
    try:
        yield seen
    finally:
        async with asyncio.timeout(15):
            await orch.stop()
    assert not children()
    assert not seen.wrong
    assert _objects() == before


class Calls:
    """So many calls of one method, and how each came to its end: `ends` has a letter for every one."""

    def __init__(self, seen: Soak, method: str, count: int) -> None:
        self.ends = bytearray(count)
        self.settled = 0
        self.crashed = 0
        self.seconds = 0.0
        self._seen = seen
        self._target = f"soaked.{method}"
        self._numbers = iter(range(count))

    async def make(self, count: int) -> None:
        """Makes so many more, a bounded number at a time; all have an end then."""
        began = time.monotonic()
        numbers = itertools.islice(self._numbers, count)
        with self._seen.killer.at_work():
            async with asyncio.TaskGroup() as group:
                for _ in range(IN_FLIGHT):
                    group.create_task(self._make_some(numbers))
        self.seconds += time.monotonic() - began

    async def _make_some(self, numbers: Iterator[int]) -> None:
        for number in numbers:
            call = self._seen.orch.call(self._target, number)
            call.add_done_callback(self._count)
            try:
                result = await call
            except WorkerCrashed as error:
                self._check(error)
                end = b"c"
            else:
                assert result == scrambled(number)
                end = b"a"
            assert not self.ends[number]
            self.ends[number] = end[0]

    def _count(self, _: object) -> None:
        self.settled += 1

    def _check(self, error: WorkerCrashed) -> None:
        verdict = error.verdict
        assert verdict is not None
        assert (verdict.cause, verdict.name, verdict.status) == ("signal", "SIGKILL", -signal.SIGKILL)
        assert verdict.pid in self._seen.killer.pids
        assert verdict.in_flight
        self.crashed += 1


async def _soak(method: str, size: Size, standby: int, record: Path, dice: random.Random) -> Calls:
    """Makes the calls, and checks all that holds for those that may be repeated and for others alike."""
    killer = Killer(size.interval, dice)
    service = soaked(record, pause=size.pause, replicas=REPLICAS, standby=standby)
    async with asyncio.timeout(size.bound), soak(configuration(soaked=service), killer) as seen:
        calls = Calls(seen, method, size.calls)
        warm_up = size.calls // 5
        await calls.make(warm_up)
        before = await seen.footprint()
        await calls.make(size.calls - warm_up)
        after = await seen.no_more_than(before)

        rate = size.calls / calls.seconds
        print(
            f"{method}: {size.calls:,} calls in {calls.seconds:.1f} s ({rate:,.0f}/s), {killer.kills} kills, "
            f"{seen.retried:,} retried, {calls.crashed:,} crashed; {killer.most} children; {_growth(before, after)}"
        )

        assert calls.settled == size.calls
        assert 0 not in calls.ends
        answered = calls.ends.count(b"a")
        status = seen.status()
        assert (status["state"], status["waiting"]) == ("up", 0)
        assert (status["answered"], status["failed"]) == (answered, calls.crashed)
        assert answered + calls.crashed == size.calls
        assert status["retried"] == seen.retried
        # A worker that was killed dies once, and is started again.
        assert killer.kills == seen.deaths == sum(replica["restarts"] for replica in status["replicas"])
        assert killer.most <= REPLICAS + standby + 1
    return calls


def _growth(before: Footprint, after: Footprint) -> str:
    sizes = (before.resident, after.resident, before.guard, after.guard)
    a, b, c, d = (f"{size / (1 << 20):.1f}" for size in sizes)
    return f"resident {a} → {b} MiB, the guard {c} → {d} MiB; {after.descriptors} descriptors, {after.threads} threads"


@pytest.mark.parametrize("standby", [0, 1])
@pytest.mark.parametrize("size", SIZES)
async def test_calls_that_may_be_repeated(tmp_path: Path, dice: random.Random, size: Size, standby: int) -> None:
    """Every one is answered."""
    calls = await _soak("scramble", size, standby, tmp_path / "record", dice)
    assert calls.crashed == 0


@pytest.mark.parametrize("standby", [0, 1])
@pytest.mark.parametrize("size", SIZES)
async def test_calls_that_may_not_be_repeated(tmp_path: Path, dice: random.Random, size: Size, standby: int) -> None:
    """Every one is answered or has crashed, and none was run twice."""
    calls = await _soak("once", size, standby, tmp_path / "record", dice)
    runs = _runs(tmp_path / "record")
    assert [number for number, count in runs.items() if count > 1] == []
    assert all(number in runs for number, end in enumerate(calls.ends) if end == ord("a"))
    assert set(runs) <= set(range(size.calls))


def _runs(record: Path) -> Counter[int]:
    """How often each call was run that may not be repeated."""
    numbers = array("I", record.read_bytes())
    numbers.byteswap()
    return Counter(numbers)


# -- everything at once

WARM_UP, MEASURED = 20.0, 100.0  # seconds


@pytest.mark.soak
@pytest.mark.timeout(400)
async def test_everything_at_once(tmp_path: Path, dice: random.Random) -> None:
    """Batches, streams, nested calls, cancels, timeouts; recycled and killed workers; and guards that are killed."""
    killer = Killer(0.2, dice)
    record = tmp_path / "record"
    async with asyncio.timeout(300), soak(mixed(record), killer) as seen:
        load = Load(seen.orch, dice, killer.pids)
        with killer.at_work():
            await load.run(WARM_UP)
        before = await seen.footprint()
        with killer.at_work():
            async with asyncio.TaskGroup() as group:
                guards = group.create_task(_kill_guards(seen, dice))
                await load.run(MEASURED)
                guards.cancel()
        after = await seen.no_more_than(before)
        print(f"{killer.kills} kills, {killer.most} children; {_growth(before, after)}; {dict(seen.counts)}")
        for kind, count in sorted(load.ends.items()):
            print(f"  {kind}: {count:,}")
        for service in ("front", "back"):
            status = seen.status(service)
            assert (status["state"], status["waiting"]) == ("up", 0)
        assert seen.counts["recycling"] > 10
        assert seen.counts["guard_restarted"] > 10
    runs = _runs(record)
    assert [number for number, count in runs.items() if count > 1] == []
    assert all(number in runs for number, end in enumerate(load.answered) if end)


async def _kill_guards(seen: Soak, dice: random.Random) -> None:
    """Kills the guard now and then, not more often than it is replaced; each has a successor."""
    for kills in itertools.count(1):
        await asyncio.sleep(dice.uniform(2.1, 6))
        await until(lambda: len(_guards()) == 1, "there is a guard")
        (guard,) = _guards()
        os.kill(guard, signal.SIGKILL)
        await until(lambda: seen.counts["guard_restarted"] == kills, "the guard was replaced")  # noqa: B023
        await until(lambda: len(_guards()) == 1 and _guards() != [guard], "the next one is up")  # noqa: B023


# -- the orchestrator's own death


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_nothing_survives_the_orchestrator(tmp_path: Path, dice: random.Random) -> None:
    """50 orchestrators are killed under load; each time all is gone within 2 s, and what has left its session too."""
    longest = 0.0
    for round_ in range(50):
        before = leaks.snapshot()
        words = [sys.executable, run_orchestrator.__file__, str(tmp_path / f"record-{round_}"), str(dice.randrange(99))]
        host = subprocess.Popen(words, stdout=subprocess.PIPE)
        assert host.stdout is not None
        with host.stdout:
            lines = dice.randrange(1, 9)  # after the first, it starts up
            for _ in range(lines):
                assert host.stdout.readline().strip().isdigit()
            time.sleep(dice.random() * 0.4)  # nothing is waited for: it is to die at any time
            there = len(leaks.snapshot().processes - before.processes)
            host.kill()
            host.wait()
        began = time.monotonic()
        left = leaks.leaks(before, 2.0)
        took = time.monotonic() - began
        assert not left, f"round {round_}: of {there} processes, there are still:\n" + "\n".join(left)
        longest = max(longest, took)
        assert lines == 1 or there > 10
    print(f"the longest took {longest:.2f} s")
