"""Every fault of workers/faulty, once: the verdict that it leads to, what its caller sees, and how the service goes on.

The tables of workers/faulty/README.md say the same in words, and are held against this one.
"""

from __future__ import annotations

import asyncio
import os
import re
import select
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mlports import CallError, ServiceDown, WorkerCrashed
from tests.faults.scene import CARELESS, FAULTY, Scene, careless, faulty, outcome, scene, verdict_of
from tests.faults.table import GROWS, LEAVES, ROWS, Row, maps
from tests.workers import marks

_PATIENCE = 30.0  # seconds for all that is waited for, on a busy machine too
_HARMLESS = {"echo", "streams", "pid", "waits"}  # the methods of careless.py that are no mistakes

NEEDS_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="asks the system for what only Linux tells")
ON_LINUX = {row.fault for row in [*GROWS, *LEAVES]} | {"dies-of-signal-40"}


@pytest.mark.parametrize(
    "row", [pytest.param(row, id=row.fault, marks=[NEEDS_LINUX] * (row.fault in ON_LINUX)) for row in ROWS]
)
async def test_a_fault(row: Row, tmp_path: Path) -> None:
    record = tmp_path / "record"
    settings = {"config": {"record": str(record)}, **row.settings}
    left = -1
    try:
        async with scene(row.command or faulty(row.fault), **settings) as seen:
            async with asyncio.timeout(_PATIENCE):
                result = await row.act(seen, tmp_path)
                await seen.until("died", len(row.deaths))
                if row.leaves:
                    left = os.pidfd_open(result)
                if row.is_down:
                    await check_that_it_is_down(row, seen)
                elif not seen.stopped:
                    assert await seen.call("echo", 1) == 1
            service = seen.orch.status()["services"]["faulty"]
            assert service["state"] == ("down" if row.is_down else "stopping" if seen.stopped else "up")
            assert [replica["restarts"] for replica in service["replicas"]] == [row.restarts]
            assert left < 0 or not has_ended(left, 0), "it ended before the orchestrator did"
        assert left < 0 or has_ended(left, 2), "it outlived the orchestrator"
    finally:
        if left >= 0:
            os.close(left)
    if row.command is None:
        assert set(marks(record)) == {row.fault}
    check_what_the_caller_saw(row, seen, result)
    check_the_deaths(row, seen)


async def check_that_it_is_down(row: Row, seen: Scene) -> None:
    """Whoever calls from now on is told why there is nobody."""
    (gave_up,) = await seen.until("gave_up")
    error = await outcome(seen.call("echo", 1))
    assert type(error) is ServiceDown
    assert f"service faulty is down: {gave_up['text']}" in str(error)
    if row.restarts:
        assert "more than 2 restarts within 10 s (reached_max_restart_intensity); the last: worker" in gave_up["text"]
    else:
        assert gave_up["text"].startswith("failed to start child faulty/0: worker faulty/0 (pid ")
    verdict = seen.deaths()[-1]
    assert verdict["detail"] in str(error)
    assert all(line in str(error) for line in verdict["stderr"][-8:])


def check_what_the_caller_saw(row: Row, seen: Scene, result: Any) -> None:
    if not isinstance(row.sees, type):
        assert result == row.sees
        return
    assert type(result) is row.sees
    if isinstance(result, CallError):
        assert result.service == "faulty"
        assert result.code == ("internal" if row.act is maps else row.sees.default_code)
    if not row.name:
        assert all(text in str(result) for text in row.text)
    if isinstance(result, WorkerCrashed):
        verdict = verdict_of(result)
        assert verdict.as_dict() in seen.deaths()
        assert verdict.normal == (verdict.name == "exit 0")
        method = "go" if row.command is None else row.fault
        assert (result.method, result.replica, result.retryable) == (method, 0, True)
        attempt = " (attempt 2)" if "retries" in row.settings else ""
        assert str(result) == f"faulty.{method} got no answer{attempt}: {verdict}"
        assert f"with {len(verdict.in_flight)} request" in str(result)
        if row.stderr:
            assert str(result).endswith("; its last words on stderr:\n  | " + "\n  | ".join(row.stderr))


