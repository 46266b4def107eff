"""The process pools: the standard library's, and loky."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from typing import Any, ClassVar

from benchmarks.contenders.contender import (
    BULK,
    ONE,
    PLACEMENTS,
    Modes,
    Sample,
    Unavailable,
    check_echo,
    in_flight,
    is_single,
    make_payload,
    time_bulk,
    time_each,
    time_window,
)


def echo(value: Any) -> Any:
    return value


class _Pool:
    """A pool of one process. `submit(f, x).result()` is its whole interface, so each mode is written the plain way.

    `map` with a chunk size is no fairer: it amortises its calls only where all are known beforehand, and has no
    counterpart for a server's calls. Bulk, all submitted and then collected, is the best a pool does for those.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    distribution: ClassVar[str | None]
    modes: ClassVar[Modes] = {
        "64 B": (*PLACEMENTS, "64", "256", BULK),
        "64 KiB": (ONE, "64", "256", BULK),
        "8 MiB": (ONE, "64"),
    }

    def start(self) -> Executor:
        raise NotImplementedError

    def open(self) -> None:
        self._pool = self.start()

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def run(self, payload: str, mode: str, calls: int) -> Sample:
        pool, value = self._pool, make_payload(payload)
        check_echo(value, pool.submit(echo, value).result())
        result: Callable[[Future[Any]], Any] = Future.result
        if is_single(mode):
            return time_each(lambda: pool.submit(echo, value).result(), calls)
        if mode == BULK:
            return time_bulk(lambda: pool.submit(echo, value), result, calls)
        return time_window(lambda: pool.submit(echo, value), result, calls, in_flight(mode))


class ProcessPool(_Pool):
    name: ClassVar[str] = "ppe"
    title: ClassVar[str] = "ProcessPoolExecutor"
    distribution: ClassVar[str | None] = None

    def start(self) -> Executor:
        return ProcessPoolExecutor(max_workers=1)


class Loky(_Pool):
    name: ClassVar[str] = "loky"
    title: ClassVar[str] = "loky"
    distribution: ClassVar[str | None] = "loky"

    def start(self) -> Executor:
        try:
            loky = importlib.import_module("loky")
        except ImportError as error:
            raise Unavailable("loky is not installed") from error
        pool: Executor = loky.ProcessPoolExecutor(max_workers=1)
        return pool
