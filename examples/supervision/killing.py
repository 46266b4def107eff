"""Kills the worker again and again, and writes down what its supervisor does about it."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mlports import Config, Orchestrator, ServiceDown

from .otp import Otp

AT_MOST = 40
"""Kills. On a machine so slow that five restarts take more than ten seconds, a supervisor has no reason to give up."""

_LOOK = 0.005


@dataclass
class Story:
    """What happened. `log` has the seconds since the start, and what. `deaths` has the seconds of each death, from a
    whole one on, as supervisors count in whole seconds.

    `lives` is how often the worker was started, `answers` what it said between the kills; `gave_up` why the supervisor
    ended, "" if it did not; `refused` what a caller hears after that.
    """

    log: list[tuple[float, str]] = field(default_factory=list)
    deaths: list[float] = field(default_factory=list)
    lives: int = 1
    answers: list[float] = field(default_factory=list)
    gave_up: str = ""
    refused: str = ""


async def torment(config: Config, gently: int, otp: Otp | None = None, tell: Callable[[str], None] = print) -> Story:
    """Kills the worker until its supervisor gives up, or `AT_MOST` times.

    The first `gently` times only once it has answered a call, then as soon as it was started. What happens is told
    while it does.
    """
    story, began, happened = Story(), time.monotonic(), asyncio.Event()

    def note(event: dict[str, Any]) -> None:
        _note(event, story, time.monotonic(), began, tell)
        happened.set()

    orch = Orchestrator(config=config)
    orch.event_log.listen(note)
    async with orch:
        killed: set[int] = set()
        while not story.gave_up and len(killed) < AT_MOST:
            if len(killed) < gently:
                story.answers.append(await orch.call("model.predict", len(killed)))
            pid = await _process(orch, killed, story)
            if pid is None:
                break
            os.kill(pid, signal.SIGKILL)
            killed.add(pid)
            if otp is not None:
                await otp.kill()
            while len(story.deaths) < len(killed):
                happened.clear()
                await happened.wait()
        if story.gave_up:
            try:
                await orch.call("model.predict", 0)
            except ServiceDown as error:
                story.refused = f"{type(error).__name__}: {error}"
    return story


async def _process(orch: Orchestrator, killed: set[int], story: Story) -> int | None:
    """The worker's process, once it has one that was not killed yet; None when it is not to have one any more."""
    while not story.gave_up:
        replicas = orch.status()["services"]["model"]["replicas"]
        pid: int | None = replicas[0]["pid"] if replicas else None
        if pid is not None and pid not in killed:
            return pid
        await asyncio.sleep(_LOOK)
    return None


def _note(event: dict[str, Any], story: Story, now: float, began: float, tell: Callable[[str], None]) -> None:
    name, text = event["event"], event.get("text") or ""
    if name == "died" and event["verdict"]["cause"] != "stopped":
        story.deaths.append(now - int(began))
        text = f"death {len(story.deaths)}: {text.splitlines()[0]}"
    elif name == "restarting":
        story.lives += 1
        text = f"life {story.lives} is started"
    elif name == "gave_up" and event.get("supervisor"):  # and not that of the service, which is down with it
        story.gave_up = text
        text = f"the supervisor gives up: {text}"
    else:
        return
    story.log.append((now - began, text))
    tell(f"  {now - began:6.3f} s  {text}")
