"""Clients over HTTP: a crowd that asks at a steady pace, and a burst that is too much."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import aiohttp


class Answer(NamedTuple):
    """One request. `due` and `came` are seconds by the monotonic clock; a status of 0 is a connection that broke."""

    client: int
    site: list[float]
    due: float
    came: float
    status: int
    score: float
    cases: int
    retry_after: float | None

    @property
    def seconds(self) -> float:
        """From when it was to be asked, not only from when it was: a late request counts its wait."""
        return self.came - self.due


def session(clients: int) -> aiohttp.ClientSession:
    """A connection for each client."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=clients), timeout=aiohttp.ClientTimeout(total=30))


async def ask(
    http: aiohttp.ClientSession, url: str, client: int, site: list[float], due: float | None = None
) -> Answer:
    """Asks once how a site is judged."""
    due = time.monotonic() if due is None else due
    status, score, known, later = 0, float("nan"), -1, None
    try:
        async with http.post(f"{url}/sites/judge", json={"params": [site]}) as response:
            status, body = response.status, await response.json()
            if status == 200:
                score, known = body["result"]["score"], body["result"]["cases"]
            elif "Retry-After" in response.headers:
                later = float(response.headers["Retry-After"])
    except (aiohttp.ClientError, TimeoutError):
        pass
    return Answer(client, site, due, time.monotonic(), status, score, known, later)


async def crowd(
    url: str, sites: Sequence[list[float]], clients: int, per_second: float, enough: asyncio.Event
) -> list[Answer]:
    """Each client asks `per_second` / `clients` times a second, until it is `enough`; every request is in the list."""
    answers: list[Answer] = []
    pause = clients / per_second

    async def one(client: int, http: aiohttp.ClientSession) -> None:
        due = time.monotonic() + pause * client / clients
        turn = client
        while not enough.is_set():
            await asyncio.sleep(max(due - time.monotonic(), 0))
            answers.append(await ask(http, url, client, sites[turn % len(sites)], due))
            turn += clients
            due += pause

    async with session(clients) as http:
        await asyncio.gather(*(one(client, http) for client in range(clients)))
    return answers


async def persistent(
    http: aiohttp.ClientSession,
    url: str,
    client: int,
    site: list[float],
    tell_refused: Callable[[Answer], None] = lambda answer: None,
) -> list[Answer]:
    """Asks again as long as it is told to come back, after as many seconds as it is told; gives all its answers.

    `tell_refused` gets each refusal, when it comes.
    """
    answers = [await ask(http, url, client, site)]
    while (later := answers[-1].retry_after) is not None:
        tell_refused(answers[-1])
        await asyncio.sleep(later)
        answers.append(await ask(http, url, client, site))
    return answers


def quantiles(answers: Sequence[Answer], *shares: float) -> list[float]:
    """Milliseconds within which these shares of the answers came."""
    took = sorted(answer.seconds for answer in answers)
    return [took[min(int(share * len(took)), len(took) - 1)] * 1000 for share in shares]
