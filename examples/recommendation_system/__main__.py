"""Learns from ratings as they were made, and guesses each user's last one among ten films.

python -m examples.recommendation_system
python -m examples.recommendation_system --replicas 2
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mlports import Orchestrator, load_config

from ..options import whole
from .popularity import Popularity
from .ratings import Rating, last_of_each_user, ratings

CONFIG = Path(__file__).with_name("mlports.toml")
TOP = 10
TOGETHER = 500


class Found(NamedTuple):
    """Of how many users the last film was guessed, by the worker and by popularity, and in what time."""

    users: int
    hits: int
    popular_hits: int
    seconds: float
    delays: list[float]
    """Seconds of an update with its recommendations, one call at a time: the last 2,000 events."""
    idle: list[float]
    """Seconds of a call that does nothing, in turns with them: what the machine alone makes late."""


async def replay(events: list[Rating], replicas: int = 1, timed: int = 2000) -> Found:
    """All events in their order; before each user's last one, ten films are asked for."""
    last, popularity = last_of_each_user(events), Popularity()
    hits = popular_hits = 0
    began = time.perf_counter()
    config = load_config(CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        service = config.service["recommend"].model_copy(update={"replicas": replicas})
        service.config["snapshot"]["dir"] = folder  # each run begins with the first event
        async with Orchestrator({"recommend": service}) as orch:
            # Those of one user go to one worker, and a worker takes its calls in their order: none is waited for here.
            for start in range(0, len(events), TOGETHER):
                asked, answers = [], []
                for place, (user, film) in enumerate(events[start : start + TOGETHER], start):
                    if place in last:
                        asked.append((film, orch.call("recommend.recommend", user, TOP)))
                        popular_hits += film in popularity.recommend(user, TOP)
                    answers.append(orch.call("recommend.event", user, film, TOP))
                    popularity.learn(user, film)
                await asyncio.gather(*answers)
                hits += sum([film in {each for each, _ in await call} for film, call in asked])
            seconds = time.perf_counter() - began
            return Found(len(last), hits, popular_hits, seconds, *await delays(orch, events, timed))


async def delays(orch: Orchestrator, events: list[Rating], count: int) -> tuple[list[float], list[float]]:
    """Seconds that each of so many new events takes: a known user rates a film that nobody has rated before.

    And those of a call that does nothing, after each.
    """
    found, idle = [], []
    for number, event in enumerate(events[-count:]):
        began = time.perf_counter()
        await orch.call("recommend.event", event.user, f"new {number % 100}", TOP)
        between = time.perf_counter()
        await orch.call("recommend.info", key=event.user)
        found.append(between - began)
        idle.append(time.perf_counter() - between)
    return found, idle


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.recommendation_system", description=__doc__)
    parser.add_argument("--replicas", type=whole(1), default=1, help="workers; each learns from its own users alone")
    options = parser.parse_args()
    events = ratings()
    found = asyncio.run(replay(events, options.replicas))
    rate, popular = found.hits / found.users, found.popular_hits / found.users
    print(f"{len(events):,} events of {found.users:,} users in {found.seconds:.1f} s")
    print(f"hit rate@{TOP}: {rate:.4f}; by popularity {popular:.4f}: {rate / popular:.2f} times as often")
    for what, seconds in (("an update with recommendations", found.delays), ("a call that does nothing", found.idle)):
        middle, most = np.quantile(seconds, (0.5, 0.99)) * 1000
        print(f"{what}: {middle:.2f} ms, 99 of 100 within {most:.2f} ms")
    if rate <= popular:
        sys.exit("it does not hold: the most popular films are guessed as well")


if __name__ == "__main__":
    main()
