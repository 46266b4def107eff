"""An orchestrator under a load of everything at once, while its workers are killed: for soak tests, and as a program.

    python run_orchestrator.py RECORD SEED

runs until it is killed itself. It writes a line before it starts, and one whenever some calls have come to an end.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import select
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Container, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mlports import CallError, Config, DeadlineExceeded, Orchestrator, ServiceConfig, SupervisorConfig, WorkerCrashed

PROGRAM = Path(__file__).with_name("soaked.py")
MOST_ONCE = 1 << 22  # calls of a load that may not be repeated

_DRIVERS = 64
_ALLOWED = 1_000_000  # restarts, and attempts: how often a worker is killed is for the test to say


def scrambled(number: int) -> int:
    """What the worker is to answer."""
    return number * 0x9E3779B1 % 2**32


def soaked(record: Path, *, pause: float = 0.0, child: bool = False, **settings: Any) -> ServiceConfig:
    """A service of soaked workers; `soaked.py` says what `pause`, in seconds, and `child` are."""
    command = [sys.executable, str(PROGRAM)]
    config = {"record": str(record), "pause": pause, "child": child}
    return ServiceConfig(command=command, config=config, retries=_ALLOWED, **settings)


def configuration(**services: ServiceConfig) -> Config:
    """These services, each of which may be restarted as often as it takes."""
    return Config(service=services, supervisor=SupervisorConfig(intensity=_ALLOWED))


def mixed(record: Path, child: bool = False) -> Config:
    """Two services for a `Load`: workers of `front` call `back`, and those of both are recycled."""
    common: dict[str, Any] = {"replicas": 2, "shutdown": 2.0, "child": child}
    return configuration(
        front=soaked(record, max_requests=200, **common),
        back=soaked(record, standby=1, max_requests=2000, **common),
    )


class Killer:
    """Kills one of this process's soaked workers every `interval` seconds, whatever it is at, starting up included.

    It does so from a thread, so that the event loop may be at anything as well. `most` is the number of children that
    this process had at once, as far as it has seen.
    """

    def __init__(self, interval: float, dice: random.Random) -> None:
        self.pids: set[int] = set()
        self.kills = 0
        self.most = 0
        self._interval = interval
        self._dice = dice
        self._end = threading.Event()

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Kills for as long as the block runs."""
        self._end.clear()
        thread = threading.Thread(target=self._run, name="killer")
        thread.start()
        try:
            yield
        finally:
            self._end.set()
            thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._interval):
            pids = children()
            self.most = max(self.most, len(pids))
            workers = [pid for pid in pids if is_soaked(pid)]
            if workers:
                self._kill(self._dice.choice(workers))

    def _kill(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            # The descriptor holds the pid, so that what is looked at is what is killed.
            handle = os.pidfd_open(pid)
            try:
                if is_soaked(pid):
                    self.pids.add(pid)
                    signal.pidfd_send_signal(handle, signal.SIGKILL)
                    self.kills += 1
                    select.select([handle], [], [])  # it is dead when the block ends
            finally:
                os.close(handle)


def children() -> list[int]:
    """The processes that this one's main thread has started and not collected."""
    return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]


