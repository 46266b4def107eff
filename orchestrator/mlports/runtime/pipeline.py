"""Pipelines: services called one after the other, each with the result of the one before, on one deadline."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import AsyncIterable, Iterable, Mapping, Sequence, Sized
from copy import copy
from typing import TYPE_CHECKING, Any

from mlports.errors import CallError, DeadlineExceeded, Overloaded
from mlports.runtime.call import Call, CallOptions, Special, StreamItems
from mlports.runtime.mapping import Chunks

if TYPE_CHECKING:
    from mlports.config import PipelineConfig
    from mlports.runtime.service import Service

_PATIENCE = 0.01  # seconds before a stage with a full queue is tried again, in a map
_AHEAD = 2  # batches under way for each replica of each stage: one at work, one on its way
_BATCH = 64  # calls that are taken to fill one whose size finds itself


class PipelineCall(asyncio.Future[Any]):
    """One call of a pipeline, as the future of the last stage's result; cancelling it cancels the stage under way.

    `deadline` is monotonic seconds, infinite when there is none; None when each stage has its service's own timeout. A
    `patient` one waits wherever a queue is full.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        params: Sequence[Any],
        deadline: float | None,
        special: Special | None,
        patient: bool,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        super().__init__(loop=loop)
        self._pipeline = pipeline
        self._params = params
        self._deadline = deadline
        self._special = special
        self._patient = patient
        self._at = 0
        self._stage: Call | None = None
        self._pause: asyncio.TimerHandle | None = None
        pipeline.under_way += 1

    def cancel(self, msg: Any | None = None) -> bool:
        """Gives the call up: a worker that is at one of its stages is told."""
        cancelled = super().cancel(msg)
        if cancelled:
            self._pipeline.under_way -= 1
            if self._pause is not None:
                self._pause.cancel()
            if self._stage is not None:
                self._stage.cancel()
        return cancelled

    def go_on(self) -> None:
        """Calls the stage whose turn it is."""
        self._pause = None
        service, method = self._pipeline.stages[self._at]
        timeout = service.config.timeout
        if self._deadline is not None:
            timeout = None if self._deadline == math.inf else self._deadline - time.monotonic()
            if timeout is not None and not timeout > 0:  # NaN too
                text = "the time of the whole was up before it began"
                self._fail(DeadlineExceeded(text, service=service.name, method=method))
                return
        self._stage = service.dispatcher.call(method, self._params, timeout, self._special_of_stage())
        if not self._at and self._special is not None and self._special.input is not None:
            self._special.input.belong_to(self._stage)
        self._stage.add_done_callback(self._on_stage_done)

    def _special_of_stage(self) -> Special | None:
        special = self._special
        if special is None:
            return None
        plain = special if self._at == len(self._pipeline.stages) - 1 else special._replace(stream=None)
        if self._at:
            plain = plain._replace(input=None)
        return None if plain == Special() else plain

    def _on_stage_done(self, stage: asyncio.Future[Any]) -> None:
        if stage.cancelled():
            self.cancel()
            return
        error = stage.exception()
        if self.done():
            return
        if error is not None:
            if self._patient and isinstance(error, Overloaded):
                self._pause = self.get_loop().call_later(_PATIENCE, self.go_on)
            else:
                self._fail(error)
            return
        self._at += 1
        if self._at < len(self._pipeline.stages):
            self._params = (stage.result(),)
            self.go_on()
        else:
            self._pipeline.under_way -= 1
            self._pipeline.answered += 1
            self.set_result(stage.result())

    def _fail(self, error: BaseException) -> None:
        self._pipeline.under_way -= 1
        self._pipeline.failed += 1
        items = self._special.stream if self._special is not None else None
        if items is None:
            self.set_exception(self.told(error))
            return
        self.set_exception(error)
        self.exception()  # seen: the stream tells it to whoever reads on
        if not items.ended:
            items.fail(error)

    def told(self, error: BaseException) -> BaseException:
        """The error of the stage under way, the same in kind and content, which says where it came from."""
        if not isinstance(error, CallError):
            return error
        service, method = self._pipeline.stages[self._at]
        target = f"{service.name}.{method}"
        place = f"stage {self._at + 1} of {len(self._pipeline.stages)} ({target})"
        # A copy, because the stage's own may be another call's too.
        whole = copy(error)
        whole.message = f"in pipeline {self._pipeline.name}, {place}: {error.message.removeprefix(f'{target}: ')}"
        whole.args = (whole.message,)
        whole.__cause__ = error.__cause__
        return whole


