"""multiprocessing.Pipe to an echo process."""

from __future__ import annotations

import multiprocessing
import threading
import time
from multiprocessing.connection import Connection
from typing import Any, ClassVar

from benchmarks.contenders.contender import (
    ONE,
    PLACEMENTS,
    Modes,
    Sample,
    check_echo,
    in_flight,
    is_single,
    make_payload,
    time_each,
)

SMALL = 1024
"""Bytes up to which a window of 256 fits the socket's buffers, so that one thread can send and receive."""


def echo(conn: Connection[Any, Any], other_end: Connection[Any, Any]) -> None:
    other_end.close()
    while True:
        try:
            conn.send(conn.recv())
        except EOFError:
            return


class MpPipe:
    """`send` and `recv` over a duplex pipe: the least that the standard library has, without a pool's bookkeeping.

    Many in flight: with small payloads one thread sends one for each that it receives. Larger ones would fill the
    socket both ways and block both processes for ever, so there a second thread sends. 8 MiB goes one at a time.
    """

    name: ClassVar[str] = "pipe"
    title: ClassVar[str] = "multiprocessing.Pipe"
    distribution: ClassVar[str | None] = None
    modes: ClassVar[Modes] = {"64 B": (*PLACEMENTS, "64", "256"), "64 KiB": (ONE, "64", "256"), "8 MiB": (ONE,)}

    def open(self) -> None:
        self._conn, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.Process(target=echo, args=(theirs, self._conn), daemon=True)
        self._process.start()
        theirs.close()

    def close(self) -> None:
        self._conn.close()
        self._process.join()

    def run(self, payload: str, mode: str, calls: int) -> Sample:
        conn, value = self._conn, make_payload(payload)
        conn.send(value)
        check_echo(value, conn.recv())
        if is_single(mode):

            def call() -> None:
                conn.send(value)
                conn.recv()

            return time_each(call, calls)
        window = in_flight(mode)
        if len(value) <= SMALL:
            return self._one_thread(value, calls, window)
        return self._two_threads(value, calls, window)

    def _one_thread(self, value: bytes, calls: int, window: int) -> Sample:
        send, recv = self._conn.send, self._conn.recv
        first = min(window, calls)
        start = time.perf_counter()
        for _ in range(first):
            send(value)
        for _ in range(calls - first):
            recv()
            send(value)
        for _ in range(first):
            recv()
        return Sample(calls, time.perf_counter() - start)

    def _two_threads(self, value: bytes, calls: int, window: int) -> Sample:
        conn, room = self._conn, threading.Semaphore(window)

        def feed() -> None:
            for _ in range(calls):
                room.acquire()
                conn.send(value)

        feeder = threading.Thread(target=feed)
        start = time.perf_counter()
        feeder.start()
        for _ in range(calls):
            conn.recv()
            room.release()
        seconds = time.perf_counter() - start
        feeder.join()
        return Sample(calls, seconds)
