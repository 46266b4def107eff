"""Services that fail are left alone for a while, calls that take long are made twice: with real workers."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest

from mlports import (
    BatchConfig,
    BreakerConfig,
    CircuitOpen,
    DeadlineExceeded,
    HedgeConfig,
    InvalidArgument,
    Orchestrator,
    ServiceConfig,
    WorkerCrashed,
    WorkerError,
)
from tests.services import dispatcher_of, failure, outcomes, running
from tests.workers import marks, program, until

FICKLE = """
@worker.method(idempotent=True)
def work(x):
    if x < 0:
        raise ValueError(x)
    return x

@worker.method(batch=True, idempotent=True)
def works(xs):
    return [ValueError(x) if x < 0 else x for x in xs]

@worker.method(idempotent=True)
def note(x):
    pass

@worker.method
def end():
    os._exit(3)

@worker.method
def hold(place):
    mark(place + "/at-work")
    wait_for(place + "/go-on", lambda: current().cancelled)

@worker.method(idempotent=True)
def slow_at_first(place, x):
    mark(place + "/at-work")
    try:
        descriptor = os.open(place + "/first", os.O_CREAT | os.O_EXCL)
    except FileExistsError:
        return x
    os.close(descriptor)
    wait_for(place + "/go-on", lambda: current().cancelled)
    mark(place + "/left", "cancelled" if current().cancelled else "went on")
    return "late"

@worker.method
def once(place, x):
    mark(place + "/at-work")
    wait_for(place + "/go-on", lambda: current().cancelled)
    return x
"""

PAUSE = 0.3
BREAKER = BreakerConfig(failures=0.5, of=4, pause=PAUSE)


def fickle(directory: Path, **settings: Any) -> ServiceConfig:
    return ServiceConfig(command=program(directory, FICKLE, "fickle"), **settings)


def state(orch: Orchestrator) -> Any:
    """The state of the service's breaker."""
    return orch.status()["services"]["s"]["breaker"]


async def opened(orch: Orchestrator) -> None:
    """Has the breaker open, and waits for its pause to be over."""
    while state(orch) == "closed":
        await outcomes([orch.call("s.work", -1)])
    assert state(orch) == "open"
    error = await failure(orch.call("s.work", 1))
    assert isinstance(error, CircuitOpen)
    assert 0 < error.retry_after <= PAUSE
    await until(lambda: state(orch) == "half_open", "the pause is over")


async def closes(orch: Orchestrator) -> None:
    """Waits until the service can be called again."""
    end = time.monotonic() + 5
    while (await outcomes([orch.call("s.work", 1)])) != [1]:
        assert time.monotonic() < end, "no call ever goes through again"
    assert state(orch) == "closed"


async def test_a_breaker_opens_and_one_call_that_succeeds_closes_it(tmp_path: Path) -> None:
    async with running(s=fickle(tmp_path, breaker=BREAKER)) as orch:
        for _ in range(10):
            assert await orch.call("s.work", 1) == 1
        await opened(orch)
        call, other = orch.call("s.work", 1), orch.call("s.work", 2)
        assert isinstance(await failure(other), CircuitOpen)  # one at a time
        assert await call == 1
        assert state(orch) == "closed"
        await opened(orch)
        assert isinstance(await failure(orch.call("s.work", -1)), WorkerError)
        assert state(orch) == "open"
        await closes(orch)


async def _cancelled(orch: Orchestrator, place: Path) -> None:
    call = orch.call("s.hold", str(place))
    await until(lambda: marks(place / "at-work"), "it is at work")
    call.cancel()


async def _cancelled_at_once(orch: Orchestrator, place: Path) -> None:
    orch.call("s.work", 1).cancel()


async def _expired(orch: Orchestrator, place: Path) -> None:
    assert isinstance(await failure(orch.call("s.hold", str(place), timeout=0.05)), DeadlineExceeded)


async def _unsendable(orch: Orchestrator, place: Path) -> None:
    assert isinstance(await failure(orch.call("s.work", object())), InvalidArgument)


async def _cast(orch: Orchestrator, place: Path) -> None:
    orch.cast("s.note", 1)


async def _unstreamed(orch: Orchestrator, place: Path) -> None:
    with pytest.raises(Exception, match="does not stream"):
        async for _ in orch.stream("s.work", 1):
            pass


async def _crashed(orch: Orchestrator, place: Path) -> None:
    assert isinstance(await failure(orch.call("s.end")), WorkerCrashed)


@pytest.mark.parametrize(
    "trial",
    [_cancelled, _cancelled_at_once, _expired, _unsendable, _cast, _unstreamed, _crashed],
    ids=lambda f: f.__name__,
)
@pytest.mark.parametrize("replicas", [1, 2])
async def test_no_trial_wedges_a_breaker(tmp_path: Path, trial: Any, replicas: int) -> None:
    async with running(s=fickle(tmp_path, breaker=BREAKER, replicas=replicas)) as orch:
        await opened(orch)
        await trial(orch, tmp_path)
        await closes(orch)


