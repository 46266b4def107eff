"""The worker that the conformance kit asks for everything: one small method for each thing that a worker can do."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Iterator
from typing import Any

from mlports_worker import Failure, Worker, current

worker = Worker("conformance", concurrency=1)
kept: list[Any] = []


@worker.method(idempotent=True)
def echo(value: Any) -> Any:
    return value


@worker.method(idempotent=True)
def add(a: Any, b: Any) -> Any:
    return a + b


@worker.method
def fail(message: str) -> None:
    raise RuntimeError(message)


@worker.method
def refuse(code: str, message: str) -> None:
    raise Failure(code, message)


@worker.method
async def sleep(seconds: float) -> float:
    await asyncio.sleep(seconds)  # $/cancel ends it
    return seconds


@worker.method(name="print")
def print_text(text: str) -> None:
    print(text)


@worker.method(batch=True, idempotent=True)
def root(numbers: list[float]) -> list[Any]:
    negative = Failure("invalid_argument", "a negative number has no real root")
    return [negative if number < 0 else math.sqrt(number) for number in numbers]


@worker.method
def count(n: int) -> Iterator[int]:
    yield from range(n)


@worker.method(input=True)
def total(numbers: Iterable[float]) -> float:
    return sum(numbers)


@worker.method
def relay(target: str, params: list[Any]) -> Any:
    return worker.call(target, *params)


@worker.method
def note(level: str, text: str) -> None:
    worker.log(level, text)


@worker.method
def advance(n: int) -> int:
    for done in range(1, n + 1):
        current().progress(done, n)
    return n


@worker.method
def mark(value: Any) -> None:
    kept.append(value)


@worker.method
def marks() -> list[Any]:
    return kept


worker.run()
