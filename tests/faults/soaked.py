"""A worker under load. Every answer is made from the call's number, so that one which belongs to another call is seen.

Its config: `record`, the file in which the calls that may not be repeated write their numbers, 4 bytes each; `pause`,
how long every other 256 simple calls take, in seconds each: quick ones travel together, slow ones alone; `child`,
whether it has a child that leaves its session and outlives it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from typing import Any

from mlports_worker import Worker

worker = Worker("soaked")
record = -1
pause = 0.0


@worker.setup
def load(config: dict[str, Any]) -> None:
    global record, pause
    record = os.open(config["record"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    pause = config["pause"]
    if config["child"]:
        subprocess.Popen(["sleep", "1000"], start_new_session=True)


@worker.method(idempotent=True)
def scramble(number: int) -> int:
    """Gives each number below 2**32 another one."""
    if pause and number // 256 % 2:
        time.sleep(pause)
    return number * 0x9E3779B1 % 2**32


@worker.method
def once(number: int) -> int:
    """The same; it says that it was run before it answers."""
    os.write(record, number.to_bytes(4, "big"))
    return scramble(number)


@worker.method
def large_once(number: int, body: bytes) -> bytes:
    os.write(record, number.to_bytes(4, "big"))
    return body


@worker.method(idempotent=True)
def slowly(number: int, seconds: float) -> int:
    time.sleep(seconds)
    return scramble(number)


@worker.method
def series(first: int, count: int) -> Iterator[int]:
    for number in range(first, first + count):
        yield scramble(number)


@worker.method(idempotent=True)
def asks(target: str, number: int) -> Any:
    """Has another service answer."""
    return worker.call(target, number)


@worker.method
def asks_once(target: str, number: int) -> Any:
    return worker.call(target, number)


worker.run()