async def test_failures_count_one_by_one_where_calls_travel_together(tmp_path: Path) -> None:
    breaker = BreakerConfig(failures=0.5, of=20, pause=60.0)
    async with running(s=fickle(tmp_path, breaker=breaker, batch=BatchConfig(max_size=16))) as orch:
        for _ in range(3):
            await outcomes([orch.call("s.works", -1, timeout=0.5) for _ in range(30)])
        assert state(orch) == "open"
    async with running(s=fickle(tmp_path, breaker=breaker, queue=5000)) as orch:
        await asyncio.gather(*(orch.call("s.work", n) for n in range(3000)))  # quick ones, that are packed
        await outcomes([orch.call("s.work", -1) for _ in range(100)])  # as many as one frame takes
        assert state(orch) == "open"


async def test_calls_that_wait_when_a_breaker_opens_are_refused_like_those_that_come_then(tmp_path: Path) -> None:
    breaker = BreakerConfig(failures=0.5, of=4, pause=60.0)
    async with running(s=fickle(tmp_path, breaker=breaker, concurrency=2)) as orch:
        ends = await outcomes([orch.call("s.work", -1, timeout=None) for _ in range(50)])
        kinds = [type(end) for end in ends]
        assert set(kinds) == {WorkerError, CircuitOpen}
        assert kinds[:4] == [WorkerError] * 4
        assert kinds.count(WorkerError) < 10, "those that were in its hands"
        assert orch.status()["services"]["s"]["waiting"] == 0


async def test_a_call_counts_once_though_it_is_answered_after_its_time(tmp_path: Path) -> None:
    breaker = BreakerConfig(failures=0.9, of=4, pause=60.0)
    async with running(s=fickle(tmp_path, breaker=breaker)) as orch:
        for n in range(4):
            assert isinstance(await failure(orch.call("s.hold", str(tmp_path), timeout=0.03)), DeadlineExceeded)
            await until(lambda: not dispatcher_of(orch, "s").in_flight, f"call {n} was answered")
        assert state(orch) == "open"


async def test_replicas_that_are_fine_are_used_while_another_is_on_trial(tmp_path: Path) -> None:
    """The calls go on, past the one whose trial takes long."""
    breaker = BreakerConfig(failures=1.0, of=2, pause=0.1)
    settings = {"breaker": breaker, "route": "round_robin", "replicas": 2}
    async with running(s=fickle(tmp_path, **settings)) as orch:
        calls = dispatcher_of(orch, "s")
        lane = next(lane for lane in calls.ready if lane.number == 0)
        assert lane.breaker is not None
        for _ in range(2):
            lane.breaker.failed(0.0)
        trial = orch.call("s.hold", str(tmp_path))
        await until(lambda: marks(tmp_path / "at-work"), "the trial is under way")
        for n in range(20):
            assert await asyncio.wait_for(asyncio.gather(*(orch.call("s.work", n) for _ in range(5))), 5) == [n] * 5
        (tmp_path / "go-on").touch()
        await trial


# Hedges.


async def test_a_slow_call_is_made_twice_and_the_loser_cancelled(tmp_path: Path) -> None:
    async with running(s=fickle(tmp_path, hedge=HedgeConfig(after=0.02), replicas=2)) as orch:
        assert await asyncio.wait_for(orch.call("s.slow_at_first", str(tmp_path), 5), 5) == 5
        await until(lambda: marks(tmp_path / "left") == ["cancelled"], "the first one was told")
        assert orch.status()["services"]["s"]["hedged"] == {"made": 1, "won": 1}
        assert len(marks(tmp_path / "at-work")) == 2


async def test_what_is_not_idempotent_is_made_once(tmp_path: Path) -> None:
    async with running(s=fickle(tmp_path, hedge=HedgeConfig(after=0.005), replicas=2)) as orch:
        call = orch.call("s.once", str(tmp_path), 5)
        assert await outcomes([orch.call("s.once", str(tmp_path), 6, timeout=0.1)]) != [6]
        (tmp_path / "go-on").touch()
        assert await call == 5
        assert len(marks(tmp_path / "at-work")) == 2
        assert orch.status()["services"]["s"]["hedged"] == {"made": 0, "won": 0}


async def test_a_hedged_call_that_is_cancelled_ends_everywhere(tmp_path: Path) -> None:
    async with running(s=fickle(tmp_path, hedge=HedgeConfig(after=0.01), replicas=2)) as orch:
        first = orch.call("s.hold", str(tmp_path))
        await until(lambda: marks(tmp_path / "at-work"), "one is busy")
        call = orch.call("s.slow_at_first", str(tmp_path), 5)
        await until(lambda: len(marks(tmp_path / "at-work")) == 2, "the other too")
        await asyncio.sleep(0)
        call.cancel()
        first.cancel()
        await until(lambda: marks(tmp_path / "left") == ["cancelled"], "it was told")


async def test_no_hedge_goes_to_a_replica_of_weight_0(tmp_path: Path) -> None:
    settings = {"hedge": HedgeConfig(after=0.01), "replicas": 2, "weights": [1, 0]}
    async with running(s=fickle(tmp_path, **settings)) as orch:
        with pytest.raises(DeadlineExceeded):
            await orch.call("s.slow_at_first", str(tmp_path), 5, timeout=0.15)
        assert len(marks(tmp_path / "at-work")) == 1
        assert orch.status()["services"]["s"]["replicas"][1]["answered"] == 0
