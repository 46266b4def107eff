"""Pipelines through real workers: results and errors on their way through the stages, one deadline, and `map`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mlports import (
    CallError,
    Config,
    DeadlineExceeded,
    NotRunning,
    Orchestrator,
    Overloaded,
    PipelineConfig,
    ServiceConfig,
    UnknownMethod,
    UnknownService,
    WorkerCrashed,
    WorkerError,
)
from tests.workers import marks, program, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

STAGE = """
def note(document, of):
    return {**document, "way": [*document.get("way", []), of]}

@worker.method
def first(document):
    return note(document, "first")

@worker.method(batch=True, idempotent=True)
def second(documents):
    return [ValueError("second cannot") if d.get("bad") == 2 else note(d, "second") for d in documents]

@worker.method
async def third(document):
    if document.get("bad") == 3:
        raise Failure("failed_precondition", "third will not", data={"why": "bad"}, retryable=True)
    return note(document, "third")

@worker.method
def double(x):
    return 2 * x

@worker.method(batch=True)
def plus_one(xs):
    return [ValueError(f"no {x}") if x == 14 else x + 1 for x in xs]

@worker.method
def add(a, b):
    return a + b

@worker.method
def hold(place):
    mark(place + "/at-work")
    wait_for(place + "/go-on", lambda: current().cancelled)
    mark(place + "/left", "cancelled" if current().cancelled else "went on")
    return place

@worker.method
def touch(place):
    mark(place + "/third")

@worker.method
def pause(seconds):
    time.sleep(seconds)
    return seconds

@worker.method
def left(_):
    return current().deadline

@worker.method(idempotent=True)
def die_once(place):
    mark(place)
    if len(open(place).readlines()) == 1:
        os._exit(3)
    return place

@worker.method
def die(place):
    mark(place)
    os._exit(3)

@worker.method
def count(n):
    for i in range(n):
        if i == 7:
            raise ValueError("no seven")
        yield i

@worker.method
def ask(target, *params):
    return worker.call(target, *params)

@worker.method
def same(x):
    return x
"""

PIPELINES = {
    "whole": ["a.first", "b.second", "c.third"],
    "sum": ["a.add", "b.plus_one", "c.double"],
    "numbers": ["a.double", "b.plus_one", "c.double"],
    "held": ["a.same", "b.hold", "c.touch"],
    "slow": ["a.pause", "b.pause", "c.left"],
    "own": ["a.pause", "b.left"],
    "hasty": ["a.pause", "b.left"],
    "retried": ["a.same", "c.die_once", "b.same"],
    "dead": ["a.same", "c.die", "b.same"],
    "counted": ["a.double", "b.count"],
    "lost": ["a.same", "b.missing"],
}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Config:
    command = program(tmp_path_factory.mktemp("programs"), STAGE)
    services = {
        "a": ServiceConfig(command=command),
        "b": ServiceConfig(command=command, timeout=20),
        "c": ServiceConfig(command=command, queue=100),
        "asker": ServiceConfig(command=command),
    }
    pipelines = {name: PipelineConfig(stages=stages) for name, stages in PIPELINES.items()}
    pipelines["hasty"] = PipelineConfig(stages=PIPELINES["hasty"], timeout="10s")
    return Config(service=services, pipeline=pipelines)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def orch(config: Config) -> AsyncIterator[Orchestrator]:
    async with Orchestrator(config=config) as orch:
        yield orch


async def refused(call: asyncio.Future[Any], kind: type[CallError], text: str) -> Any:
    """The error that the call gives: of exactly this kind, and with this in its message."""
    with pytest.raises(kind) as caught:
        await asyncio.wait_for(call, 10)
    assert type(caught.value) is kind
    assert text in str(caught.value)
    assert caught.value.message == str(caught.value)
    return caught.value


async def test_each_stage_gets_the_result_of_the_one_before(orch: Orchestrator) -> None:
    """Guards the order, both ways to name a pipeline, and the counts."""
    document = {"text": "x"}
    assert await orch.call("whole", document) == {"text": "x", "way": ["first", "second", "third"]}
    assert await orch.call("whole.run", document) == await orch.call("whole", document)
    status = orch.status()["pipelines"]["whole"]
    assert status == {"stages": PIPELINES["whole"], "answered": 3, "failed": 0, "under_way": 0}
    assert set(orch.status()["pipelines"]) == set(PIPELINES)


async def test_the_first_stage_takes_all_arguments(orch: Orchestrator) -> None:
    """Guards pipelines that begin with a method of several arguments."""
    assert await orch.call("sum", 3, 4) == 16


async def test_an_error_says_which_stage_of_which_pipeline(orch: Orchestrator) -> None:
    """Guards whoever has to find the stage: the error is the stage's own in everything but its message."""
    error = await refused(orch.call("whole", {"bad": 2}), WorkerError, "second cannot")
    assert str(error) == "in pipeline whole, stage 2 of 3 (b.second): ValueError: second cannot"
    assert (error.code, error.service, error.method, error.replica) == ("unknown", "b", "second", 0)
    assert error.remote_type == "ValueError"
    error = await refused(
        orch.call("whole", {"bad": 3}), WorkerError, "in pipeline whole, stage 3 of 3 (c.third): third"
    )
    assert (error.code, error.service, error.method) == ("failed_precondition", "c", "third")
    assert (error.data["why"], error.retryable) == ("bad", True)
    error = await refused(orch.call("whole", 5), WorkerError, "in pipeline whole, stage 1 of 3 (a.first): ")
    assert "in the worker" in str(error.__cause__)
    assert "Traceback" in error.remote_traceback
    assert (orch.status()["pipelines"]["whole"]["failed"], orch.status()["pipelines"]["whole"]["under_way"]) == (3, 0)


