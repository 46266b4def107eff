"""A thousand workers under one tree, and what it costs when one of them dies."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import struct
import tempfile
import time
from dataclasses import dataclass
from typing import Any, ClassVar

from benchmarks.contenders.c_program import compiled
from benchmarks.contenders.contender import Unavailable
from benchmarks.contenders.loop_thread import loop_factory
from benchmarks.recovery.subject import PATIENCE, Figures

DESCRIPTORS = 5
"""The most that a worker may cost its owner."""

STRIDE = 7
"""From one victim to the next, so that no two neighbours die one after the other."""


def cpu_seconds() -> float:
    """What this process and the children that it has collected have used."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


class _Crowd:
    """tiny_worker.c, compiled here.

    `run(workers, crashes)` starts so many and kills so many of them, one at a time, each when the one before is back.
    """

    def open(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="mlports-bench-")
        try:
            self._program = compiled("tiny_worker.c", self._folder.name)
        except Unavailable:
            self._folder.cleanup()
            raise

    def close(self) -> None:
        self._folder.cleanup()

    def _make_room(self, workers: int) -> None:
        """Raises Unavailable where so many workers have more pipes than this process may hold."""
        wanted = workers * DESCRIPTORS + 100
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < wanted:
            raise Unavailable(f"{workers:,} workers need {wanted:,} open files, and ulimit -Hn is {hard:,}")
        if soft != resource.RLIM_INFINITY and soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class MlportsCrowd(_Crowd):
    """One service; `start` is the time of Orchestrator.start(), `crash` what each crash cost in processor time.

    Seconds both. A worker is back when its "ready" is told.
    """

    name: ClassVar[str] = "crowd-mlports"
    title: ClassVar[str] = "mlports"

    def run(self, *request: Any) -> Figures:
        workers, crashes = request
        self._make_room(workers)
        handler = signal.getsignal(signal.SIGTERM)
        try:
            with asyncio.Runner(loop_factory=loop_factory()) as runner:
                return runner.run(self._run(workers, crashes))
        finally:
            signal.signal(signal.SIGTERM, handler)

    async def _run(self, workers: int, crashes: int) -> Figures:
        from mlports import Config, Orchestrator, ServiceConfig, SupervisorConfig

        # The loop has the main thread here: an exception out of a handler could interrupt it anywhere in its work.
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        service = ServiceConfig(command=[self._program], replicas=workers)
        root = SupervisorConfig(intensity=1_000_000, period=1)
        config = Config(supervisor=root, service={"tiny": service}, directory=self._folder.name)
        orchestrator = Orchestrator(config=config)
        pids: dict[int, int] = {}
        arrived = asyncio.Event()

        def heard(event: dict[str, Any]) -> None:
            if event["event"] == "ready":
                pids[event["replica"]] = event["pid"]
                arrived.set()

        orchestrator.event_log.listen(heard)
        async with asyncio.timeout(2 * PATIENCE):
            start = time.perf_counter()
            async with orchestrator:
                started = time.perf_counter()
                if len(pids) != workers:
                    raise RuntimeError(f"start() has returned with {len(pids)} of {workers} workers ready")
                before = cpu_seconds()
                for crash in range(crashes):
                    replica = crash * STRIDE % workers
                    victim = pids[replica]
                    os.kill(victim, signal.SIGKILL)
                    while pids[replica] == victim:
                        arrived.clear()
                        await arrived.wait()
                used = cpu_seconds() - before
        return {"start": [started - start], "crash": [used / crashes]}


@dataclass(slots=True)
class _Spawned:
    """A worker and our ends of its pipes."""

    pid: int
    write: int
    read: int


class SpawnedCrowd(_Crowd):
    """A loop of os.posix_spawn, two pipes for each; nobody is supervised.

    `start` is the time of the loop alone, `hello` of all up to the last answer to a hello, `crash` what it costs to
    kill one, collect it, start another and have its answer. Seconds each; that of a crash is processor time.
    """

    name: ClassVar[str] = "crowd-spawned"
    title: ClassVar[str] = "posix_spawn in a loop"

    HELLO: ClassVar[bytes] = b"\x94\x00\x00\xa7$/hello\x91\x80"

    def run(self, *request: Any) -> Figures:
        workers, crashes = request
        self._make_room(workers)
        crowd: list[_Spawned] = []
        try:
            start = time.perf_counter()
            for _ in range(workers):
                crowd.append(self._spawn())
            spawned = time.perf_counter()
            for worker in crowd:
                self._greet(worker)
            for worker in crowd:
                self._await_answer(worker)
            greeted = time.perf_counter()
            before = cpu_seconds()
            for crash in range(crashes):
                number = crash * STRIDE % workers
                self._end(crowd[number])
                crowd[number] = self._spawn()
                self._greet(crowd[number])
                self._await_answer(crowd[number])
            used = cpu_seconds() - before
        finally:
            for worker in crowd:
                self._end(worker)
        return {"start": [spawned - start], "hello": [greeted - start], "crash": [used / crashes]}

    def _spawn(self) -> _Spawned:
        their_in, our_out = os.pipe()
        our_in, their_out = os.pipe()
        places = [(os.POSIX_SPAWN_DUP2, their_in, 0), (os.POSIX_SPAWN_DUP2, their_out, 1)]
        pid = os.posix_spawn(self._program, [self._program], os.environ, file_actions=places)
        os.close(their_in)
        os.close(their_out)
        return _Spawned(pid, our_out, our_in)

    def _greet(self, worker: _Spawned) -> None:
        os.write(worker.write, struct.pack(">I", len(self.HELLO)) + self.HELLO)

    def _await_answer(self, worker: _Spawned) -> None:
        if not os.read(worker.read, 4096):
            raise RuntimeError(f"worker {worker.pid} has ended before it answered")

    def _end(self, worker: _Spawned) -> None:
        os.kill(worker.pid, signal.SIGKILL)
        os.waitpid(worker.pid, 0)
        os.close(worker.write)
        os.close(worker.read)
