"""Supervision trees of real processes: strategies, nesting, escalation, programs, and OTP's calls about children."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from mlports import (
    BackoffConfig,
    Config,
    NotRunning,
    Orchestrator,
    ProgramConfig,
    ServiceConfig,
    ServiceDown,
    StartFailed,
    SupervisorConfig,
)
from mlports.core import supervision
from tests.faults.scene import NEIGHBOUR, faulty
from tests.workers import until

SLEEPER = [sys.executable, "-c", "import time; print('at work', flush=True); time.sleep(600)"]
WORKER = [sys.executable, str(NEIGHBOUR)]


def worker(**settings: Any) -> ServiceConfig:
    """A service that works."""
    return ServiceConfig(command=WORKER, **settings)


class Seen:
    """An orchestrator and all its events."""

    def __init__(self, orch: Orchestrator) -> None:
        self.orch = orch
        self.events: list[dict[str, Any]] = []
        orch.event_log.listen(self.events.append)

    def said(self, *names: str) -> list[str]:
        """The events of these names, as `name who`."""
        return [f"{event['event']} {_who(event)}" for event in self.events if event["event"] in names]

    def pid(self, service: str, replica: int = 0) -> int:
        pid: int = self.orch.status()["services"][service]["replicas"][replica]["pid"]
        return pid

    def program(self, name: str) -> dict[str, Any]:
        status: dict[str, Any] = self.orch.status()["programs"][name]
        return status

    def kill(self, service: str, replica: int = 0) -> None:
        os.kill(self.pid(service, replica), signal.SIGKILL)

    async def until(self, name: str, who: str, count: int = 1) -> None:
        """Returns when there were so many events of this name about this one."""
        await until(lambda: self.said(name).count(f"{name} {who}") >= count, f"{who} is {name} ({count})")


def _who(event: dict[str, Any]) -> str:
    if "service" in event:
        return f"{event['service']}/{event['replica']}" if "replica" in event else str(event["service"])
    return str(event.get("program") or event.get("supervisor"))


@asynccontextmanager
async def tree(**tables: Any) -> AsyncIterator[Seen]:
    """A running orchestrator with these tables of a configuration."""
    orch = Orchestrator(config=Config(**tables))
    seen = Seen(orch)
    async with orch:
        yield seen


async def test_children_start_in_order_and_stop_in_reverse() -> None:
    services = {"a": worker(replicas=2), "b": worker()}
    config = SupervisorConfig(strategy="rest_for_one", children=["p", "a", "b"])
    async with tree(supervisor=config, service=services, program={"p": ProgramConfig(command=SLEEPER)}) as seen:
        order = ["p", "a/0", "a/1", "b/0"]
        assert seen.said("starting", "ready") == [f"{what} {who}" for who in order for what in ("starting", "ready")]
    assert seen.said("stopped") == [f"stopped {who}" for who in reversed(order)]


async def test_one_for_all() -> None:
    services = {"a": worker(), "b": worker(), "apart": worker(restart="temporary")}
    supervisor = SupervisorConfig(strategy="one_for_all")
    async with tree(supervisor=supervisor, service=services) as seen:
        before = {name: seen.pid(name) for name in services}
        seen.kill("b")
        await seen.until("ready", "b/0", 2)
        assert seen.said("ready")[3:] == ["ready a/0", "ready b/0"]
        assert seen.pid("a") != before["a"]
        assert await seen.orch.call("a.tick", 1) == 1
        # OTP forgets a temporary child when all are restarted.
        error = (await asyncio.gather(seen.orch.call("apart.tick", 1), return_exceptions=True))[0]
        assert type(error) is ServiceDown
        assert "every replica has ended, and restart is 'temporary'" in str(error)


async def test_rest_for_one() -> None:
    services = {"a": worker(), "b": worker(), "c": worker()}
    async with tree(supervisor=SupervisorConfig(strategy="rest_for_one"), service=services) as seen:
        first, last = seen.pid("a"), seen.pid("c")
        seen.kill("b")
        await seen.until("ready", "c/0", 2)
        assert seen.pid("a") == first
        assert seen.pid("c") != last
        assert seen.said("ready")[3:] == ["ready b/0", "ready c/0"]


async def test_services_that_nobody_names_go_down_alone() -> None:
    services = {"good": worker(), "bad": ServiceConfig(command=faulty("exits-1"))}
    async with tree(supervisor=SupervisorConfig(intensity=0), service=services) as seen:
        await asyncio.gather(seen.orch.call("bad.go"), return_exceptions=True)
        await seen.until("gave_up", "bad")
        assert await seen.orch.call("good.tick", 1) == 1
        assert seen.orch.status()["services"]["bad"]["state"] == "down"


async def test_escalation() -> None:
    """A supervisor that gives up is restarted by its own, until that gives up as well: then all is down."""
    services = {"a": worker(), "b": worker(), "apart": worker()}
    below = SupervisorConfig(children=["a", "b"], intensity=0)
    root = SupervisorConfig(children=["below", "apart"], intensity=1)
    async with tree(supervisor=root, supervisors={"below": below}, service=services) as seen:
        other = seen.pid("b")
        waiting = None
        seen.kill("a")
        await seen.until("gave_up", "below")
        waiting = asyncio.ensure_future(seen.orch.call("a.tick", 7))  # it waits until the supervisor is restarted
        await seen.until("ready", "b/0", 2)
        assert await waiting == 7
        assert seen.pid("b") != other
        assert "restarting below" in seen.said("restarting")
        assert seen.said("gave_up") == ["gave_up below"]
        seen.kill("a")
        await seen.until("gave_up", "mlports")
        for service in services:
            error = (await asyncio.gather(seen.orch.call(f"{service}.tick", 1), return_exceptions=True))[0]
            assert type(error) is ServiceDown
            assert "the root supervisor gave up: more than 1 restarts within 10 s" in str(error)
        await until(lambda: seen.orch.supervisor("mlports").ended, "the root has ended")
    assert seen.events[-1]["event"] == "stopped" or "stopping" in {event["event"] for event in seen.events}


async def test_a_transient_supervisor_that_gives_up_is_not_restarted() -> None:
    below = SupervisorConfig(children=["a"], intensity=0, restart="transient")
    root = SupervisorConfig(children=["below", "b"])
    async with tree(supervisor=root, supervisors={"below": below}, service={"a": worker(), "b": worker()}) as seen:
        seen.kill("a")
        await seen.until("gave_up", "a")
        error = (await asyncio.gather(seen.orch.call("a.tick", 1), return_exceptions=True))[0]
        assert type(error) is ServiceDown
        assert "more than 0 restarts within 10 s (reached_max_restart_intensity)" in str(error)
        assert await seen.orch.call("b.tick", 1) == 1


async def test_significant_children_end_their_supervisor() -> None:
    job = [sys.executable, "-c", "import sys; sys.stdin.read()"]  # its input is empty: it ends at once, with status 0
    programs = {"job": ProgramConfig(command=job, restart="transient", significant=True)}
    below = SupervisorConfig(children=["a", "job"], auto_shutdown="any_significant", restart="temporary")
    async with tree(supervisors={"below": below}, service={"a": worker(), "b": worker()}, program=programs) as seen:
        await seen.until("gave_up", "a")
        assert "auto_shutdown" in seen.orch.status()["services"]["a"]["reason"]
        assert await seen.orch.call("b.tick", 1) == 1


async def test_a_first_start_that_fails_ends_the_supervisor_and_what_it_had_started() -> None:
    services = {"a": worker(), "bad": ServiceConfig(command=faulty("exits-before-hello"))}
    for parallel in (True, False):
        orch = Orchestrator(
            config=Config(supervisor=SupervisorConfig(children=["a", "bad"], parallel_start=parallel), service=services)
        )
        seen = Seen(orch)
        with pytest.raises(StartFailed, match=r"failed to start child bad/0: .*exited with status 3"):
            await orch.start()
        assert len(seen.said("starting")) == 2
        assert orch.status()["state"] == "stopped"


async def test_programs() -> None:
    programs = {"indexer": ProgramConfig(command=SLEEPER)}
    async with tree(service={"a": worker()}, program=programs) as seen:
        assert seen.program("indexer")["state"] == "running"
        await until(lambda: any(event.get("text") == "at work" for event in seen.events), "it has printed")
        pid = seen.program("indexer")["pid"]
        os.kill(pid, signal.SIGSEGV)
        await seen.until("ready", "indexer", 2)
        (died,) = [event for event in seen.events if event["event"] == "died"]
        assert died["verdict"]["name"] == "SIGSEGV"
        assert died["verdict"]["stderr"] == ["at work"]
        assert seen.program("indexer")["restarts"] == 1
    assert "stopped indexer" in seen.said("stopped")


async def test_a_program_that_ignores_sigterm() -> None:
    code = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    programs = {"deaf": ProgramConfig(command=[sys.executable, "-c", code], shutdown=0.2)}
    async with tree(service={"a": worker()}, program=programs) as seen:
        await until(lambda: any(event.get("text") == "deaf" for event in seen.events), "it is deaf")
        began = time.monotonic()
    assert time.monotonic() - began < 5
    (verdict,) = [event["verdict"] for event in seen.events if event.get("program") and event["event"] == "stopped"]
    assert verdict["status"] == -signal.SIGKILL


async def test_backoff() -> None:
    """Each restart waits twice as long as the one before, and no less than the configuration says."""
    backoff = BackoffConfig(initial=0.1, factor=2.0, max=10.0, jitter=0.0, reset=60.0)
    async with tree(service={"a": worker(backoff=backoff)}) as seen:
        for count, pause in ((1, 0.1), (2, 0.2), (3, 0.4)):
            seen.kill("a")
            began = time.monotonic()
            await seen.until("restarting", "a/0", count)
            waiting = asyncio.ensure_future(seen.orch.call("a.tick", count))
            assert seen.orch.status()["services"]["a"]["replicas"][0]["state"] == "pausing"
            assert await waiting == count
            assert pause <= time.monotonic() - began


async def test_stopping_one_that_pauses_before_a_restart() -> None:
    backoff = BackoffConfig(initial=600.0, factor=1.0, max=600.0, jitter=0.0, reset=600.0)
    for parallel in (True, False):
        supervisor = SupervisorConfig(children=["a"], parallel_start=parallel, backoff=backoff)
        async with tree(supervisor=supervisor, service={"a": worker()}) as seen:
            seen.kill("a")
            await seen.until("restarting", "a/0")
            began = time.monotonic()
        assert time.monotonic() - began < 5


async def test_stopping_while_a_child_starts_does_not_wait_for_it() -> None:
    service = {"a": ServiceConfig(command=faulty("never-says-hello"), start_timeout=600)}
    orch = Orchestrator(config=Config(supervisor=SupervisorConfig(strategy="one_for_all"), service=service))
    seen = Seen(orch)
    starting = asyncio.ensure_future(orch.start())
    await seen.until("starting", "a/0")
    async with asyncio.timeout(5):
        await orch.stop()
        await starting
    assert seen.said("stopped") == ["stopped a/0"]


async def test_calls_about_children() -> None:
    supervisor = SupervisorConfig(children=["a", "p"])
    programs = {"p": ProgramConfig(command=SLEEPER)}
    async with tree(supervisor=supervisor, service={"a": worker(replicas=2)}, program=programs) as seen:
        root = seen.orch.supervisor("mlports")
        children = (await root.which_children()).children
        assert [(info.id, info.child) for info in children] == [
            ("p", seen.program("p")["pid"]),
            ("a/1", seen.pid("a", 1)),
            ("a/0", seen.pid("a", 0)),
        ]
        assert await root.count_children() == supervision.Counts(3, 3, 0, 3)

        assert await root.terminate_child("a/0") == supervision.Done()
        assert seen.orch.status()["services"]["a"]["replicas"][0]["state"] == "dead"
        assert await seen.orch.call("a.tick", 1) == 1
        assert await root.terminate_child("a/1") == supervision.Done()
        error = (await asyncio.gather(seen.orch.call("a.tick", 1), return_exceptions=True))[0]
        assert type(error) is ServiceDown
        assert await root.delete_child("p") == supervision.Running()
        started = await root.restart_child("a/1")
        assert isinstance(started, supervision.ChildStarted)
        assert started.pid == seen.pid("a", 1)
        assert await seen.orch.call("a.tick", 1) == 1, "a service that was down is up again"
        assert await root.restart_child("a/1") == supervision.Running()

        added = await root.start_child("q", ProgramConfig(command=SLEEPER))
        assert isinstance(added, supervision.ChildStarted)
        assert added.pid == seen.program("q")["pid"]
        assert await root.terminate_child("q") == supervision.Done()
        assert await root.delete_child("q") == supervision.Done()
        assert await root.delete_child("q") == supervision.NotFound()
        with pytest.raises(ValueError, match="there is a child 'a' already"):
            await root.start_child("a", ProgramConfig(command=SLEEPER))


async def test_simple_one_for_one() -> None:
    pool = SupervisorConfig(strategy="simple_one_for_one", children=["a"])
    async with tree(supervisors={"pool": pool}, service={"a": worker(replicas=2), "b": worker()}) as seen:
        handle = seen.orch.supervisor("pool")
        assert (await handle.count_children()).active == 2
        seen.kill("a", 1)
        await seen.until("ready", "a/1", 2)
        assert isinstance(await handle.start_child(), supervision.ChildStarted)
        assert (await handle.count_children()).active == 3
        await until(lambda: len(seen.said("ready")) == 5, "the third is ready")
        assert [r["state"] for r in seen.orch.status()["services"]["a"]["replicas"]] == ["ready"] * 3
        assert len(seen.orch.status()["services"]["a"]["replicas"]) == 3
        assert await handle.terminate_child("a/0") == supervision.Done()
        assert await handle.terminate_child("a/0") == supervision.NotFound()
        assert await handle.restart_child("a/0") == supervision.SimpleOneForOne()
        assert await seen.orch.call("a.tick", 5) == 5


@pytest.mark.parametrize("parallel", [True, False])
async def test_a_simple_one_for_one_numbers_its_children(parallel: bool) -> None:
    pool = SupervisorConfig(strategy="simple_one_for_one", children=["a"], parallel_start=parallel, intensity=0)
    async with tree(supervisors={"pool": pool}, service={"a": worker(replicas=2)}) as seen:
        handle = seen.orch.supervisor("pool")
        await asyncio.gather(*(handle.start_child() for _ in range(3)))
        assert [replica["replica"] for replica in seen.orch.status()["services"]["a"]["replicas"]] == [0, 1, 2, 3, 4]
        seen.kill("a")
        await seen.until("gave_up", "pool")
        (told,) = [event["text"] for event in seen.events if event["event"] == "gave_up" and "supervisor" in event]
        assert "the last: worker a/0 (pid " in told


async def test_stopping_in_the_middle_of_a_restart_of_several(tmp_path: Path) -> None:
    """What is not started yet is not started any more, and so not waited for."""
    held = tmp_path / "held"
    code = f"[ -e '{held}' ] && exec sleep 600; exec '{sys.executable}' '{NEIGHBOUR}'"
    lingers = [sys.executable, "-c", "import subprocess, sys, time; subprocess.run(sys.argv[1:]); time.sleep(0.3)"]
    services = {
        "a": ServiceConfig(command=["/bin/sh", "-c", code], start_timeout=600),
        "b": ServiceConfig(command=[*lingers, *WORKER]),
    }
    async with tree(supervisor=SupervisorConfig(strategy="one_for_all"), service=services) as seen:
        held.touch()
        seen.kill("a")
        await until(
            lambda: seen.orch.status()["services"]["b"]["replicas"][0]["state"] == "stopping", "b is asked to stop"
        )
        async with asyncio.timeout(5):
            await seen.orch.stop()
    assert seen.said("starting") == ["starting a/0", "starting b/0"]


@pytest.mark.parametrize("parallel", [True, False])
async def test_a_service_below_a_supervisor_that_was_stopped_is_down(parallel: bool) -> None:
    root = SupervisorConfig(children=["below"], parallel_start=parallel)
    below = SupervisorConfig(children=["a"])
    async with tree(supervisor=root, supervisors={"below": below}, service={"a": worker(), "b": worker()}) as seen:
        assert await seen.orch.supervisor().terminate_child("below") == supervision.Done()
        error = (await asyncio.gather(seen.orch.call("a.tick", 1), return_exceptions=True))[0]
        assert type(error) is ServiceDown
        assert "supervisor below was stopped" in str(error)
        assert await seen.orch.supervisor().restart_child("below") == supervision.ChildStarted("below")
        assert await seen.orch.call("a.tick", 1) == 1


async def test_stopping_a_supervisor_that_pauses_before_its_restart() -> None:
    backoff = BackoffConfig(initial=600.0, factor=1.0, max=600.0, jitter=0.0, reset=600.0)
    for shutdown in ("infinity", 0):
        root = SupervisorConfig(children=["below"], backoff=backoff)
        below = SupervisorConfig(children=["a"], intensity=0, shutdown=shutdown)
        async with tree(supervisor=root, supervisors={"below": below}, service={"a": worker(), "b": worker()}) as seen:
            seen.kill("a")
            await seen.until("restarting", "below")
            assert seen.orch.status()["services"]["a"]["state"] == "starting"
            asked = asyncio.ensure_future(seen.orch.supervisor("below").which_children())
            await asyncio.sleep(0)
            assert await seen.orch.supervisor().terminate_child("below") == supervision.Done()
            with pytest.raises(NotRunning, match="supervisor below does not run"):
                await asked
            assert seen.orch.status()["services"]["a"]["state"] == "down"


async def test_a_transient_supervisor_that_is_restarted_with_others_is_not_given_up() -> None:
    root = SupervisorConfig(strategy="one_for_all", children=["below", "b"])
    below = SupervisorConfig(children=["a"], restart="transient")
    async with tree(supervisor=root, supervisors={"below": below}, service={"a": worker(), "b": worker()}) as seen:
        seen.kill("b")
        await seen.until("died", "b/0")
        assert await seen.orch.call("a.tick", 1) == 1
        await seen.until("ready", "b/0", 2)
        assert seen.said("gave_up") == []


async def test_a_program_can_be_added_again() -> None:
    async with tree(service={"a": worker()}) as seen:
        root = seen.orch.supervisor()
        for _ in range(2):
            assert isinstance(await root.start_child("p", ProgramConfig(command=SLEEPER)), supervision.ChildStarted)
            await root.terminate_child("p")
            assert await root.delete_child("p") == supervision.Done()
            assert "p" not in seen.orch.status()["programs"]
        for count in (1, 2):
            once = ProgramConfig(command=["true"], restart="temporary")
            assert isinstance(await root.start_child("once", once), supervision.ChildStarted)
            await seen.until("died", "once", count)


async def test_a_program_is_asked_once_to_stop() -> None:
    """To many programs a second SIGTERM says that they are to end at once."""
    code = (
        "import signal, time\n"
        "told = []\n"
        "signal.signal(signal.SIGTERM, lambda *_: (told.append(1), print('told', flush=True)))\n"
        "print('at work', flush=True)\n"
        "while not told: time.sleep(0.01)\n"
        "time.sleep(0.5)"
    )
    programs = {"slow": ProgramConfig(command=[sys.executable, "-c", code]), "quick": ProgramConfig(command=SLEEPER)}
    async with tree(program=programs) as seen:
        await until(lambda: [event.get("text") for event in seen.events].count("at work") == 2, "both are at work")
    assert [event.get("text") for event in seen.events].count("told") == 1


async def test_a_listener_that_fails() -> None:
    failures: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: failures.append(context))
    async with tree(service={"a": worker()}) as seen:

        def fails(event: dict[str, Any]) -> None:
            raise RuntimeError(event["event"])

        seen.orch.event_log.listen(fails)
        seen.kill("a")
        await seen.until("ready", "a/0", 2)
        assert await seen.orch.call("a.tick", 1) == 1
    assert {str(context["message"]) for context in failures} == {"a listener of mlports' events failed"}


async def test_a_command_that_cannot_be_passed_on() -> None:
    orch = Orchestrator(services={"a": ServiceConfig(command=[*WORKER, "\ud800"])})
    with pytest.raises(StartFailed, match=r"cannot start .*surrogates not allowed"):
        await orch.start()
