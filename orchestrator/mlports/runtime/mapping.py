"""`map`: many items through one method, in batches of a size that finds itself."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Sequence, Sized
from itertools import islice
from typing import Any

from mlports.core.batching import ChunkSize
from mlports.errors import CallError, InvalidArgument, Overloaded, call_error
from mlports.runtime.call import Call, CallOptions, Special
from mlports.runtime.joining import Errors
from mlports.runtime.service import Service

_PATIENCE = 0.01  # seconds before a full queue is tried again
_AHEAD = 2  # batches under way for each replica: one at work, one on its way


async def map_calls(
    service: Service,
    method: str,
    items: Iterable[Any] | AsyncIterable[Any],
    timeout: float | None,
    return_exceptions: bool,
    size: ChunkSize,
    options: CallOptions,
) -> list[Any]:
    """The results in the order of the items; `size` says how many travel together. See `Orchestrator.map`."""
    source = Chunks(items)
    progress = options.pop("progress", None)
    special = Special(**options) if options else None
    under_way: deque[tuple[Call, int, float]] = deque()
    results: list[Any] = []
    total = len(items) if isinstance(items, Sized) else None
    batches = await service.dispatcher.entrance.takes_batches()
    most = _AHEAD * service.config.replicas * (1 if batches else 64)
    try:
        while True:
            while len(under_way) < most:
                together = min(size.size, service.dispatcher.entrance.most_together(method))
                chunk = await source.take(together if batches else 1)
                if not chunk:
                    break
                call = await _submit(service, method, chunk, batches, timeout, special)
                under_way.append((call, len(chunk), time.monotonic()))
            if not under_way:
                return results
            call, count, began = under_way[0]
            try:
                outcome = await call
            except CallError as error:
                if isinstance(error, Overloaded) and not call.attempts:  # it gave way to another one
                    await asyncio.sleep(_PATIENCE)
                    again = await _submit(service, method, call.params, batches, timeout, special)
                    under_way[0] = (again, count, time.monotonic())
                    continue
                if count > 1 and _may_split(service, call, error):
                    size.refused(count)
                    halves = (call.params[: count // 2], call.params[count // 2 :])
                    calls = [await _submit(service, method, half, batches, timeout, special) for half in halves]
                    under_way[0] = (calls[1], len(halves[1]), time.monotonic())
                    under_way.appendleft((calls[0], len(halves[0]), time.monotonic()))
                    continue
                if not return_exceptions:
                    raise
                results += [error] * count
            else:
                if batches:
                    size.answered(count, time.monotonic() - max(began, call.request.at if call.request else began))
                    results += _with_errors(service, method, *outcome, return_exceptions=return_exceptions)
                else:
                    results.append(outcome)
            under_way.popleft()
            if progress is not None:
                progress(len(results), total, "")
    finally:
        for call, _, _ in under_way:
            if not call.cancel() and not call.cancelled():
                call.exception()  # seen: another one's error is raised


async def _submit(
    service: Service,
    method: str,
    chunk: Sequence[Any],
    batches: bool,
    timeout: float | None,
    special: Special | None,
) -> Call:
    if batches:
        special = (special or Special())._replace(items=len(chunk))
    while True:
        call = service.dispatcher.call(method, chunk, timeout, special)
        if not (call.done() and isinstance(call.exception(), Overloaded)):
            return call
        await asyncio.sleep(_PATIENCE)


def _may_split(service: Service, call: Call, error: CallError) -> bool:
    """Whether to try it with fewer items at a time: they may fit, or the one that is at fault then fails alone.

    Only when nothing was done yet, or it may be done again.
    """
    if isinstance(error, InvalidArgument):
        return call.request is None
    info = (service.dispatcher.methods or {}).get(call.method)
    return error.code == "resource_exhausted" and info is not None and info.idempotent


def _with_errors(
    service: Service, method: str, results: list[Any], errors: Errors, *, return_exceptions: bool
) -> list[Any]:
    for index, error in errors.items():
        exception = error if isinstance(error, CallError) else call_error(error, service=service.name, method=method)
        if not return_exceptions:
            raise exception
        results[index] = exception
    return results


class Chunks:
    """Takes items from an iterable or an async iterable, so many at a time."""

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any]) -> None:
        self._plain: Iterator[Any] | None = None
        self._async: AsyncIterator[Any] | None = None
        if isinstance(items, AsyncIterable):
            self._async = aiter(items)
        else:
            self._plain = iter(items)

    async def take(self, count: int) -> list[Any]:
        if self._plain is not None:
            return list(islice(self._plain, count))
        assert self._async is not None
        chunk: list[Any] = []
        async for item in self._async:
            chunk.append(item)
            if len(chunk) == count:
                break
        return chunk
