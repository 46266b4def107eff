"""One life of a program that speaks no protocol: it is up as soon as it runs, and what it prints is logged."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlports.core.supervision import ChildId, Reason
from mlports.core.supervision.specs import Shutdown
from mlports.core.verdict import Verdict
from mlports.runtime.guard import Guard
from mlports.runtime.life import Ending, LifeOwner
from mlports.runtime.out_of_memory import cause_of, kills_so_far
from mlports.runtime.process import Process, SpawnFailed, resolve
from mlports.telemetry import EventLog

if TYPE_CHECKING:
    from mlports.config import ProgramConfig


class Program:
    """What there is to know of one program, for as long as the orchestrator runs."""

    def __init__(self, name: str, config: ProgramConfig, directory: Path, events: EventLog, guard: Guard) -> None:
        self.name = name
        self.config = config
        self.directory = directory
        self.events = events
        self.guard = guard
        self.restarts = -1
        self.lives: list[ProgramLife] = []

    def status(self) -> dict[str, Any]:
        """Its figures, as plain values."""
        life = self.lives[-1] if self.lives else None
        return {
            "state": life.state if life is not None else "dead",
            "pid": life.pid if life is not None else None,
            "uptime": round(life.uptime, 3) if life is not None else None,
            "restarts": max(0, self.restarts),
        }


class ProgramLife:
    """One life of it; `pause` is the time to wait before its start, in seconds."""

    def __init__(self, program: Program, key: ChildId, owner: LifeOwner, pause: float) -> None:
        self.program = program
        self.key = key
        self.label: Mapping[str, Any] = {"program": program.name}
        self.began = time.monotonic()
        self._owner = owner
        self._pause = pause
        self._loop = asyncio.get_running_loop()
        self._process: Process | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._asked: str | None = None
        self._kills: int | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def uptime(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self.began

    @property
    def state(self) -> str:
        """pausing, running or stopping."""
        if self._process is None:
            return "pausing"
        return "stopping" if self._asked is not None else "running"

    def start(self) -> None:
        self.program.restarts += 1
        if self._pause:
            self._timer = self._loop.call_later(self._pause, self._start_late)
        else:
            self._spawn()
        self.program.lives.append(self)

    def ask(self, why: str, within: Shutdown | None = None) -> None:
        again, self._asked = self._asked is not None, self._asked or why
        if self._process is None:
            self._give_up_pause("shutdown")
        elif within == "brutal_kill":
            self._process.signal_group(signal.SIGKILL)
        else:
            if not again:  # many programs take a second SIGTERM for an order to end at once
                self._process.signal_group(signal.SIGTERM)
            if isinstance(within, int) and self._timer is None:
                self._kill_after(within / 1000)

    def kill(self, why: str) -> None:
        self._asked = self._asked or why
        if self._process is None:
            self._give_up_pause("killed")
        else:
            self._process.signal_group(signal.SIGKILL)

    def _kill_after(self, seconds: float) -> None:
        assert self._process is not None
        self._timer = self._loop.call_later(seconds, self._process.signal_group, signal.SIGKILL)

    def _give_up_pause(self, reason: Reason) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._loop.call_soon(self._gone, Ending(reason, f"was stopped ({self._asked})", False, 0.0, True))

    def _start_late(self) -> None:
        self._timer = None
        try:
            self._spawn()
        except SpawnFailed as error:
            self._gone(Ending(("spawn",), str(error), False, 0.0, False))

    def _spawn(self) -> None:
        program, config = self.program, self.program.config
        self._emit("starting")
        self.began = time.monotonic()
        try:
            self._process = Process(
                resolve(config.command, config.python, program.directory),
                cwd=program.directory / config.cwd,
                env={**os.environ, **config.env, **program.guard.environment},
                transport="none",
                on_line=self._on_line,
                on_exit=self._on_exit,
            )
        except SpawnFailed as error:
            self._tell_death(Verdict(program.name, None, None, "spawn", str(error), time=time.time()))
            raise
        self._kills = kills_so_far()
        program.guard.add(self._process.pid)
        # Later, because it is not yet known to its owner.
        self._loop.call_soon(self._come_up)

    def _come_up(self) -> None:
        if self._process is not None and not self._process.ended:
            self._emit("ready", pid=self._process.pid)
            self._owner.on_up(self)

    def _on_line(self, text: str) -> None:
        self._emit("log", level="info", text=text)

    def _on_exit(self, status: int | None) -> None:
        process = self._process
        assert process is not None
        if self._timer is not None:
            self._timer.cancel()
        self.program.guard.remove(process.pid)
        cause, told, figures = cause_of(process.pid, status, self._kills)
        told += f" ({figures})" if figures else ""
        verdict = Verdict(
            self.program.name,
            None,
            process.pid,
            "stopped" if self._asked is not None else cause,
            f"was stopped ({self._asked}): it {told}" if self._asked is not None else told,
            status,
            self.uptime,
            True,
            self.program.restarts,
            stderr=tuple(process.stderr_tail),
            peak_memory=process.peak_memory,
            time=time.time(),
        )
        self._tell_death(verdict)
        self._gone(Ending(self._reason(verdict), str(verdict), True, self.uptime, self._asked is not None))

    def _reason(self, verdict: Verdict) -> Reason:
        if self._asked is not None:
            return "killed" if verdict.status == -signal.SIGKILL else "shutdown"
        return "normal" if verdict.status == 0 else (verdict.cause, verdict.name)

    def _gone(self, ending: Ending) -> None:
        if self in self.program.lives:
            self.program.lives.remove(self)
        self._owner.on_gone(self, ending)

    def _tell_death(self, verdict: Verdict) -> None:
        event = "stopped" if verdict.cause == "stopped" else "died"
        self._emit(event, pid=verdict.pid, verdict=verdict.as_dict(), text=str(verdict))

    def _emit(self, event: str, **fields: Any) -> None:
        self.program.events.emit(event, program=self.program.name, **fields)
