"""What no orchestrator can undercut: the same workers, their pipes and an epoll, and nobody who keeps books."""

from __future__ import annotations

import os
import select
import time
from collections import Counter
from itertools import cycle, islice
from typing import Any, ClassVar

from benchmarks.recovery.crowd import SpawnedCrowd
from benchmarks.recovery.subject import PATIENCE, PAYLOAD, Figures
from mlports_protocol import Codec, Request

READ_SIZE = 1 << 18

WINDOW = 600
"""Requests, of under 100 bytes, that fit into a pipe: no write may block."""


class BarePipes(SpawnedCrowd):
    """200 of tiny_worker.c; requests that are encoded already, answers of which only the bytes are counted.

    `run(workers, in_flight, calls)` is that of services, and so are the figures: what was answered at one look is asked
    anew of the workers whose turn it is, in one write each. At most 600 in flight at one worker.
    """

    name: ClassVar[str] = "bare-pipes"
    title: ClassVar[str] = "bare pipes and an epoll"

    WORKERS: ClassVar[int] = 200

    def open(self) -> None:
        super().open()
        self._make_room(self.WORKERS)
        self._frame = b"".join(bytes(part) for part in Codec().encode(Request(1, "echo", [PAYLOAD], {})))
        self._crowd = [self._spawn() for _ in range(self.WORKERS)]
        for worker in self._crowd:
            self._greet(worker)
            self._await_answer(worker)
        os.write(self._crowd[0].write, self._frame)
        self._answer_size = len(os.read(self._crowd[0].read, READ_SIZE))

    def close(self) -> None:
        for worker in self._crowd:
            self._end(worker)
        super().close()

    def run(self, *request: Any) -> Figures:
        workers, in_flight, calls = request
        if in_flight > WINDOW * workers:
            raise RuntimeError(f"{in_flight} requests do not fit into the pipes of {workers} workers")
        turns = cycle([worker.write for worker in self._crowd[:workers]])
        with select.epoll() as poll:
            for worker in self._crowd[:workers]:
                poll.register(worker.read, select.EPOLLIN)
            cpu, start = time.process_time(), time.perf_counter()
            self._ask(turns, in_flight)
            asked, size, came = in_flight, self._answer_size, 0
            while came < calls * size:
                ready = poll.poll(PATIENCE)
                if not ready:
                    raise RuntimeError(f"no worker has answered for {PATIENCE:.0f} s")
                came += sum(len(os.read(descriptor, READ_SIZE)) for descriptor, _ in ready)
                more = min(came // size + in_flight, calls) - asked
                self._ask(turns, more)
                asked += more
            seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        return {"us": [seconds / calls * 1e6], "cpu": [cpu / calls * 1e6]}

    def _ask(self, turns: cycle[int], requests: int) -> None:
        for descriptor, count in Counter(islice(turns, requests)).items():
            os.write(descriptor, self._frame * count)
