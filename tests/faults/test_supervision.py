"""Which deaths are followed by a restart, when a supervisor gives up, and what its service says from then on."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from mlports import ServiceDown, WorkerCrashed
from tests.faults.scene import CARELESS, careless, faulty, outcome, scene, verdict_of


async def test_more_deaths_than_the_intensity_allows() -> None:
    async with scene(faulty("exits-1"), intensity=2) as seen:
        for restarts in range(3):
            error = await outcome(seen.call("go"))
            assert type(error) is WorkerCrashed
            assert verdict_of(error).restarts == restarts
        (gave_up,) = await seen.until("gave_up")
        assert len(seen.deaths()) == 3

        error = await outcome(seen.call("go"))
        assert type(error) is ServiceDown
        assert gave_up["text"] in str(error)
        assert "more than 2 restarts within 10 s (reached_max_restart_intensity); the last: " in str(error)
        assert "exited with status 1" in str(error)
        assert "CUDA out of memory" in str(error)
        status = seen.orch.status()["services"]["faulty"]
        assert (status["state"], status["reason"]) == ("down", gave_up["text"])
        assert seen.replica()["restarts"] == 2
        assert seen.replica()["pid"] is None


async def test_calls_that_wait_when_the_supervisor_gives_up() -> None:
    async with scene(faulty("exits-1"), intensity=0, replicas=2) as seen:
        calls = [outcome(seen.call("go")) for _ in range(300)]
        outcomes = await asyncio.gather(*calls)
        assert {type(error) for error in outcomes} <= {WorkerCrashed, ServiceDown}
        assert WorkerCrashed in map(type, outcomes)
        await seen.until("gave_up")
        assert seen.orch.status()["services"]["faulty"]["waiting"] == 0
        assert all(replica["pid"] is None for replica in seen.orch.status()["services"]["faulty"]["replicas"])


RESTARTS = [  # restart, how it ends, whether it is started again
    ("permanent", "exits-0", True),
    ("permanent", "exits-1", True),
    ("transient", "exits-0", False),
    ("transient", "exits-1", True),
    ("transient", "kills-itself", True),
    ("transient", "empty-frame", True),
    ("temporary", "exits-0", False),
    ("temporary", "exits-1", False),
    ("temporary", "kills-itself", False),
]


@pytest.mark.parametrize(("restart", "fault", "again"), RESTARTS)
async def test_who_is_started_again(restart: str, fault: str, again: bool) -> None:
    async with scene(faulty(fault), restart=restart) as seen:
        verdict = verdict_of(await outcome(seen.call("go")))
        if again:
            assert await seen.call("echo", 1) == 1
            assert seen.replica()["restarts"] == 1
        else:
            error = await outcome(seen.call("echo", 1))
            assert type(error) is ServiceDown
            assert f"every replica has ended, and restart is {restart!r}" in str(error)
            assert verdict.detail in str(error)
            assert seen.replica()["restarts"] == 0
            assert [event["event"] for event in seen.events if event["event"] == "restarting"] == []


async def test_the_other_replicas_of_a_temporary_service_go_on() -> None:
    async with scene(careless(), restart="temporary", replicas=2) as seen:
        error = await outcome(seen.call("exits", 1))
        assert type(error) is WorkerCrashed
        survivor = seen.replica(1 - (verdict_of(error).replica or 0))
        assert await asyncio.gather(*(seen.call("pid") for _ in range(10))) == [survivor["pid"]] * 10
        assert seen.orch.status()["services"]["faulty"]["state"] == "up"


async def test_a_program_that_has_gone_when_it_is_to_be_restarted(tmp_path: Path) -> None:
    program = tmp_path / "worker"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' '{CARELESS}'\n")
    program.chmod(0o755)
    async with scene([str(program)], intensity=2) as seen:
        assert await seen.call("echo", 1) == 1
        program.unlink()
        os.kill(seen.replica()["pid"], signal.SIGKILL)
        (gave_up,) = await seen.until("gave_up")
        assert [verdict["name"] for verdict in seen.deaths()] == ["SIGKILL", "spawn", "spawn"]
        assert f"cannot start '{program}': no such program" in gave_up["text"]
        error = await outcome(seen.call("echo", 1))
        assert type(error) is ServiceDown
        assert "no such program" in str(error)


async def test_a_restart_that_does_not_come_up_counts() -> None:
    async with scene(faulty("exits-before-hello"), intensity=5) as seen:
        await seen.until("gave_up")
        # A first start that fails is not tried again, as with OTP.
        assert len(seen.deaths()) == 1
