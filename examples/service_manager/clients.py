"""A caller that asks one service again and again, and notes how long each answer took."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from mlports import CallError


@dataclass
class Client:
    """Sends the requests 0, 1, 2 … to one service. `request` makes the call.

    `answers` and `errors` are what came; `took` has the seconds of each call, by the name of the time it was made in.
    """

    service: str
    request: Callable[[int], Awaitable[Any]]
    answers: list[Any] = field(default_factory=list)
    errors: list[CallError] = field(default_factory=list)
    took: dict[str, list[float]] = field(default_factory=dict)
    sent: int = 0

    async def run(self, count: int, when: str, go_on: Callable[[], bool] = lambda: False) -> None:
        """Makes so many calls, and more while `go_on` says so."""
        took, last = self.took.setdefault(when, []), self.sent + count
        while self.sent < last or go_on():
            began = time.perf_counter()
            try:
                self.answers.append(await self.request(self.sent))
            except CallError as error:
                self.errors.append(error)
            took.append(time.perf_counter() - began)
            self.sent += 1
