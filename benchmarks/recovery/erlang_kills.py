"""Erlang: kill -9 of the worker behind an OTP supervisor, to the next answer."""

from __future__ import annotations

import os
import signal
import time
from typing import Any, ClassVar

from benchmarks.contenders.escript import Escript
from benchmarks.recovery.subject import PATIENCE, WORKER, Figures, freeze

STEP = 0.005
"""Seconds between two looks at the number of answers."""

UNDER_WAY = 512
"""Answers after which the load counts as being under way."""


class ErlangKills:
    """supervisor_bench.escript as a child, which makes the calls; the kills come from here, as mlports's do."""

    name: ClassVar[str] = "kills-erlang"
    title: ClassVar[str] = "Erlang supervisor, same worker"

    def open(self) -> None:
        self._escript = Escript("supervisor_bench.escript", *WORKER)

    def close(self) -> None:
        self._escript.close()

    def run(self, *request: Any) -> Figures:
        """`request` is the number of kills; each gives a figure "ms"."""
        (kills,) = request
        return {"ms": [self._kill() for _ in range(kills)]}

    def _kill(self) -> float:
        under_way = self._ask("answers")[0] + UNDER_WAY
        self._ask("go")
        end = time.monotonic() + PATIENCE
        while self._ask("answers")[0] < under_way:
            if time.monotonic() > end:
                raise RuntimeError(f"the worker has not come back within {PATIENCE:g} s")
            time.sleep(STEP)
        pid = self._ask("worker")[0]
        freeze(pid)
        try:
            answers = -1
            while answers != self._ask("answers")[0]:
                answers = self._ask("answers")[0]
                time.sleep(STEP)
            if not self._ask("worker")[1]:
                raise RuntimeError(f"worker {pid} was frozen, and has nothing to answer")
            self._ask("next")
            # The answer's time is that of the same clock in another process.
            start = time.time_ns()
        finally:
            os.kill(pid, signal.SIGKILL)
        return (int(self._escript.answer()) - start) / 1e6

    def _ask(self, question: str) -> list[int]:
        self._escript.say(question)
        return [int(word) for word in self._escript.answer().split()]