def is_soaked(pid: int) -> bool:
    """Whether it is a soaked worker; one that is dead is not."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().endswith(b"/soaked.py\0")
    except OSError:
        return False


class Load:
    """Calls of every kind, at random, on the services `front` and `back`: each must come to a right end.

    `killed` are the pids of workers that may be blamed. `ends` counts how calls ended, by kind. `answered` has a 1 for
    each call of `once` that was answered.
    """

    def __init__(self, orch: Orchestrator, dice: random.Random, killed: Container[int]) -> None:
        self.ends: Counter[str] = Counter()
        self.answered = bytearray(MOST_ONCE)
        self._orch = orch
        self._dice = dice
        self._killed = killed
        self._once = itertools.count()
        self._kinds = [
            self._call,
            self._call_once,
            self._large_once,
            self._map,
            self._map_once,
            self._stream,
            self._nested,
            self._nested_once,
            self._cancelled,
            self._timed_out,
            self._cast,
        ]

    async def run(self, seconds: float) -> None:
        """Calls for so long. Raises an `ExceptionGroup` with what did not end right."""
        end = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            for _ in range(_DRIVERS):
                group.create_task(self._drive(end))

    async def _drive(self, end: float) -> None:
        while time.monotonic() < end:
            kind = self._dice.choice(self._kinds)
            how = await kind()
            self.ends[f"{kind.__name__[1:]} {how}"] += 1

    def _number(self) -> int:
        return self._dice.randrange(2**31)

    # -- the kinds of calls; each tells how it ended

    async def _call(self) -> str:
        number = self._number()
        assert await self._orch.call("back.scramble", number) == scrambled(number)
        return "answered"

    async def _call_once(self) -> str:
        number = next(self._once)
        try:
            result = await self._orch.call("back.once", number)
        except WorkerCrashed as error:
            self._check_blame(error)
            return "crashed"
        self._take_once(number, result)
        return "answered"

    async def _large_once(self) -> str:
        """More than a pipe takes at once: a worker may die with a part of it."""
        number = next(self._once)
        body = number.to_bytes(4, "big") * self._dice.randrange(100_000)
        try:
            result = await self._orch.call("back.large_once", number, body)
        except WorkerCrashed as error:
            self._check_blame(error)
            return "crashed"
        assert result == body
        self.answered[number] = 1
        return "answered"

    async def _map(self) -> str:
        first = self._number()
        numbers = range(first, first + self._dice.randrange(300))
        assert await self._orch.map("back.scramble", numbers) == list(map(scrambled, numbers))
        return "answered"

    async def _map_once(self) -> str:
        numbers = [next(self._once) for _ in range(self._dice.randrange(100))]
        results = await self._orch.map("back.once", numbers, return_exceptions=True)
        assert len(results) == len(numbers)
        crashed = 0
        for number, result in zip(numbers, results, strict=True):
            if isinstance(result, WorkerCrashed):
                self._check_blame(result)
                crashed += 1
            else:
                self._take_once(number, result)
        return "crashed in part" if crashed else "answered"

    async def _stream(self) -> str:
        first, count, wanted = self._number(), self._dice.randrange(200), self._dice.randrange(1, 400)
        taken = 0
        try:
            async with self._orch.stream("front.series", first, count) as items:
                async for item in items:
                    assert item == scrambled(first + taken)
                    taken += 1
                    if taken == wanted:
                        return "left"
        except WorkerCrashed as error:
            self._check_blame(error)
            return "crashed"
        assert taken == count
        return "answered"

    async def _nested(self) -> str:
        number = self._number()
        assert await self._orch.call("front.asks", "back.scramble", number) == scrambled(number)
        return "answered"

    async def _nested_once(self) -> str:
        number = next(self._once)
        try:
            result = await self._orch.call("front.asks_once", "back.once", number)
        except WorkerCrashed as error:
            self._check_blame(error)
            return "crashed"
        except CallError as error:
            self._check_passed_on(error)
            return "crashed within"
        self._take_once(number, result)
        return "answered"

    async def _cancelled(self) -> str:
        number = self._number()
        call = self._orch.call("front.slowly", number, self._dice.random() * 0.004)
        await asyncio.wait([call], timeout=self._dice.random() * 0.2)
        if call.cancel():
            return "cancelled"
        assert call.result() == scrambled(number)
        return "answered"

    async def _timed_out(self) -> str:
        number = self._number()
        try:
            seconds, timeout = self._dice.random() * 0.004, self._dice.uniform(0.001, 0.2)
            result = await self._orch.call("front.slowly", number, seconds, timeout=timeout)
        except DeadlineExceeded:
            return "timed out"
        assert result == scrambled(number)
        return "answered"

    async def _cast(self) -> str:
        self._orch.cast("back.once", next(self._once))
        await asyncio.sleep(0)
        return "sent"

    # -- what may be

    def _check_blame(self, error: WorkerCrashed) -> None:
        verdict = error.verdict
        assert verdict is not None, error
        assert (verdict.cause, verdict.name) == ("signal", "SIGKILL"), error
        assert verdict.pid in self._killed, error

    def _check_passed_on(self, error: CallError) -> None:
        """A worker of `front` passed on what became of its own call."""
        assert error.code == "unavailable", error
        assert "back.once got no answer: worker back/" in str(error), error
        assert "was killed by SIGKILL" in str(error), error

    def _take_once(self, number: int, result: Any) -> None:
        assert result == scrambled(number), (number, result)
        self.answered[number] = 1


async def main(record: Path, seed: int) -> None:
    dice = random.Random(seed)
    killer = Killer(0.1, dice)
    print(0, flush=True)
    async with Orchestrator(config=mixed(record, child=True)) as orch:
        load = Load(orch, dice, killer.pids)
        with killer.at_work():
            while True:
                await load.run(0.05)
                print(load.ends.total(), flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
