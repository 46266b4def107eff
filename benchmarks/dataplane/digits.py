"""Rows of digits, classified one a call: in batches, one by one, and without any call at all."""

from __future__ import annotations

import asyncio
import importlib
import tempfile
import time
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.contenders.contender import HERE, Unavailable, percentiles
from benchmarks.contenders.loop_thread import OrchestratorThread
from benchmarks.recovery.subject import Figures

if TYPE_CHECKING:
    from mlports import Config, ServiceConfig

CALLERS = 64
"""Those that call at a time, and so the rows of a batch."""

COMMAND = ("python", str(HERE / "digits_worker.py"))

MAX_WAIT = "2ms"


class Digits:
    """A logistic regression that is fitted to all of scikit-learn's digits. Raises Unavailable without that."""

    def __init__(self) -> None:
        try:
            datasets = importlib.import_module("sklearn.datasets")
            linear_model = importlib.import_module("sklearn.linear_model")
        except ImportError as error:
            raise Unavailable("scikit-learn is not installed") from error
        pixels, digits = datasets.load_digits(return_X_y=True)
        self.rows: Any = pixels / 16
        self.model: Any = linear_model.LogisticRegression(max_iter=200).fit(self.rows, digits)

    @property
    def config(self) -> dict[str, Any]:
        """The model as the worker takes it."""
        return {name: getattr(self.model, f"{name}_").tolist() for name in ("classes", "coef", "intercept")}


class InProcess:
    """`predict` of matrices that are there already, one after the other: no rows to gather, nobody to answer.

    `run(mode, rows)` gives "rows", those of a second. The mode is "many".
    """

    name: ClassVar[str] = "digits-in-process"
    title: ClassVar[str] = f"predict in process, batches of {CALLERS}"

    def open(self) -> None:
        digits = Digits()
        self._predict, self._rows = digits.model.predict, digits.rows

    def close(self) -> None:
        pass

    def run(self, *request: Any) -> Figures:
        _, rows = request
        last = len(self._rows) - CALLERS
        batches = [self._rows[at : at + CALLERS] for at in range(0, last, CALLERS)]
        calls = max(1, rows // CALLERS)
        start = time.perf_counter()
        for number in range(calls):
            self._predict(batches[number % len(batches)])
        return {"rows": [calls * CALLERS / (time.perf_counter() - start)]}


class Unbatched:
    """One worker, one row a call.

    `run(mode, rows)`: "many" has 64 callers, each of which awaits its answer before it calls again, and gives "rows",
    those of a second; "lone" has one, and gives "us", the median of its calls in microseconds.
    """

    name: ClassVar[str] = "digits-unbatched"
    title: ClassVar[str] = f"mlports, {CALLERS} callers, unbatched"
    batched: ClassVar[bool] = False

    def open(self) -> None:
        self._digits = Digits()
        self._expected: list[int] = self._digits.model.predict(self._digits.rows).tolist()
        self._folder = tempfile.TemporaryDirectory(prefix="mlports-bench-")
        try:
            self._thread = OrchestratorThread(self._configure)
        except BaseException:
            self._folder.cleanup()
            raise

    def _configure(self) -> Config:
        from mlports import Config

        return Config(service={"digits": self._service()}, directory=self._folder.name)

    def _service(self) -> ServiceConfig:
        from mlports import ServiceConfig

        # Not among the arguments where it is none, because versions without it have no such key.
        more: dict[str, Any] = {"batch": {"max_size": CALLERS, "max_wait": MAX_WAIT}} if self.batched else {}
        return ServiceConfig(command=COMMAND, config=self._digits.config, **more)

    def close(self) -> None:
        self._thread.close()
        self._folder.cleanup()

    def run(self, *request: Any) -> Figures:
        mode, rows = request
        return self._thread.do(self._lone(rows) if mode == "lone" else self._many(rows))

    async def _many(self, calls: int) -> Figures:
        each = max(1, calls // CALLERS)
        start = time.perf_counter()
        await asyncio.gather(*[self._caller(number, each) for number in range(CALLERS)])
        return {"rows": [each * CALLERS / (time.perf_counter() - start)]}

    async def _lone(self, calls: int) -> Figures:
        times: list[int] = []
        await self._caller(0, calls, times)
        return {"us": [percentiles(times)[0]]}

    async def _caller(self, number: int, calls: int, times: list[int] | None = None) -> None:
        """Calls with every 64th row from this one on. Raises RuntimeError for an answer that is not the model's."""
        call, clock = self._thread.orchestrator.call, time.perf_counter_ns
        rows = [(self._digits.rows[at], self._expected[at]) for at in range(number, len(self._expected), CALLERS)]
        for turn in range(calls):
            row, expected = rows[turn % len(rows)]
            start = clock()
            digit = await call("digits.predict", row)
            if times is not None:
                times.append(clock() - start)
            if digit != expected:
                raise RuntimeError(f"the worker says that a row is a {digit}, and the model {expected}")


class Batched(Unbatched):
    name: ClassVar[str] = "digits-batched"
    title: ClassVar[str] = f"mlports, {CALLERS} callers, batches of up to {CALLERS}"
    batched: ClassVar[bool] = True
