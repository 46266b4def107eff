"""Random trees of real processes under random crashes: what happens is what `mlports simulate` says would happen."""

from __future__ import annotations

import asyncio
import os
import random
import re
import signal
import time
from collections.abc import Iterator
from itertools import groupby
from typing import Any

import pytest

from mlports import Config, NotRunning, Orchestrator, ProgramConfig, ServiceConfig, SupervisorConfig
from mlports.testing.simulation import Crash, play_crashes
from tests.workers import PATIENCE, until

# A bare worker: its answer to $/hello is an error, and the end of its input its own. It ends as it is told by a signal.
_ENDS = "trap 'exit 0' USR1; trap 'exit 1' USR2; "
_HELLO = r"\000\000\000\045\224\001\000\202\244code\255unimplemented\247message\244bare\300"
_WORKER = ["/bin/sh", "-c", _ENDS + f"exec 3<&0; printf '{_HELLO}'; cat <&3 >/dev/null & wait $!"]
_PROGRAM = ["/bin/sh", "-c", _ENDS + "echo $$; sleep 1000 & wait $!"]
_SIGNALS = {"normal": signal.SIGUSR1, "crash": signal.SIGUSR2, "kill": signal.SIGKILL}
_PERIOD = 1000  # seconds: no restart is ever forgotten