async def test_a_method_that_a_stage_does_not_have(orch: Orchestrator) -> None:
    """Guards misspelt stages, which no configuration can know of."""
    await refused(orch.call("lost", 1), UnknownMethod, "in pipeline lost, stage 2 of 2 (b.missing): service b has no")


async def test_the_whole_has_one_deadline(orch: Orchestrator) -> None:
    """Guards against a timeout that each stage has anew."""
    left = await orch.call("own", 0.3, timeout=5)
    assert 3 < left < 4.8
    error = await refused(orch.call("slow", 0.25, timeout=0.4), DeadlineExceeded, "in pipeline slow, stage 2 of 3")
    assert (error.service, error.method, error.code) == ("b", "pause", "deadline_exceeded")
    for timeout in (0, -1.0, float("nan")):
        await refused(
            orch.call("slow", 0, timeout=timeout), DeadlineExceeded, "stage 1 of 3 (a.pause): the time of the"
        )


async def test_without_a_timeout_each_stage_has_that_of_its_service(orch: Orchestrator) -> None:
    """Guards three things to leave out: the caller's timeout, the pipeline's too, and, with None, all of them."""
    assert 0 < await orch.call("hasty", 0) <= 10
    assert 15 < await orch.call("own", 0) <= 20
    assert await orch.call("own", 0, timeout=None) is None


async def test_cancelling_it_cancels_the_stage_under_way(orch: Orchestrator, tmp_path: Path) -> None:
    """Guards workers: they are told, at whichever stage the call is, and the stages after it are not begun."""
    call = orch.call("held", str(tmp_path))
    await until((tmp_path / "at-work").exists, "the second stage is at work")
    assert orch.status()["pipelines"]["held"]["under_way"] == 1
    call.cancel()
    await until(lambda: marks(tmp_path / "left") == ["cancelled"], "the worker has left off")
    assert (await orch.call("b.double", 1), await orch.call("c.double", 1)) == (2, 2)
    assert not (tmp_path / "third").exists()
    assert call.cancelled()
    status = orch.status()["pipelines"]["held"]
    assert (status["answered"], status["failed"], status["under_way"]) == (0, 0, 0)


async def test_a_stage_that_dies_is_tried_again_where_it_may_be(config: Config, tmp_path: Path) -> None:
    """Guards the stages before it, which are not called again, and the verdict on its way through the pipeline."""
    async with Orchestrator(config=config) as orch:
        place = str(tmp_path / "deaths")
        assert await orch.call("retried", place) == place
        assert len(marks(tmp_path / "deaths")) == 2
        call = orch.call("dead", str(tmp_path / "death"))
        error = await refused(call, WorkerCrashed, "in pipeline dead, stage 2 of 3 (c.die): c.die got no answer: ")
        assert (error.verdict.status, error.retryable, error.service) == (3, True, "c")
        assert marks(tmp_path / "death") == ["x"]


async def test_a_map_goes_through_three_stages_in_order(orch: Orchestrator) -> None:
    """Guards large maps: a bounded number under way, in batches, and no queue that overflows."""
    before = orch.status()["pipelines"]["numbers"]["answered"]
    taken = done = most = 0

    def items() -> Iterator[int]:
        nonlocal taken, most
        for number in range(20, 10_020):
            taken += 1
            most = max(most, taken - done)
            yield number

    def progress(count: float, total: float | None, text: str) -> None:
        nonlocal done
        done = int(count)
        assert total is None

    results = await orch.map("numbers", items(), progress=progress)
    assert results == [2 * (2 * number + 1) for number in range(20, 10_020)]
    assert done == 10_000
    assert 64 < most <= 100  # what the shortest queue can hold
    assert orch.status()["pipelines"]["numbers"]["answered"] == before + 10_000


