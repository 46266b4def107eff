"""Random calls, cancels, timeouts and crashes: each call that is accepted is settled once, and rightly."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mlports import (
    BatchConfig,
    BreakerConfig,
    CallCycle,
    CircuitOpen,
    DeadlineExceeded,
    HedgeConfig,
    Orchestrator,
    Overloaded,
    PoisonRequest,
    ServiceConfig,
    ServiceDown,
    WorkerCrashed,
    WorkerError,
)
from tests.services import dispatcher_of, outcomes, running
from tests.workers import program, until

MIXED = """
@worker.method(idempotent=True)
def quick(x):
    return 3 * x

@worker.method
def once(x):
    time.sleep(0.002)
    return 3 * x

@worker.method(batch=True, idempotent=True)
def batched(xs):
    return [3 * x for x in xs]

@worker.method(batch=True, idempotent=True)
def fragile(xs):
    if -1 in xs:
        os._exit(9)
    return [3 * x for x in xs]

@worker.method(idempotent=True)
def raises(x):
    raise ValueError(x)
"""

# What a call may come to besides its result.
EXPECTED = (DeadlineExceeded, Overloaded, WorkerCrashed, ServiceDown, asyncio.CancelledError)

SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {"replicas": 2},
    "standby": {"replicas": 2, "standby": 1, "route": "round_robin", "weights": [2, 1]},
    "hash": {"replicas": 3, "route": "hash", "key": 0},
    "broadcast": {"replicas": 2, "route": "broadcast"},
    "limits": {"replicas": 2, "concurrency": 5, "queue": 50, "hedge": HedgeConfig(after=0.005)},
    "adaptive": {"replicas": 2, "concurrency": "auto", "max_requests": 100},
    "breaker": {"replicas": 2, "breaker": BreakerConfig(failures=0.6, of=10, pause=0.05)},
}


def _count(settled: Counter[int], number: int, _: object) -> None:
    settled[number] += 1


def _judge(orch: Orchestrator, target: str, x: int, result: Any, copies: bool) -> None:
    method = target.partition(".")[2]
    if isinstance(result, BaseException):
        if isinstance(result, CircuitOpen):
            assert orch.status()["services"]["s"]["breaker"] is not None
        elif isinstance(result, PoisonRequest):
            # Three kills of ours may happen to hit the worker while it has the same call: then it looks guilty.
            by_us = result.verdict is None or result.verdict.status == -signal.SIGKILL
            assert (method, x) == ("fragile", -1) or by_us, result
        elif method == "raises":
            assert isinstance(result, (WorkerError, *EXPECTED)), result
        else:
            assert isinstance(result, EXPECTED), (target, x, result)
            assert not isinstance(result, CallCycle)
    else:
        assert method != "raises"
        assert result == 3 * x or (copies and set(result) == {3 * x}), (target, x, result)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("name", SETTINGS)
async def test_every_call_is_settled_once_and_rightly(tmp_path: Path, name: str, seed: int) -> None:
    chance = random.Random(f"{name} {seed}")
    settings = {"batch": BatchConfig(max_size=chance.choice([2, 16, "auto"]), max_wait=0.002), **SETTINGS[name]}
    service = ServiceConfig(command=program(tmp_path, MIXED, "mixed"), **{"retry_budget": None, **settings})
    async with running(intensity=1000, s=service) as orch:
        settled: Counter[int] = Counter()
        calls: list[asyncio.Future[Any]] = []
        made: list[tuple[str, int]] = []
        dispatcher = dispatcher_of(orch, "s")
        for _turn in range(60):
            for _ in range(chance.randrange(25)):
                method = chance.choice(["quick", "quick", "once", "batched", "batched", "fragile", "raises"])
                x = -1 if method == "fragile" and chance.random() < 0.05 else chance.randrange(1000)
                options: dict[str, Any] = {}
                if chance.random() < 0.2:
                    options["priority"] = chance.randrange(3)
                if chance.random() < 0.2:
                    options["tag"] = chance.choice("ab")
                timeout = chance.choice([None, None, 5, 0.02, 0.001])
                call = orch.call(f"s.{method}", x, timeout=timeout, **options)
                call.add_done_callback(partial(_count, settled, len(calls)))
                calls.append(call)
                made.append((f"s.{method}", x))
                if chance.random() < 0.05:
                    chance.choice(calls[-20:]).cancel()
            assert all(lane.open or lane.port.state != "ready" for lane in dispatcher.ready)
            if chance.random() < 0.1 and dispatcher.ready:
                os.kill(chance.choice(dispatcher.ready).port.pid, signal.SIGKILL)
            await asyncio.sleep(chance.choice([0, 0, 0.001, 0.01]))
        results = await asyncio.wait_for(outcomes(calls), 30)
        await asyncio.sleep(0)
        assert len(settled) == len(calls)
        assert set(settled.values()) == {1}
        for (target, x), result in zip(made, results, strict=True):
            _judge(orch, target, x, result, name == "broadcast")
        await until(lambda: dispatcher.ready, "somebody is there again")
