"""Workers that hang, grow, wear out or stand by: what is done about each, and that no call is lost over it."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mlports import (
    DeadlineExceeded,
    HeartbeatConfig,
    ServiceDown,
    WarmUpConfig,
    WorkerCrashed,
)
from tests.faults.scene import Scene, outcome, scene, verdict_of
from tests.workers import marks, program, until

WORKER = """
import re
held = []
lock = threading.Lock()

@worker.method(idempotent=True)
def echo(value):
    return value

@worker.method(idempotent=True)
def pid():
    return os.getpid()

@worker.method
def sleep(seconds):
    time.sleep(seconds)
    return seconds

@worker.method
async def sleep_well(seconds):
    await asyncio.sleep(seconds)
    return seconds

@worker.method
def spins(seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return seconds

@worker.method
def holds_the_interpreter(length):
    re.match(r"(a+)+$", "a" * length + "b")
    return length

@worker.method
def sleeps_marked(path):
    mark(path)
    time.sleep(600)

@worker.method
def locks_up():
    lock.acquire()
    lock.acquire()

@worker.method
def stops():
    os.kill(os.getpid(), signal.SIGSTOP)

@worker.method
def grows(mebibytes):
    held.append(b"x" * (mebibytes << 20))
    return len(held)

@worker.method
def grows_in_a_child(mebibytes):
    code = f"x = b'x' * ({mebibytes} << 20); print('grown', flush=True); import time; time.sleep(600)"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    child.stdout.readline()
    held.append(child)

@worker.method
def notes(path, text):
    mark(path, text)
    return text

@worker.method
def refuses(why):
    raise Failure("failed_precondition", why)
"""

BARE = """
import struct, sys, time
import msgpack

while header := sys.stdin.buffer.read(4):
    _, number, method, params, *_ = msgpack.unpackb(sys.stdin.buffer.read(struct.unpack(">I", header)[0]))
    if method == "sleep":
        time.sleep(params[0])
    error = {"code": "unimplemented", "message": "no"} if method.startswith("$/") else None
    answer = msgpack.packb([1, number, error, None if error else params[0]])
    sys.stdout.buffer.write(struct.pack(">I", len(answer)) + answer)
    sys.stdout.buffer.flush()
"""


def worker(tmp_path: Path, concurrency: int = 1) -> list[str]:
    return program(tmp_path, WORKER, "healthy", concurrency)


async def _died(seen: Scene) -> dict[str, Any]:
    (death,) = await seen.until("died")
    verdict: dict[str, Any] = death["verdict"]
    return verdict


# -- hangs


async def test_a_call_past_its_timeout_and_its_grace(tmp_path: Path) -> None:
    async with scene(worker(tmp_path), grace=0.2) as seen:
        error = await outcome(seen.call("locks_up", timeout=0.1))
        assert type(error) is DeadlineExceeded
        verdict = await _died(seen)
        assert (verdict["cause"], verdict["name"], verdict["status"]) == ("hang", "hang", -signal.SIGKILL)
        assert "it was at locks_up for 0.3" in verdict["detail"]
        assert "(grace)" in verdict["detail"]
        assert any("in locks_up" in line for line in verdict["stacks"])
        assert not any("in locks_up" in line for line in verdict["stderr"]), "the dump is no last word"
        assert await seen.call("echo", 1) == 1
        assert seen.replica()["restarts"] == 1


async def test_those_behind_a_hung_call_are_told(tmp_path: Path) -> None:
    async with scene(worker(tmp_path), grace=0.1) as seen:
        hung = outcome(seen.call("locks_up", timeout=0.1))
        retried, lost = seen.call("echo", 1), outcome(seen.call("sleep", 0))
        assert type(await hung) is DeadlineExceeded
        assert await retried == 1
        error = await lost
        # Whether it was on its way already is a matter of the window.
        assert error == 0 or (type(error) is WorkerCrashed and verdict_of(error).cause == "hang")


async def test_a_cancelled_call_that_goes_on(tmp_path: Path) -> None:
    async with scene(worker(tmp_path), grace=0.1) as seen:
        call = seen.call("sleeps_marked", str(tmp_path / "mark"))
        await until((tmp_path / "mark").exists, "it is at it")
        call.cancel()
        assert (await _died(seen))["cause"] == "hang"


async def test_one_that_waits_behind_a_long_legal_call_is_not_blamed(tmp_path: Path) -> None:
    async with scene(worker(tmp_path), grace=0.05) as seen:
        long = seen.call("sleep", 0.8, timeout=None)
        assert type(await outcome(seen.call("echo", 1, timeout=0.1))) is DeadlineExceeded
        await until(lambda: seen.replica()["in_flight"] == 1, "the one that had not begun is answered")
        assert await long == 0.8
        assert seen.replica()["restarts"] == 0


async def test_a_bare_worker_that_is_at_a_long_legal_call(tmp_path: Path) -> None:
    """It knows nothing of cancelling, and what waits in its pipe is not its fault."""
    (tmp_path / "bare.py").write_text(BARE)
    async with scene([sys.executable, str(tmp_path / "bare.py")], grace=0.05) as seen:
        long = seen.call("sleep", 0.8, timeout=None)
        assert type(await outcome(seen.call("echo", 1, timeout=0.1))) is DeadlineExceeded
        assert await long == 0.8
        assert await seen.call("echo", 2) == 2
        assert seen.replica()["restarts"] == 0


async def test_one_that_heeds_a_cancel_lives(tmp_path: Path) -> None:
    async with scene(worker(tmp_path), grace=0.1) as seen:
        assert type(await outcome(seen.call("sleep_well", 600, timeout=0.05))) is DeadlineExceeded
        began = seen.replica()["pid"]
        await asyncio.gather(*(seen.call("sleep_well", 0.1) for _ in range(3)))
        assert seen.replica()["pid"] == began


async def test_one_whose_turn_came_late_has_its_whole_grace(tmp_path: Path) -> None:
    """It begins with the call that nobody wants any more long after it was told so; the grace counts from then."""
    (tmp_path / "bare.py").write_text(BARE)
    async with scene([sys.executable, str(tmp_path / "bare.py")], grace=0.5) as seen:
        long = seen.call("sleep", 0.9, timeout=None)
        assert type(await outcome(seen.call("sleep", 0.3, timeout=0.1))) is DeadlineExceeded
        assert await long == 0.9
        assert await seen.call("echo", 2) == 2
        assert seen.replica()["restarts"] == 0


async def test_a_long_legal_call_is_left_alone(tmp_path: Path) -> None:
    heartbeat = HeartbeatConfig(interval=0.05, timeout=0.2)
    async with scene(worker(tmp_path), grace=0.05, heartbeat=heartbeat) as seen:
        assert await seen.call("sleep", 0.8, timeout=None) == 0.8
        assert await seen.call("spins", 0.8) == 0.8
        assert seen.replica()["restarts"] == 0


async def test_a_legal_call_that_holds_the_interpreter_is_left_alone(tmp_path: Path) -> None:
    """It answers no pings, but it works, and somebody waits for it."""
    heartbeat = HeartbeatConfig(interval=0.05, timeout=0.1)
    async with scene(worker(tmp_path), heartbeat=heartbeat) as seen:
        began = time.monotonic()
        length = 18
        while time.monotonic() - began < 0.6 and length < 40:  # however quick the machine is
            began, length = time.monotonic(), length + 1
            assert await seen.call("holds_the_interpreter", length, timeout=60) == length
        assert seen.replica()["restarts"] == 0


@pytest.mark.parametrize("idle", [True, False], ids=["idle", "at a call"])
async def test_one_that_stops_answering_pings(tmp_path: Path, idle: bool) -> None:
    heartbeat = HeartbeatConfig(interval=0.05, timeout=0.2)
    async with scene(worker(tmp_path), heartbeat=heartbeat) as seen:
        if idle:
            os.kill(seen.replica()["pid"], signal.SIGSTOP)
        else:
            call = outcome(seen.call("stops", timeout=None))
        verdict = await _died(seen)
        assert verdict["cause"] == "hang"
        assert "it answered no ping for 0.2 s (heartbeat)" in verdict["detail"]
        if not idle:
            assert verdict_of(await call).cause == "hang"
        assert await seen.call("echo", 1) == 1


async def test_the_stacks_of_one_that_holds_the_interpreter(tmp_path: Path) -> None:
    async with scene(worker(tmp_path), grace=0.1) as seen:
        assert type(await outcome(seen.call("holds_the_interpreter", 60, timeout=0.1))) is DeadlineExceeded
        verdict = await _died(seen)
        assert any("in holds_the_interpreter" in line for line in verdict["stacks"])
        text = next(event["text"] for event in seen.events if event["event"] == "died")
        assert "in holds_the_interpreter" in text


async def test_a_hang_in_the_set_up(tmp_path: Path) -> None:
    body = "@worker.setup\ndef load(config):\n    threading.Event().wait()\n"
    async with scene(program(tmp_path, body, "slow"), start_timeout=1.0) as seen:
        verdict = await _died(seen)
        assert verdict["cause"] == "start_timeout"
        assert any("in load" in line for line in verdict["stacks"])


# -- warm-up


async def test_warm_up(tmp_path: Path) -> None:
    noted = tmp_path / "notes"
    warm_up = [WarmUpConfig(method="notes", params=[str(noted), "first"]), WarmUpConfig(method="echo", params=[1])]
    async with scene(worker(tmp_path), warm_up=warm_up) as seen:
        await seen.until("ready")
        assert marks(noted) == ["first"]
        assert seen.orch.status()["services"]["faulty"]["answered"] == 0, "a warm-up is no call"
        os.kill(seen.replica()["pid"], signal.SIGKILL)
        await seen.until("ready", 2)
        assert marks(noted) == ["first", "first"]


async def test_a_warm_up_that_fails(tmp_path: Path) -> None:
    warm_up = [WarmUpConfig(method="refuses", params=["there is no model"])]
    async with scene(worker(tmp_path), warm_up=warm_up) as seen:
        verdict = await _died(seen)
        assert verdict["cause"] == "warm_up"
        assert "refuses answered failed_precondition: there is no model" in verdict["detail"]
        assert type(await outcome(seen.call("echo", 1))) is ServiceDown


async def test_a_warm_up_that_takes_too_long(tmp_path: Path) -> None:
    warm_up = [WarmUpConfig(method="sleep", params=[600])]
    async with scene(worker(tmp_path), warm_up=warm_up, start_timeout=1.0) as seen:
        verdict = await _died(seen)
        assert verdict["cause"] == "start_timeout"
        assert "did not end its warm-up within 1 s" in verdict["detail"]
        assert any("in sleep" in line for line in verdict["stacks"])


# -- memory

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the size of a process group is read from /proc")


@LINUX
async def test_one_that_grows_too_large_finishes_what_it_is_at(tmp_path: Path) -> None:
    async with scene(worker(tmp_path, concurrency=2), memory_limit=128 << 20) as seen:
        at_work = seen.call("sleep_well", 1.5)
        assert await seen.call("grows", 110) == 1
        verdict = await _died(seen)
        assert await at_work == 1.5
        assert verdict["cause"] == "memory_limit"
        assert "over its limit of 128 MiB (memory_limit); it finished what it was at" in verdict["detail"]
        # What is smaller than the orchestrator ever was cannot be told from it.
        assert verdict["peak_memory"] is None or verdict["peak_memory"] > 100 << 20
        assert await seen.call("echo", 1) == 1
        assert seen.replica()["restarts"] == 1


@LINUX
async def test_one_that_is_too_large_and_worn_out_as_well(tmp_path: Path) -> None:
    """Its replacement takes over from one that gets no more calls already."""
    command = worker(tmp_path, concurrency=4)
    async with scene(command, memory_limit=128 << 20, max_requests=4, replicas=1) as seen:
        at_work = seen.call("sleep_well", 4.0)
        soon_done = [seen.call("sleep_well", 2.0), seen.call("sleep_well", 2.0)]
        await seen.call("grows", 110)
        await until(lambda: seen.replica()["state"] == "draining", "it is drained")
        assert await asyncio.gather(*soon_done) == [2.0, 2.0]
        assert await seen.call("echo", 1) == 1
        assert await at_work == 4.0
        await until(lambda: seen.orch.status()["services"]["faulty"]["state"] == "up", "it is up")


@LINUX
async def test_one_that_is_far_too_large_is_killed(tmp_path: Path) -> None:
    async with scene(worker(tmp_path, concurrency=2), memory_limit=128 << 20) as seen:
        at_work = outcome(seen.call("sleep_well", 600))
        await outcome(seen.call("grows", 300))  # it may be looked at before it is through with that
        error = await at_work
        assert type(error) is WorkerCrashed
        assert verdict_of(error).cause == "memory_limit"
        assert "and was killed" in verdict_of(error).detail


@LINUX
async def test_the_whole_process_group_counts(tmp_path: Path) -> None:
    async with scene(worker(tmp_path), memory_limit=128 << 20) as seen:
        await outcome(seen.call("grows_in_a_child", 300))
        assert (await _died(seen))["cause"] == "memory_limit"


# -- standby


async def test_one_that_stands_by_takes_a_dead_ones_place(tmp_path: Path) -> None:
    async with scene(worker(tmp_path), standby=1) as seen:
        first = await seen.call("pid")
        states = {replica["state"]: replica["pid"] for replica in map(seen.replica, (0, 1))}
        assert states["ready"] == first
        os.kill(first, signal.SIGKILL)
        await seen.until("promoted")
        assert await seen.call("pid") == states["standby"]
        await seen.until("ready", 3)
        assert {seen.replica(0)["state"], seen.replica(1)["state"]} == {"ready", "standby"}
        assert await seen.call("pid") == states["standby"], "the one that was restarted stands by now"


async def test_one_that_stands_by_may_die(tmp_path: Path) -> None:
    async with scene(worker(tmp_path), standby=1) as seen:
        used = await seen.call("pid")
        (standby,) = (r["pid"] for r in map(seen.replica, (0, 1)) if r["state"] == "standby")
        os.kill(standby, signal.SIGKILL)
        await seen.until("ready", 3)
        assert await seen.call("pid") == used
        assert not [event for event in seen.events if event["event"] == "promoted"]


# -- recycling


@pytest.mark.parametrize("standby", [0, 1])
async def test_recycling_after_so_many_calls_loses_none(tmp_path: Path, standby: int) -> None:
    async with scene(worker(tmp_path), max_requests=50, replicas=2, standby=standby, intensity=0) as seen:
        for start in range(0, 1000, 100):
            calls = [seen.call("echo", number) for number in range(start, start + 100)]
            assert await asyncio.gather(*calls) == list(range(start, start + 100))
        await seen.until("recycling")
        recycled = await seen.until("stopped")
        assert "(it was recycled: it has answered " in recycled[0]["verdict"]["detail"]
        assert "calls (max_requests))" in recycled[0]["verdict"]["detail"]
        assert seen.deaths() == []
        assert {seen.replica(number)["restarts"] for number in (0, 1)} == {0}


async def test_a_replacement_comes_first(tmp_path: Path) -> None:
    async with scene(worker(tmp_path), max_age=0.5) as seen:
        old = await seen.call("pid")
        at_work = seen.call("sleep", 1.0)
        await seen.until("ready", 2)
        assert await seen.call("pid") != old, "it does not wait for the old one"
        assert await at_work == 1.0
        await seen.until("stopped")
        order = [event["event"] for event in seen.events][:5]
        assert order == ["starting", "ready", "recycling", "starting", "ready"]


async def test_a_replacement_that_does_not_come_up(tmp_path: Path) -> None:
    """The old one stays, and nothing is counted as a crash."""
    command = worker(tmp_path)
    async with scene(command, max_requests=5, intensity=0) as seen:
        (tmp_path / "healthy.py").write_text("raise SystemExit('there is a mistake in it')")
        pids = [await seen.call("pid") for _ in range(20)]
        (death,) = await seen.until("died")
        assert "there is a mistake in it" in death["text"]
        assert {*pids, await seen.call("pid")} == {pids[0]}
        assert seen.orch.status()["services"]["faulty"]["state"] == "up"


async def test_a_crash_while_the_replacement_starts(tmp_path: Path) -> None:
    async with scene(worker(tmp_path), max_requests=5, start_timeout=20) as seen:
        for _ in range(5):
            await seen.call("echo", 1)
        await seen.until("recycling")
        os.kill(seen.replica()["pid"], signal.SIGKILL)
        assert await seen.call("echo", 2) == 2
        assert len(seen.deaths()) == 1
        await until(lambda: seen.replica()["state"] == "ready", "it is restarted")


async def test_a_new_worker_has_an_age_of_its_own(tmp_path: Path) -> None:
    """What its predecessor would have been replaced for is no reason to replace it."""
    async with scene(worker(tmp_path, concurrency=2), max_requests=5, max_age=2.0) as seen:
        at_work = seen.call("sleep_well", 2.5)
        for _ in range(5):
            await seen.call("echo", 1)
        await seen.until("ready", 2)
        recycled = time.monotonic()
        await seen.until("recycling", 2)
        assert time.monotonic() - recycled > 1.7
        assert await at_work == 2.5


async def test_a_crash_while_the_one_that_was_replaced_is_still_at_work(tmp_path: Path) -> None:
    """Its successor is started again at once, and its call is not lost."""
    async with scene(worker(tmp_path), max_age=0.5) as seen:
        at_work = seen.call("sleep", 3.0)
        await seen.until("ready", 2)
        os.kill(await seen.call("pid"), signal.SIGKILL)
        await seen.until("restarting")
        assert await seen.call("echo", 1) == 1
        assert not at_work.done()
        assert await at_work == 3.0


async def test_a_stop_while_the_one_that_was_replaced_is_still_at_work(tmp_path: Path) -> None:
    async with scene(worker(tmp_path), max_age=0.5, shutdown=0.3) as seen:
        at_work = outcome(seen.call("sleep", 600))
        await seen.until("ready", 2)
        os.kill(await seen.call("pid"), signal.SIGKILL)
        await seen.until("restarting")
        seen.stopped = True
        await seen.orch.stop()
        assert type(await at_work) is WorkerCrashed