def check_the_deaths(row: Row, seen: Scene) -> None:
    deaths = seen.deaths()
    assert len(deaths) == len(row.deaths)
    assert all(name in (verdict["name"], verdict["cause"]) for name, verdict in zip(row.deaths, deaths, strict=True))
    assert [verdict["restarts"] for verdict in deaths] == list(range(len(deaths)))
    events = seen.orch.event_log.recent
    stops = [event for event in events if event["event"] == "stopped" and event["service"] == "faulty"]
    assert len(stops) == (0 if row.is_down else 1), "the last life is stopped with the orchestrator"
    if row.name == "stopped":
        (began,) = (event["time"] for event in events if event["event"] == "stopping")
        assert row.stop[0] < stops[0]["time"] - began < row.stop[1]
        check_the_verdict(row, stops[0]["verdict"])
    elif row.name:
        for verdict, name in zip(deaths, row.deaths, strict=True):
            if name == row.name:
                check_the_verdict(row, verdict)


def check_the_verdict(row: Row, verdict: dict[str, Any]) -> None:
    assert verdict["cause"] == row.cause
    assert all(text in verdict["detail"] for text in row.text), verdict["detail"]
    assert row.cause != "protocol" or verdict["detail"].startswith(row.text[0])
    if row.status is not None:
        assert verdict["status"] == row.status
    assert (verdict["service"], verdict["replica"], verdict["ready"]) == ("faulty", 0, row.ready)
    assert len(verdict["in_flight"]) == row.in_flight
    if "heartbeat" not in row.settings:  # pings have ids as well
        assert verdict["in_flight"] == list(range(1, row.in_flight + 1))
    assert row.stacks in "\n".join(verdict["stacks"])
    assert bool(verdict["stacks"]) == bool(row.stacks)
    if row.stderr:
        assert tuple(verdict["stderr"][-len(row.stderr) :]) == row.stderr


def has_ended(handle: int, seconds: float) -> bool:
    """Whether a process ends within that time."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


# The table is whole, and the README says the same.


class Described(NamedTuple):
    """A fault as the README tells of it."""

    fault: str
    verdict: str
    sees: str

    @property
    def name(self) -> str:
        """Of the verdict, or its cause."""
        return (re.match(r"[\w ]+", self.verdict) or [""])[0].strip()


def described(heading: str) -> list[Described]:
    """All faults in the tables under this heading."""
    text = FAULTY.with_name("README.md").read_text().partition(f"\n## {heading}")[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line[1:-1].split("|")] for line in text.splitlines() if line.startswith("| `")]
    return [Described(fault, row[2], row[3]) for row in cells for fault in re.findall("`(.+?)`", row[0])]


def check_that_both_say_the_same(found: list[Described], rows: list[Row]) -> None:
    assert Counter(fault.fault for fault in found) == Counter(row.fault for row in rows)
    by_name = {row.fault: row for row in rows}
    for fault in found:
        row = by_name[fault.fault]
        assert fault.name in ((row.deaths or (row.name or "none",))[0], row.cause), fault
        if row.cause == "protocol":
            assert f"{fault.verdict.split('`')[1]}: " in "".join(row.text), fault
        if isinstance(row.sees, type) and issubclass(row.sees, BaseException):
            assert f"`{row.sees.__name__}`" in (fault.sees or "`ServiceDown`"), fault
        else:
            assert fault.sees.startswith(("the ", "result")), fault


def test_every_fault_of_faulty_has_its_row() -> None:
    told = subprocess.run([sys.executable, str(FAULTY)], stderr=subprocess.PIPE, text=True).stderr
    faults = told.partition("one of: ")[2].strip().split(", ")
    rows = [row for row in ROWS if row.command is None]
    assert Counter(faults) == Counter(row.fault for row in rows)
    check_that_both_say_the_same(described("faulty.py"), rows)


async def test_every_mistake_that_ends_a_worker_has_its_row() -> None:
    async with scene(careless()) as seen:
        methods = set(seen.orch.status()["services"]["faulty"]["methods"])
    usage = re.search(r"careless\.py \[(.+)\]", CARELESS.read_text())
    assert usage is not None
    found = described("careless.py")
    assert {fault.fault for fault in found} == (methods - _HARMLESS) | set(usage[1].split(" | "))
    rows = [row for row in ROWS if row.command is not None]
    check_that_both_say_the_same([fault for fault in found if fault.name != "none"], rows)
