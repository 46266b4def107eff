"""Streamed arguments of blocking calls: taken in the thread that calls, while the loop goes on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import mlports
from mlports import (
    BlockingOrchestrator,
    CallError,
    DeadlineExceeded,
    InvalidArgument,
    ServiceConfig,
    UnknownService,
    WorkerCrashed,
)
from tests.workers import marks, program, until_blocking

METHODS = """
@worker.method
def plain(x):
    return x

@worker.method(input=True)
def total(items):
    return sum(items)

@worker.method(input=True)
def first(items, n):
    return [next(items) for _ in range(n)]

@worker.method(input=True)
def echo(items):
    yield from items

@worker.method(input=True)
def doubles(items):
    yield "ready"
    for item in items:
        yield item
        yield item

@worker.method(input=True)
def tells(items, place):
    try:
        list(items)
    except Failure as failure:
        mark(place + "/ended", failure.code)
        raise

@worker.method(input=True)
def dies(items):
    next(items)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def orch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BlockingOrchestrator]:
    place = tmp_path_factory.mktemp("programs")
    with mlports.open(
        {
            "w": ServiceConfig(command=program(place, METHODS), timeout=10),
            "other": ServiceConfig(command=program(place, METHODS, "other"), timeout=10),
        }
    ) as orchestrator:
        yield orchestrator


class Source:
    """Numbers from 0, as an iterator that remembers its threads and counts how often it is closed."""

    def __init__(self, count: float = float("inf"), error: BaseException | None = None) -> None:
        self.count, self.error = count, error
        self.taken = self.closed = 0
        self.threads: set[int] = set()

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        self.threads.add(threading.get_ident())
        if self.taken >= self.count:
            raise self.error or StopIteration
        self.taken += 1
        return self.taken - 1

    def close(self) -> None:
        self.threads.add(threading.get_ident())
        self.closed += 1


def test_the_items_are_taken_in_the_calling_thread(orch: BlockingOrchestrator) -> None:
    for count in (0, 1, 2, 33, 300):
        source = Source(count)
        assert orch.call("w.total", input=source) == sum(range(count))
        assert (source.threads, source.closed) == ({threading.get_ident()}, 1)
        source = Source(count)
        assert list(orch.stream("w.echo", input=source)) == list(range(count))
        assert (source.threads, source.closed) == ({threading.get_ident()}, 1)
    assert orch.call("w.total", input=[1, 2, 3]) == 6


def test_an_iterator_that_calls_itself(orch: BlockingOrchestrator) -> None:
    items = (orch.call("other.plain", number) for number in range(50))
    assert orch.call("w.total", input=items) == 1225
    assert orch.call("w.total", input=orch.stream("other.echo", input=range(50))) == 1225


def test_a_slow_iterator_holds_up_no_other_call(orch: BlockingOrchestrator) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def slowly() -> Iterator[int]:
        yield 1
        begun.set()
        go_on.wait(10)
        yield 2

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(lambda: orch.call("w.total", input=slowly()))
        assert begun.wait(10)
        for number in range(20):
            assert orch.call("other.plain", number, timeout=5) == number
        go_on.set()
        assert call.result(10) == 3


def test_several_threads_at_once(orch: BlockingOrchestrator) -> None:
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(lambda n=n: orch.call("w.total", input=range(n))) for n in range(40)]  # type: ignore[misc]
        assert [call.result(20) for call in calls] == [sum(range(n)) for n in range(40)]


def test_both_directions_at_once(orch: BlockingOrchestrator) -> None:
    source = Source()
    stream = orch.stream("w.doubles", input=source)
    assert next(stream) == "ready"
    for number in range(200):
        assert next(stream) == next(stream) == number
        assert source.taken <= number + 32 + 33
    stream.close()  # type: ignore[attr-defined]  # a generator
    assert source.closed == 1
    assert orch.call("w.plain", 1) == 1


@pytest.mark.parametrize("kind", [KeyError, KeyboardInterrupt, SystemExit])
def test_the_exception_of_the_iterator_is_the_callers(
    orch: BlockingOrchestrator, kind: type[BaseException], tmp_path: Path
) -> None:
    error = kind("mine")  # made here: its traceback would keep the calls for as long as the tests run
    source = Source(5, error)
    with pytest.raises(type(error)) as caught:
        orch.call("w.tells", str(tmp_path), input=source)
    assert caught.value is error
    assert source.closed == 1
    until_blocking(lambda: marks(tmp_path / "ended") == ["cancelled"], "the handler heard of it")
    source = Source(5, error)
    with pytest.raises(type(error)) as caught:
        list(orch.stream("w.echo", input=source))
    assert caught.value is error
    assert source.closed == 1
    assert orch.call("w.plain", 1) == 1


def test_an_early_answer(orch: BlockingOrchestrator) -> None:
    source = Source()
    assert orch.call("w.first", 40, input=source) == list(range(40))
    assert source.closed == 1
    assert source.taken <= 40 + 32


def test_a_deadline(orch: BlockingOrchestrator) -> None:
    """Also while the iterator is at work."""
    until = threading.Event()

    def stalls() -> Iterator[int]:
        yield 1
        until.wait(0.4)
        yield 2

    with pytest.raises(DeadlineExceeded):
        orch.call("w.total", input=stalls(), timeout=0.1)
    assert orch.call("w.plain", 1) == 1


def test_a_worker_that_dies(tmp_path: Path) -> None:
    source = Source()
    with mlports.open({"w": ServiceConfig(command=program(tmp_path, METHODS))}) as orch:
        with pytest.raises(WorkerCrashed):
            orch.call("w.dies", input=source)
        assert source.closed == 1


def test_what_fails(orch: BlockingOrchestrator) -> None:
    target: str
    params: tuple[Any, ...]
    kind: type[CallError]
    for target, params, kind in (
        ("w.plain", (1,), InvalidArgument),
        ("nobody.total", (), UnknownService),
    ):
        source = Source()
        with pytest.raises(kind):
            orch.call(target, *params, input=source)
        assert source.closed == 1
    source = Source(5, StopAsyncIteration())
    with pytest.raises(RuntimeError, match="raised StopAsyncIteration"):
        orch.call("w.total", input=source)
    with pytest.raises(InvalidArgument, match="takes a streamed argument"):
        orch.call("w.total")
    with pytest.raises(TypeError, match="input is an iterable, not 5"):
        orch.call("w.total", input=5)  # type: ignore[arg-type]