class PipelineItems(StreamItems):
    """The items of the last stage's streamed answer, or the error of whichever stage failed."""

    def __init__(self) -> None:
        super().__init__()
        self.call: PipelineCall | None = None

    def fail(self, error: BaseException) -> None:
        super().fail(error if self.call is None else self.call.told(error))


class Pipeline:
    """One [pipeline.NAME]: its stages, and how many calls of it came to what end."""

    def __init__(self, name: str, config: PipelineConfig, services: Mapping[str, Service]) -> None:
        self.name = name
        self.config = config
        self.stages: list[tuple[Service, str]] = []
        self.answered = 0
        self.failed = 0
        self.under_way = 0
        self._loop = asyncio.get_running_loop()
        for stage in config.stages:
            service, _, method = stage.rpartition(".")
            self.stages.append((services[service], method))

    def call(
        self,
        params: Sequence[Any],
        timeout: float | None,
        special: Special | None = None,
        *,
        of_stages: bool = False,
        patient: bool = False,
    ) -> PipelineCall:
        """Calls the first stage with `params`, and so on; `timeout` is for all of them together.

        Where that is None, and `of_stages` is set, each stage has the timeout of its service.
        """
        deadline = None if of_stages else math.inf
        if timeout is not None:
            deadline = time.monotonic() + timeout
        call = PipelineCall(self, params, deadline, special, patient, self._loop)
        if special is not None and isinstance(special.stream, PipelineItems):
            special.stream.call = call
        call.go_on()
        return call

    async def map(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        timeout: float | None,
        return_exceptions: bool,
        options: CallOptions,
        *,
        of_stages: bool = False,
    ) -> list[Any]:
        """The last stage's results in the order of the items; `timeout` is for each of them. See `Orchestrator.map`."""
        source = Chunks(items)
        progress = options.pop("progress", None)
        special = Special(**options) if options else None
        total = len(items) if isinstance(items, Sized) else None
        most = self._window()
        under_way: deque[PipelineCall] = deque()
        results: list[Any] = []
        try:
            while True:
                while len(under_way) < most:
                    taken = await source.take(1)
                    if not taken:
                        break
                    under_way.append(self.call(taken, timeout, special, of_stages=of_stages, patient=True))
                if not under_way:
                    return results
                try:
                    results.append(await under_way[0])
                except CallError as error:
                    if not return_exceptions:
                        raise
                    results.append(error)
                under_way.popleft()
                if progress is not None:
                    progress(len(results), total, "")
        finally:
            for call in under_way:
                if not call.cancel() and not call.cancelled():
                    call.exception()  # seen: another one's error is raised

    def _window(self) -> int:
        """How many items of a map are under way: batches for every replica, but no more than a queue can hold."""
        services = {service.name: service.config for service, _ in self.stages}.values()
        full = 0
        for one in services:
            size = one.batch.max_size if one.batch is not None else _BATCH
            full += _AHEAD * one.replicas * (size if isinstance(size, int) else _BATCH)
        return max(sum(one.replicas for one in services), min(full, *(one.queue for one in services)))

    def status(self) -> dict[str, Any]:
        """What there is to tell, as plain values."""
        return {
            "stages": list(self.config.stages),
            "answered": self.answered,
            "failed": self.failed,
            "under_way": self.under_way,
        }