class Drawn:
    """A random configuration, whose supervisors start one child after the other, and what crashes in it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        draw = self.random
        self.supervisors: dict[str, dict[str, Any]] = {}
        self.root = self._supervisor(["one_for_one", "one_for_one", "one_for_all", "rest_for_one"])
        self.service: dict[str, ServiceConfig] = {}
        self.program: dict[str, ProgramConfig] = {}
        owners = [self.root]
        unfed = []
        for name in "xyz"[: draw.randint(0, 3)]:
            below = draw.choice([owner for owner in owners if owner["strategy"] != "simple_one_for_one"])
            strategies = ["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]
            supervisor = self.supervisors[name] = self._supervisor(strategies)
            supervisor |= self._fate(below, ["infinity", 5.0])
            self._put(below, name)
            owners.append(supervisor)
            unfed.append(supervisor)
        names = list("abcdpq")
        draw.shuffle(names)
        for name in names[: max(2, len(unfed)) + draw.randint(0, 2)]:
            if unfed:
                owner = unfed.pop()
            else:
                owner = draw.choice([owner for owner in owners if owner["strategy"] != "simple_one_for_one"])
            named = owner is not self.root or draw.random() < 0.5
            if named:
                self._put(owner, name)
            fate = self._fate(owner, [5.0, 5.0, "infinity", "brutal_kill"])
            if name in "pq":
                self.program[name] = ProgramConfig(command=_PROGRAM, **fate)
            else:
                fate |= {"replicas": draw.randint(1, 2), "standby": draw.choice([0, 0, 1])}
                self.service[name] = ServiceConfig(command=_WORKER, **fate)
        self.config = Config(
            supervisor=SupervisorConfig(**self.root),
            supervisors={name: SupervisorConfig(**table) for name, table in self.supervisors.items()},
            service=self.service,
            program=self.program,
        )
        places = [*self.program]
        for name, service in self.service.items():
            places += [f"{name}/{number}" for number in range(service.replicas + service.standby)]
        self.crashes = [Crash(at, draw.choice(places), draw.choice(list(_SIGNALS))) for at in range(8)]

    def _supervisor(self, strategies: list[str]) -> dict[str, Any]:
        draw = self.random
        return {
            "strategy": draw.choice(strategies),
            "intensity": draw.choice([0, 1, 1, 2, 3, 5]),
            "period": _PERIOD,
            "auto_shutdown": draw.choice(["never", "never", "any_significant", "all_significant"]),
            "children": [],
            "parallel_start": False,
        }

    def _fate(self, owner: dict[str, Any], shutdowns: list[float | str]) -> dict[str, Any]:
        draw = self.random
        restart = draw.choice(["permanent", "permanent", "transient", "temporary"])
        may_count = restart != "permanent" and owner["auto_shutdown"] != "never"
        return {
            "restart": restart,
            "shutdown": draw.choice(shutdowns),
            "significant": may_count and draw.random() < 0.6,
        }

    def _put(self, owner: dict[str, Any], name: str) -> None:
        owner["children"].insert(self.random.randint(0, len(owner["children"])), name)

    def pool_of(self, child: str) -> str | None:
        """The simple_one_for_one that this child belongs to: its children end in no order."""
        name = child.partition("/")[0]
        for supervisor, table in self.supervisors.items():
            if table["strategy"] == "simple_one_for_one" and name in table["children"]:
                return supervisor
        return None

    def simulated(self) -> list[tuple[list[str], str]]:
        """After the start, and after each crash: the starts and ends of processes, and the tree."""
        steps: list[tuple[list[str], str]] = []
        lines: list[str] = []
        for moment in play_crashes(self.config, self.crashes):
            word, _, rest = moment.text.partition(" ")
            child, _, life = rest.partition(" ")[0].partition("#")
            if word in ("started", "state"):
                steps.append((lines, _without_lives(rest, [*self.config.supervisors, *self.service])))
                lines = []
            elif moment.text.endswith(" is not running"):
                steps.append(([], steps[-1][1]))
            elif word in ("start", "exit") and life and (child in self.program or "/" in child):
                lines.append(moment.text)
        return steps

    def sorted(self, lines: list[str]) -> list[str]:
        """The lines, with those sorted that have no order among themselves."""

        def pool(line: str) -> str:
            return self.pool_of(re.split("[ #]", line)[1]) or ""

        # Such a supervisor is up for OTP before it has any child; its children start beside those after it.
        apart = sorted(lines, key=pool)
        runs = groupby(apart, lambda line: pool(line) if line.startswith("exit") and pool(line) else line)
        return [line for _, run in runs for line in sorted(run)]


def _without_lives(state: str, supervisors: list[str]) -> str:
    for name in ("mlports", *supervisors):
        state = re.sub(rf"(?<![\w/]){name}#\d+(?=\[)", name, state)
    return state


class Played:
    """The same with real processes."""

    def __init__(self, drawn: Drawn) -> None:
        self.drawn = drawn
        self.orch = Orchestrator(config=drawn.config)
        self.lines: list[str] = []
        self._lives: dict[str, int] = {}
        self._pids: dict[int, str] = {}
        self._heard: set[int] = set()  # programs that have set their traps
        self.orch.event_log.listen(self._note)

    def _note(self, event: dict[str, Any]) -> None:
        child = event.get("program") or f"{event.get('service')}/{event.get('replica')}"
        what = event["event"]
        if what == "starting":
            self._lives[child] = self._lives.get(child, 0) + 1
            self.lines.append(f"start {child}#{self._lives[child]}")
        elif what == "ready":
            self._pids[event["pid"]] = f"{child}#{self._lives[child]}"
        elif what in ("died", "stopped") and "verdict" in event:
            self.lines.append(f"exit {self._pids.get(event['pid'], child)} {_reason(event['verdict'])}")
        elif what == "log" and "program" in event:
            self._heard.add(int(event["text"]))

    async def follow(self, simulated: list[str]) -> None:
        """Waits for as many starts and ends as there should be by now; they must be those."""
        try:
            await until(lambda: len(self.lines) >= len(simulated), "as much has happened")
        finally:
            assert self.drawn.sorted(self.lines) == simulated

    def crash(self, crash: Crash) -> int | None:
        """The process, if it runs."""
        name, _, number = crash.child.partition("/")
        status = self.orch.status()
        pid = status["services"][name]["replicas"][int(number)]["pid"] if number else status["programs"][name]["pid"]
        return pid if isinstance(pid, int) else None

    async def end(self, pid: int, reason: str) -> None:
        if self._pids[pid].partition("#")[0] in self.drawn.program:
            await until(lambda: pid in self._heard, "the program has set its traps")
        os.kill(pid, _SIGNALS[reason])

    async def settle(self, state: str) -> None:
        """Waits until this is the tree."""
        end = time.monotonic() + PATIENCE
        while (tree := await self.tree()) != state:
            assert time.monotonic() < end, f"{tree} is not {state}"
            await asyncio.sleep(0.002)

    async def tree(self, name: str = "mlports") -> str:
        """The tree as its supervisors tell it, each when it has nothing else to do."""
        handle = self.orch.supervisor(name)
        try:
            children = (await handle.which_children()).children
        except NotRunning:
            return "root_dead" if name == "mlports" else f"{name} has ended"
        parts = []
        for info in reversed(children):
            if info.type == "supervisor" and info.child is not None:
                parts.append(await self.tree(str(info.child)))
            elif isinstance(info.child, int):
                parts.append(self._pids[info.child])
            else:
                parts.append(f"{info.id}={info.child or 'undefined'}")
        simple = self.drawn.supervisors.get(name, {}).get("strategy") == "simple_one_for_one"
        return f"{name}[{' '.join(sorted(parts) if simple else parts)}]"


def _reason(verdict: dict[str, Any]) -> str:
    if verdict["status"] == -signal.SIGKILL:
        return "killed"
    if verdict["cause"] == "stopped":
        return "shutdown"
    return "normal" if verdict["status"] == 0 else "crash"


async def play(seed: int) -> int:
    """Plays it both ways; gives how much has happened."""
    drawn = Drawn(seed)
    steps: Iterator[tuple[list[str], str]] = iter(drawn.simulated())
    played = Played(drawn)
    so_far, state = next(steps)
    async with asyncio.timeout(50), played.orch:
        await played.follow(drawn.sorted(so_far))
        await played.settle(state)
        for crash, (lines, state) in zip(drawn.crashes, steps, strict=True):
            so_far += lines
            pid = played.crash(crash)
            assert (pid is not None) == bool(lines), crash
            if pid is not None:
                await played.end(pid, str(crash.reason))
            await played.follow(drawn.sorted(so_far))
            await played.settle(state)
            assert drawn.sorted(played.lines) == drawn.sorted(so_far)
    left = re.findall(r"[\w/]+#\d+", state)
    ended = [line.split()[1] for line in played.lines[len(so_far) :]]
    assert drawn.sorted([f"exit {process}" for process in ended]) == drawn.sorted(
        [f"exit {process}" for process in reversed(left)]
    )
    return len(played.lines)


@pytest.mark.parametrize("seed", range(16))
async def test_random_trees(seed: int) -> None:
    await play(seed)


@pytest.mark.soak
async def test_many_random_trees() -> None:
    for seed in range(1000, 2000):
        await play(seed)