async def test_a_map_s_first_batch_is_checked_though_a_pipeline_has_none(orch: Orchestrator) -> None:
    with pytest.raises(ValueError, match="at least 1 item, not 0"):
        await orch.map("whole", [1], first=0)


async def test_a_full_queue_fails_a_call_and_holds_a_map(orch: Orchestrator, tmp_path: Path) -> None:
    """Guards callers, who do not wait for ever, and maps, which lose nothing of what the stages before have done."""

    def refusals() -> int:
        failed: int = orch.status()["services"]["c"]["failed"]
        return failed

    held = orch.call("c.hold", str(tmp_path))
    await until((tmp_path / "at-work").exists, "the third stage is at work")
    others = [orch.call("c.double", 1)]
    while not others[-1].done():  # until one is refused: what is in the worker's hands does not come back
        others.append(orch.call("c.double", 1))
    error = await refused(
        orch.call("numbers", 1), Overloaded, "in pipeline numbers, stage 3 of 3 (c.double): service c"
    )
    assert error.retryable
    before = refusals()
    results = asyncio.ensure_future(orch.map("numbers", range(8, 12)))
    await until(lambda: refusals() > before + 4, "each of four has been refused, and one again")
    (tmp_path / "go-on").touch()
    assert await asyncio.wait_for(results, 10) == [34, 38, 42, 46]
    assert await held == str(tmp_path)
    *accepted, refusal = await asyncio.gather(*others, return_exceptions=True)
    assert (set(accepted), type(refusal)) == ({2}, Overloaded)


async def test_the_items_of_a_map_may_come_late_and_fail(orch: Orchestrator) -> None:
    """Guards async iterables, and errors that stand in the place of their results."""

    async def items() -> AsyncIterator[int]:
        for number in range(6, 9):
            await asyncio.sleep(0)
            yield number

    six, seven, eight = await orch.map("numbers", items(), return_exceptions=True)
    assert (six, eight) == (26, 34)
    assert str(seven) == "in pipeline numbers, stage 2 of 3 (b.plus_one): ValueError: no 14"
    with pytest.raises(WorkerError, match="no 14"):
        await orch.map("numbers", range(1000))
    assert orch.status()["pipelines"]["numbers"]["under_way"] == 0
    assert await orch.map("numbers", []) == []


async def test_the_last_stage_may_stream(orch: Orchestrator) -> None:
    """Guards streams: the items arrive, and an error of any stage says where it came from."""
    assert [item async for item in orch.stream("counted", 2)] == [0, 1, 2, 3]
    stream = orch.stream("counted", 5)
    assert [await anext(stream) for _ in range(7)] == list(range(7))
    with pytest.raises(WorkerError) as caught:
        await anext(stream)
    assert str(caught.value) == "in pipeline counted, stage 2 of 2 (b.count): ValueError: no seven"
    with pytest.raises(WorkerError, match=r"in pipeline counted, stage 1 of 2 \(a.double\): "):
        [item async for item in orch.stream("counted", None)]
    assert orch.status()["pipelines"]["counted"] == {
        "stages": PIPELINES["counted"],
        "answered": 1,
        "failed": 2,
        "under_way": 0,
    }
    stream = orch.stream("counted", 3)
    assert await anext(stream) == 0
    await stream.aclose()
    assert orch.status()["pipelines"]["counted"]["under_way"] == 0


async def test_workers_call_pipelines_by_name(orch: Orchestrator) -> None:
    """Guards workers that are themselves callers, errors included."""
    assert await orch.call("asker.ask", "sum", 1, 1) == 6
    error = await refused(
        orch.call("asker.ask", "whole", {"bad": 3}), WorkerError, "asker.ask: in pipeline whole, stage 3"
    )
    assert error.code == "failed_precondition"


async def test_what_is_no_pipeline_is_told(orch: Orchestrator) -> None:
    """Guards misspelt names, and what a pipeline cannot do."""
    await refused(
        orch.call("hole", 1), UnknownService, "'hole' is no target: say service.method, or the name of a pipel"
    )
    await refused(
        orch.call("hole.run", 1), UnknownService, "there is no service 'hole'; there are: a, asker, b, c, counted"
    )
    await refused(
        orch.call("whole.first", 1), UnknownMethod, "whole is a pipeline, which has no method 'first': call it"
    )
    with pytest.raises(UnknownMethod, match="whole is a pipeline, to which nothing can be cast"):
        orch.cast("whole", {})


async def test_before_the_start_there_is_nothing_to_call(config: Config) -> None:
    """Guards the order of things, as for services."""
    with pytest.raises(NotRunning):
        Orchestrator(config=config).call("whole", {})
