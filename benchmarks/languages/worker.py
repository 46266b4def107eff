"""One SDK's echo, called through an orchestrator, and the worker's bare start."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.contenders.contender import MIB, Unavailable
from benchmarks.contenders.loop_thread import OrchestratorThread
from benchmarks.recovery.bare_start import bare_start
from benchmarks.recovery.subject import PATIENCE, PAYLOAD, Figures

if TYPE_CHECKING:
    from mlports import Config

LANGUAGES = {
    "python": "Python",
    "c": "C",
    "cpp": "C++",
    "elixir": "Elixir",
    "erlang": "Erlang",
    "go": "Go",
    "java": "Java",
    "lua": "Lua",
    "node": "Node",
    "perl": "Perl",
    "r": "R",
    "ruby": "Ruby",
    "rust": "Rust",
}
"""Folders of workers/, and what people call them."""

START, ONE_AT_A_TIME, MANY, LARGE = "start", "one at a time", "256 in flight", "8 MiB"

WORKERS = Path(__file__).resolve().parents[2] / "workers"

IN_FLIGHT = 256
LARGE_BYTES = 8 * MIB


def subject_name(language: str) -> str:
    return f"worker-{language}"


class LanguageWorker:
    """The conformance worker of one SDK behind an orchestrator, one replica.

    `run(START, n)` gives "ms" for each of n bare starts, up to the first echo; `run(ONE_AT_A_TIME, n)` "us", the p50 of
    n echoes of 64 bytes; `run(MANY, n)` "calls", so many a second of n echoes, 256 in flight; `run(LARGE, n)` "ms" for
    each of n echoes of 8 MiB of bytes.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    language: ClassVar[str]

    def open(self) -> None:
        self._thread = OrchestratorThread(self._configure)

    def _configure(self) -> Config:
        from mlports import Config
        from mlports.config import load_config

        folder = WORKERS / self.language
        if not (folder / "mlports.toml").is_file():
            raise Unavailable(f"there is no workers/{self.language}")
        found = load_config(folder / "mlports.toml")
        service = found.service["conformance"]
        program, *arguments = service.command
        place = folder / program if os.sep in program else shutil.which(program)
        if place is None or not os.path.exists(place):
            raise Unavailable(f"{program} is not there: `make workers` builds what can be built on this machine")
        self._command = [sys.executable if program == "python" else str(place), *arguments]
        self._folder = folder / service.cwd
        return Config(service={"worker": service}, directory=folder)

    def close(self) -> None:
        self._thread.close()

    def run(self, *request: Any) -> Figures:
        what, times = request
        if what == START:
            return {"ms": [bare_start(self._command, self._folder) for _ in range(times)]}
        if what == ONE_AT_A_TIME:
            return {"us": [statistics.median(self._thread.do(self._one_by_one(PAYLOAD, times))) * 1e6]}
        if what == MANY:
            return {"calls": [self._thread.do(self._many(times))]}
        return {"ms": [seconds * 1e3 for seconds in self._thread.do(self._one_by_one(b"x" * LARGE_BYTES, times))]}

    async def _one_by_one(self, payload: bytes, times: int) -> list[float]:
        call, found = self._thread.orchestrator.call, []
        async with asyncio.timeout(PATIENCE):
            for _ in range(times):
                start = time.perf_counter()
                answer = await call("worker.echo", payload)
                found.append(time.perf_counter() - start)
        if len(answer) != len(payload):
            raise RuntimeError("the echo is not what was sent")
        return found

    async def _many(self, calls: int) -> float:
        call, left = self._thread.orchestrator.call, calls - IN_FLIGHT
        finished, open_calls = asyncio.get_running_loop().create_future(), IN_FLIGHT

        def answered(answer: asyncio.Future[Any]) -> None:
            nonlocal left, open_calls
            if (failure := answer.exception()) is not None:
                if not finished.done():
                    finished.set_exception(failure)
            elif left > 0:
                left -= 1
                call("worker.echo", PAYLOAD).add_done_callback(answered)
            else:
                open_calls -= 1
                if not open_calls and not finished.done():
                    finished.set_result(None)

        start = time.perf_counter()
        for _ in range(IN_FLIGHT):
            call("worker.echo", PAYLOAD).add_done_callback(answered)
        async with asyncio.timeout(PATIENCE):
            await finished
        return calls / (time.perf_counter() - start)
