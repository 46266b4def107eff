"""The log of events: what it keeps, and who hears of what."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from mlports.telemetry import EventLog


def test_an_event_holds_what_it_was_given_and_its_time() -> None:
    log = EventLog()
    before = time.time()
    log.emit("ready", service="digits", replica=0, pid=None)
    (event,) = log.recent
    assert before <= event.pop("time") <= time.time()
    assert event == {"event": "ready", "service": "digits", "replica": 0}


def test_the_last_1000_are_kept() -> None:
    log = EventLog()
    for number in range(1500):
        log.emit("log", text=number)
    assert [event["text"] for event in log.recent] == list(range(500, 1500))


def test_listeners_hear_what_happens_from_then_on_until_they_end_it() -> None:
    log = EventLog()
    heard: list[Any] = []
    log.emit("log", text="before")
    end = log.listen(lambda event: heard.append(event["text"]))
    log.emit("log", text="meanwhile")
    end()
    log.emit("log", text="after")
    assert heard == ["meanwhile"]


def test_a_listener_that_ends_in_the_midst_takes_nothing_from_the_next() -> None:
    log = EventLog()
    heard: list[str] = []
    ends = [log.listen(lambda _: ends[0]()), log.listen(lambda _: heard.append("second"))]
    log.emit("ready")
    log.emit("ready")
    assert heard == ["second", "second"]


async def take(log: EventLog, count: int, recent: bool = False) -> list[Any]:
    """The texts of the next `count` events."""
    events = log.follow(recent)
    found = [(await anext(events))["text"] for _ in range(count)]
    await events.aclose()  # type: ignore[attr-defined]  # an async generator
    return found


async def test_following() -> None:
    log = EventLog()
    log.emit("log", text="before")
    following = asyncio.create_task(take(log, 3))
    await asyncio.sleep(0)
    for number in range(5):
        log.emit("log", text=number)
    assert await following == [0, 1, 2]


async def test_following_with_the_recent_ones_first() -> None:
    log = EventLog()
    log.emit("log", text="before")
    following = asyncio.create_task(take(log, 2, recent=True))
    await asyncio.sleep(0)
    log.emit("log", text="now")
    assert await following == ["before", "now"]


async def test_who_follows_slowly_loses_the_oldest() -> None:
    log = EventLog()
    events = log.follow()
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    log.emit("log", text="first")
    assert (await first)["text"] == "first"
    for number in range(10_005):
        log.emit("log", text=number)
    assert (await anext(events))["text"] == 5
    await events.aclose()  # type: ignore[attr-defined]  # an async generator


async def test_who_stops_following_is_not_told_any_more() -> None:
    log = EventLog()
    following = asyncio.create_task(take(log, 100))
    await asyncio.sleep(0)
    log.emit("log", text=0)
    following.cancel()
    await asyncio.wait([following])
    log.emit("log", text=1)  # nobody listens; nothing fails
    assert len(log.recent) == 2


async def test_following_ends_with_the_log() -> None:
    log = EventLog()
    for number in range(3):
        log.emit("log", text=number)

    async def all_texts() -> list[Any]:
        return [event["text"] async for event in log.follow(recent=True)]

    following = [asyncio.create_task(all_texts()) for _ in range(2)]
    await asyncio.sleep(0)
    log.emit("log", text=3)
    log.close()
    assert await asyncio.gather(*following) == [[0, 1, 2, 3]] * 2
    assert await all_texts() == [0, 1, 2, 3]
