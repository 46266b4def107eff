"""Shadow copies: a share of the calls goes to a candidate too, and the callers never notice, with real workers."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mlports import Orchestrator, ServiceConfig, WorkerError
from mlports.config import ShadowConfig
from tests.services import dispatcher_of, failure, running
from tests.workers import marks, program, until

MODEL = """
@worker.method
def double(x):
    if x < 0:
        raise ValueError(x)
    return 2 * x

@worker.method
def note(place):
    mark(place)
"""

CANDIDATE = """
@worker.method
def double(x):
    if x == 7:
        raise ValueError("no sevens")
    if x == 8:
        os._exit(1)
    return 2 * x if x != 5 else 11

@worker.method
def note(place):
    mark(place)
"""

SLOW = """
@worker.method
def double(x):
    wait_for(current().config["go"])
    return 2 * x
"""


def model(directory: Path, **settings: Any) -> ServiceConfig:
    shadow = ShadowConfig(service="candidate", share=1.0)
    return ServiceConfig(command=program(directory, MODEL, "model"), shadow=shadow, **settings)


def seen(orch: Orchestrator, service: str = "model") -> Any:
    return orch.status()["services"][service]["shadow"]


async def test_what_the_candidate_answers_is_compared_and_not_used(tmp_path: Path) -> None:
    candidate = ServiceConfig(command=program(tmp_path, CANDIDATE, "candidate"))
    async with running(model=model(tmp_path), candidate=candidate) as orch:
        for _ in range(3):
            assert await asyncio.gather(*(orch.call("model.double", n) for n in range(8))) == [2 * n for n in range(8)]
        assert isinstance(await failure(orch.call("model.double", -1)), WorkerError)
        await until(lambda: sum(seen(orch)[kind] for kind in ("same", "different")) == 22, "all were compared")
        assert await orch.call("model.double", 8) == 16
        await until(lambda: seen(orch)["failed"] == 4, "the candidate has crashed")
        told = seen(orch)
        assert told["copied"] == 26
        assert told["different"] == 3 + 1
        assert {each["kind"] for each in told["last"]} <= {"different", "failed"}


async def test_a_candidate_that_is_down_is_not_noticed(tmp_path: Path) -> None:
    candidate = ServiceConfig(command=[sys.executable, "-c", "raise SystemExit(1)"], restart="temporary")
    async with running(model=model(tmp_path), candidate=candidate) as orch:
        await until(lambda: orch.status()["services"]["candidate"]["state"] == "down", "the candidate is down")
        assert await asyncio.gather(*(orch.call("model.double", n) for n in range(50))) == [2 * n for n in range(50)]
        await until(lambda: seen(orch)["failed"] == 50, "all copies failed")


async def test_a_candidate_that_is_slow_and_overloaded_delays_nobody(tmp_path: Path) -> None:
    candidate = ServiceConfig(
        command=program(tmp_path, SLOW, "candidate"), config={"go": str(tmp_path / "go")}, queue=2, timeout=None
    )
    async with running(model=model(tmp_path, timeout=None), candidate=candidate) as orch:
        began = time.monotonic()
        for n in range(100):
            assert await orch.call("model.double", n) == 2 * n
        assert await orch.map("model.double", range(100)) == [2 * n for n in range(100)]
        assert time.monotonic() - began < 5
        assert dispatcher_of(orch, "candidate").waiting <= 2
        assert seen(orch)["same"] == 0
        (tmp_path / "go").touch()
        await until(lambda: seen(orch)["same"] >= 1, "the first copies were answered")


@pytest.mark.parametrize("kind", ["broadcast", "batch"])
async def test_every_kind_of_call_is_answered_by_the_model_alone(tmp_path: Path, kind: str) -> None:
    settings: dict[str, Any] = {"route": "broadcast", "replicas": 2} if kind == "broadcast" else {}
    candidate = ServiceConfig(command=program(tmp_path, CANDIDATE, "candidate"))
    async with running(model=model(tmp_path, **settings), candidate=candidate) as orch:
        assert await orch.call("model.double", 5) == ([10, 10] if kind == "broadcast" else 10)
        orch.cast("model.note", str(tmp_path / "noted"))
        await until(lambda: len(marks(tmp_path / "noted")) >= len(settings or [1]), "the casts arrived")


async def test_a_copy_is_not_copied_again(tmp_path: Path) -> None:
    """Two services that are each other's shadow would call each other for ever."""
    services: dict[str, Any] = {
        name: ServiceConfig(command=program(tmp_path, MODEL, name), shadow=ShadowConfig(service=other, share=1.0))
        for name, other in (("model", "candidate"), ("candidate", "model"))
    }
    async with running(**services) as orch:
        assert await orch.call("model.double", 4) == 8
        await until(lambda: seen(orch)["same"] == 1, "the copy was answered")
        assert seen(orch, "candidate")["copied"] == 0
        assert await orch.call("candidate.double", 4) == 8
        await until(lambda: seen(orch, "candidate")["same"] == 1, "the copy was answered")
        assert seen(orch)["copied"] == 1
