"""Calls, with real workers: answers, errors, timeouts, cancels, full queues, and calls between workers."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from mlports import (
    CallCancelled,
    CallError,
    Config,
    DeadlineExceeded,
    InvalidArgument,
    NotRunning,
    Orchestrator,
    Overloaded,
    ServiceConfig,
    ServiceDown,
    StartFailed,
    UnknownMethod,
    UnknownService,
    WorkerCrashed,
    WorkerError,
)
from tests.services import dispatcher_of
from tests.workers import marks, program, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

DESK = """
noted = []

@worker.method
def echo(x):
    return x

@worker.method
def pid():
    return os.getpid()

@worker.method
def area(width, height=1):
    return width * height

@worker.method
def note(x):
    noted.append(x)

@worker.method
def notes():
    taken = list(noted)
    noted.clear()
    return taken

@worker.method
def hold(place):
    mark(place + "/at-work")
    wait_for(place + "/go-on", lambda: current().cancelled)
    mark(place + "/left", "cancelled" if current().cancelled else "went on")
    return "held"

@worker.method
def left():
    return current().deadline

@worker.method
def divide(x, y):
    return x / y

@worker.method
def chooses(code, message, data, retryable):
    raise Failure(code, message, data, retryable)

@worker.method
def reports(steps):
    for step in range(steps):
        current().progress(step, steps, f"step {step}")
    current().progress(0.5)
    return steps

@worker.method
def logs(text):
    worker.log("warning", text, epoch=3, loss=0.25)

@worker.method
def configured():
    return current().config

@worker.method
def unsendable():
    return object()

@worker.method
def naps(seconds, value):
    time.sleep(seconds)
    return value
"""

LOOP = """
@worker.method
async def echo(x):
    await asyncio.sleep(0)
    return x

@worker.method
async def divide(x, y):
    await asyncio.sleep(0)
    return x / y

@worker.method
async def naps(seconds, value):
    await asyncio.sleep(seconds)
    return value

@worker.method
async def hold(place):
    mark(place + "/at-work")
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        mark(place + "/left", "cancelled")
        raise

@worker.method
async def notes_later(path):
    await asyncio.sleep(0.2)
    mark(path)

@worker.method
async def asks(target, *params):
    return await worker.acall(target, *params)

@worker.method
async def asks_within(seconds, target, *params):
    return await worker.acall(target, *params, timeout=seconds)
"""

CLERK = """
@worker.method
def asks(target, *params):
    return worker.call(target, *params)

@worker.method
def asks_within(seconds, target, *params):
    try:
        return worker.call(target, *params, timeout=seconds)
    except CallFailed as error:
        return [error.code, str(error)]

@worker.method
def asks_and_tells(target, *params):
    try:
        worker.call(target, *params)
    except CallFailed as error:
        return [error.code, error.message, error.data, error.retryable]
"""


@asynccontextmanager
async def running(**services: ServiceConfig) -> AsyncIterator[Orchestrator]:
    """An orchestrator of these services, none of whose callbacks may fail."""
    failures: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: failures.append(context))
    try:
        async with Orchestrator(services) as orch:
            yield orch
    finally:
        loop.set_exception_handler(None)
    assert not failures


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def orch(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Orchestrator]:
    """`desk` has plain handlers, `loop` async ones; `clerk` calls others."""
    place = tmp_path_factory.mktemp("programs")
    async with running(
        desk=ServiceConfig(command=program(place, DESK, "desk"), config={"threshold": 0.5}),
        loop=ServiceConfig(command=program(place, LOOP, "loop")),
        clerk=ServiceConfig(command=program(place, CLERK, "clerk")),
    ) as orchestrator:
        yield orchestrator


def desk(directory: Path) -> list[str]:
    """The command of a desk of one's own, for a test that fills its queue or ends it."""
    return program(directory, DESK, "desk")


def is_idle(orch: Orchestrator, service: str) -> bool:
    """Whether no worker of the service has a call in its hands."""
    return not any(replica["in_flight"] for replica in orch.status()["services"][service]["replicas"])


async def failure(call: asyncio.Future[Any]) -> Any:
    """What a call fails with."""
    with pytest.raises(CallError) as caught:
        await call
    return caught.value


# Answers.


async def test_a_call(orch: Orchestrator) -> None:
    assert await orch.call("desk.echo", "x") == "x"
    assert await orch.call("loop.echo", {"a": [1, 2.5, None, b"\x00"]}) == {"a": [1, 2.5, None, b"\x00"]}


async def test_arguments_are_positional_and_may_be_left_out(orch: Orchestrator) -> None:
    assert await orch.call("desk.area", 3, 4) == 12
    assert await orch.call("desk.area", 3) == 3


async def test_a_handler_without_a_result_gives_none(orch: Orchestrator) -> None:
    assert await orch.call("desk.note", 1) is None
    assert await orch.call("desk.notes") == [1]


async def test_the_configuration_arrives(orch: Orchestrator) -> None:
    assert await orch.call("desk.configured") == {"threshold": 0.5}


@pytest.mark.parametrize("service", ["desk", "loop"])
async def test_each_of_many_calls_at_once_gets_its_own_answer(orch: Orchestrator, service: str) -> None:
    for _ in range(3):
        assert await asyncio.gather(*(orch.call(f"{service}.echo", n) for n in range(500))) == list(range(500))


async def test_calls_of_one_caller_are_begun_in_their_order(orch: Orchestrator) -> None:
    await asyncio.gather(*(orch.call("desk.note", n) for n in range(300)))
    assert await orch.call("desk.notes") == list(range(300))


async def test_async_handlers_work_at_the_same_time(orch: Orchestrator) -> None:
    began = time.monotonic()
    assert await asyncio.gather(*(orch.call("loop.naps", 0.2, n) for n in range(40))) == list(range(40))
    assert time.monotonic() - began < 3


# Errors.


async def test_a_handler_that_raises(orch: Orchestrator) -> None:
    error = await failure(orch.call("desk.divide", 1, 0))
    assert type(error) is WorkerError
    assert (error.code, error.service, error.method, error.replica) == ("unknown", "desk", "divide", 0)
    assert str(error) == "desk.divide: ZeroDivisionError: division by zero"
    assert error.remote_type == "ZeroDivisionError"
    assert "return x / y" in (error.remote_traceback or "")
    assert not error.retryable
    # A traceback printed for it shows the worker's own too, and nothing of the SDK.
    assert "in the worker:\nTraceback (most recent call last):" in str(error.__cause__)
    assert "return x / y" in str(error.__cause__)
    assert "mlports_worker" not in str(error.__cause__)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("not_found", WorkerError),
        ("permission_denied", WorkerError),
        ("failed_precondition", WorkerError),
        ("deadline_exceeded", DeadlineExceeded),
        ("cancelled", CallCancelled),
        ("invalid_argument", InvalidArgument),
        ("unimplemented", UnknownMethod),
    ],
)
async def test_a_handler_that_chooses_its_error(orch: Orchestrator, code: str, kind: type[CallError]) -> None:
    error = await failure(orch.call("desk.chooses", code, "no row 7", {"row": 7}, True))
    assert type(error) is kind
    assert (error.code, str(error), error.data, error.retryable) == (code, "desk.chooses: no row 7", {"row": 7}, True)


async def test_a_service_that_does_not_exist(orch: Orchestrator) -> None:
    error = await failure(orch.call("dsk.echo", 1))
    assert type(error) is UnknownService
    assert str(error) == "there is no service 'dsk'; there are: clerk, desk, loop"


@pytest.mark.parametrize("target", ["echo", "", ".", "desk.", ".echo"])
async def test_a_target_that_is_none(orch: Orchestrator, target: str) -> None:
    error = await failure(orch.call(target))
    assert type(error) is UnknownService
    assert "say service.method" in str(error)


async def test_a_method_that_does_not_exist(orch: Orchestrator) -> None:
    call = orch.call("desk.ecko", 1)
    assert call.done()
    error = await failure(call)
    assert type(error) is UnknownMethod
    assert "service desk has no method 'ecko'; it has: area, chooses," in str(error)


@pytest.mark.parametrize("service", ["desk", "loop"])
async def test_a_wrong_number_of_arguments(orch: Orchestrator, service: str) -> None:
    error = await failure(orch.call(f"{service}.echo", 1, 2))
    assert type(error) is InvalidArgument
    assert isinstance(error, ValueError)
    assert str(error) == f"{service}.echo: echo was called with 2 arguments; it takes (x)"


async def test_arguments_that_cannot_be_sent(orch: Orchestrator) -> None:
    error = await failure(orch.call("desk.echo", object()))
    assert type(error) is InvalidArgument
    assert "the arguments of desk.echo cannot be sent: " in str(error)


async def test_a_result_that_cannot_be_sent(orch: Orchestrator) -> None:
    error = await failure(orch.call("desk.unsendable"))
    assert type(error) is WorkerError
    assert error.code == "internal"
    assert "the result of unsendable cannot be sent: " in str(error)


# Timeouts.


async def test_a_timeout_while_a_worker_is_at_it(orch: Orchestrator, tmp_path: Path) -> None:
    began = time.monotonic()
    error = await failure(orch.call("desk.hold", str(tmp_path), timeout=0.2))
    assert 0.15 < time.monotonic() - began < 2
    assert type(error) is DeadlineExceeded
    assert isinstance(error, TimeoutError)
    assert error.code == "deadline_exceeded"
    assert "desk.hold was not answered within its timeout: a worker had been at it for 0." in str(error)
    await until(lambda: marks(tmp_path / "left") == ["cancelled"], "the handler was told")
    assert await orch.call("desk.echo", 1) == 1


async def heard(orch: Orchestrator, service: str) -> None:
    """Returns when a service's workers have read all that was sent to them so far, also while they are at work."""
    for port in dispatcher_of(orch, service).lanes:
        answered = asyncio.get_running_loop().create_future()
        port.probe("$/ping", [], answered.set_result)
        await answered


async def test_a_timeout_while_waiting_for_a_replica(orch: Orchestrator, tmp_path: Path) -> None:
    held = orch.call("desk.hold", str(tmp_path))
    await until((tmp_path / "at-work").exists, "the worker is busy")
    # More than the pipe is given ahead, so that some wait here and some there.
    late = [orch.call("desk.note", n, timeout=0.1) for n in range(20)]
    errors = await asyncio.gather(*late, return_exceptions=True)
    assert [type(error) for error in errors] == [DeadlineExceeded] * 20
    assert "it was still waiting for a replica" in str(errors[-1])
    await heard(orch, "desk")
    (tmp_path / "go-on").touch()
    assert await held == "held"
    assert await orch.call("desk.notes") == []


@pytest.mark.parametrize("timeout", [0, 0.0, -1, -1e300, float("-inf"), float("nan")])
async def test_a_timeout_that_has_passed_already(orch: Orchestrator, timeout: float) -> None:
    call = orch.call("desk.note", "too late", timeout=timeout)
    assert call.done()
    error = await failure(call)
    assert type(error) is DeadlineExceeded
    assert "s when it was made" in str(error)
    assert await orch.call("desk.notes") == []


@pytest.mark.parametrize("timeout", [None, float("inf"), 1e300, 1e9])
async def test_a_timeout_that_never_passes(orch: Orchestrator, timeout: float | None) -> None:
    assert await orch.call("desk.echo", 1, timeout=timeout) == 1


async def test_the_services_own_timeout_and_none(tmp_path: Path) -> None:
    async with running(desk=ServiceConfig(command=desk(tmp_path), timeout=0.1)) as orch:
        assert type(await failure(orch.call("desk.hold", str(tmp_path)))) is DeadlineExceeded
        await until((tmp_path / "left").exists, "the handler was told")
        assert await orch.call("desk.naps", 0.2, "slept", timeout=None) == "slept"
        assert await orch.call("desk.naps", 0.2, "slept", timeout=5) == "slept"


async def test_the_time_left_travels_along(orch: Orchestrator) -> None:
    left = await orch.call("desk.left", timeout=5)
    assert 4 < left <= 5
    assert await orch.call("desk.left", timeout=None) is None


async def test_many_timeouts_at_once(orch: Orchestrator) -> None:
    calls = [orch.call("loop.naps", 60, n, timeout=0.05 + n / 1000) for n in range(100)]
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in errors] == [DeadlineExceeded] * 100
    assert await orch.call("loop.echo", 1, timeout=5) == 1


# Cancels.


@pytest.mark.parametrize("service", ["desk", "loop"])
async def test_a_cancelled_task_cancels_the_handler(orch: Orchestrator, service: str, tmp_path: Path) -> None:
    async def caller() -> None:
        await orch.call(f"{service}.hold", str(tmp_path))

    task = asyncio.create_task(caller())
    await until((tmp_path / "at-work").exists, "the worker is at it")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await until(lambda: marks(tmp_path / "left") == ["cancelled"], "the handler was told")
    assert await orch.call(f"{service}.echo", 1) == 1


async def test_a_call_that_waits_and_is_cancelled_is_never_sent(orch: Orchestrator, tmp_path: Path) -> None:
    held = orch.call("desk.hold", str(tmp_path))
    await until((tmp_path / "at-work").exists, "the worker is busy")
    calls = [orch.call("desk.note", n) for n in range(20)]
    for number in (3, 7, *range(10, 20)):
        assert calls[number].cancel()
    (tmp_path / "go-on").touch()
    assert await held == "held"
    kept = [0, 1, 2, 4, 5, 6, 8, 9]
    assert await asyncio.gather(*(calls[number] for number in kept)) == [None] * len(kept)
    assert await orch.call("desk.notes") == kept


async def test_a_cancel_after_the_answer_does_nothing(orch: Orchestrator) -> None:
    call = orch.call("desk.echo", 1)
    await call
    assert not call.cancel()
    assert call.result() == 1


async def test_asyncio_timeout_cancels_too(orch: Orchestrator, tmp_path: Path) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await orch.call("desk.hold", str(tmp_path))
    await until(lambda: marks(tmp_path / "left") == ["cancelled"], "the handler was told")


# Full queues.


async def test_a_full_queue_refuses_at_once_and_keeps_its_promises(tmp_path: Path) -> None:
    async with running(desk=ServiceConfig(command=desk(tmp_path), queue=3)) as orch:
        held = orch.call("desk.hold", str(tmp_path))
        await until((tmp_path / "at-work").exists, "the worker is busy")
        accepted: list[asyncio.Future[Any]] = []
        while not (call := orch.call("desk.echo", len(accepted))).done():
            accepted.append(call)
            assert len(accepted) < 10
        error = await failure(call)
        assert type(error) is Overloaded
        assert (error.code, error.retryable) == ("resource_exhausted", True)
        assert "service desk is overloaded: 3 calls wait in its queue, which is full" in str(error)
        assert len(accepted) in (3, 4)  # one may be on its way to the worker
        assert orch.status()["services"]["desk"]["waiting"] == 3
        (tmp_path / "go-on").touch()
        assert await asyncio.gather(held, *accepted) == ["held", *range(len(accepted))]
        assert await orch.call("desk.echo", "again") == "again"


async def test_a_queue_of_0_takes_what_a_worker_can_take(tmp_path: Path) -> None:
    async with running(desk=ServiceConfig(command=desk(tmp_path), queue=0)) as orch:
        for number in range(20):
            assert await orch.call("desk.echo", number) == number
        held = orch.call("desk.hold", str(tmp_path))
        await until((tmp_path / "at-work").exists, "the worker is busy")
        accepted: list[asyncio.Future[Any]] = []
        while not (call := orch.call("desk.echo", len(accepted))).done():
            accepted.append(call)
            assert len(accepted) < 100
        assert type(await failure(call)) is Overloaded
        (tmp_path / "go-on").touch()
        assert await asyncio.gather(held, *accepted) == ["held", *range(len(accepted))]


@pytest.mark.parametrize("how", ["cancelled", "expired"])
async def test_calls_that_were_given_up_take_no_place_in_the_queue(tmp_path: Path, how: str) -> None:
    async with running(desk=ServiceConfig(command=desk(tmp_path), queue=5)) as orch:
        held = orch.call("desk.hold", str(tmp_path))
        await until((tmp_path / "at-work").exists, "the worker is busy")
        first: list[asyncio.Future[Any]] = []
        while not (call := orch.call("desk.echo", "first")).done():
            first.append(call)
        assert type(await failure(call)) is Overloaded
        for given_up in first[2:]:
            given_up.cancel()
        if how == "expired":
            some = [orch.call("desk.echo", "late", timeout=0.05) for _ in range(3)]
            assert {type(await failure(call)) for call in some} == {DeadlineExceeded}
        others = [orch.call("desk.echo", n) for n in range(3)]
        (tmp_path / "go-on").touch()
        assert await asyncio.gather(held, *others, *first[:2]) == ["held", 0, 1, 2, "first", "first"]


async def test_the_queues_bound_holds_while_nothing_is_awaited(tmp_path: Path) -> None:
    async with running(desk=ServiceConfig(command=desk(tmp_path), queue=10)) as orch:
        calls = [orch.call("desk.naps", 0.02, n) for n in range(100)]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        answered = [n for n, outcome in enumerate(outcomes) if outcome == n]
        assert 11 <= len(answered) <= 15
        assert {type(outcome) for n, outcome in enumerate(outcomes) if n not in answered} == {Overloaded}


# Casts.


async def test_a_cast(orch: Orchestrator) -> None:
    for number in range(10):
        orch.cast("desk.note", number)
    assert await orch.call("desk.notes") == list(range(10))


@pytest.mark.parametrize("service", ["desk", "loop"])
async def test_a_cast_that_fails_is_logged(orch: Orchestrator, service: str) -> None:
    events = orch.events()
    following = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0)
    orch.cast(f"{service}.divide", 1, 0)
    event = await following
    assert (event["event"], event["level"]) == ("log", "error")
    assert event["text"] == "the cast to divide failed: ZeroDivisionError: division by zero"
    assert "in divide" in event["fields"]["traceback"]
    await events.aclose()  # type: ignore[attr-defined]  # an async generator
    assert await orch.call(f"{service}.echo", 1) == 1


async def test_a_cast_under_way_is_worked_on_before_a_worker_stops(tmp_path: Path) -> None:
    async with running(loop=ServiceConfig(command=program(tmp_path, LOOP, "loop"))) as orch:
        orch.cast("loop.notes_later", str(tmp_path / "noted"))
        assert await orch.call("loop.echo", 1) == 1
    assert (tmp_path / "noted").exists()


async def test_a_cast_to_what_does_not_exist(orch: Orchestrator) -> None:
    with pytest.raises(UnknownMethod):
        orch.cast("desk.nought", 1)
    with pytest.raises(UnknownService):
        orch.cast("nought.note", 1)


# Calls between workers.


@pytest.mark.parametrize("service", ["clerk", "loop"])
async def test_a_worker_calls_another(orch: Orchestrator, service: str) -> None:
    assert await orch.call(f"{service}.asks", "desk.area", 6, 7) == 42
    answers = await asyncio.gather(*(orch.call(f"{service}.asks", "desk.echo", n) for n in range(100)))
    assert answers == list(range(100))


async def test_an_async_handler_calls_its_own_service(orch: Orchestrator) -> None:
    assert await orch.call("loop.asks", "loop.asks", "loop.echo", "deep") == "deep"


@pytest.mark.parametrize("service", ["clerk", "loop"])
async def test_the_others_error_passes_through(orch: Orchestrator, service: str) -> None:
    error = await failure(orch.call(f"{service}.asks", "desk.divide", 1, 0))
    assert type(error) is WorkerError
    assert error.remote_type == "ZeroDivisionError"
    assert "return x / y" in (error.remote_traceback or "")
    assert str(error) == f"{service}.asks: desk.divide: ZeroDivisionError: division by zero"


async def test_a_worker_may_look_at_the_others_error(orch: Orchestrator) -> None:
    seen = await orch.call("clerk.asks_and_tells", "desk.chooses", "not_found", "no row", {"row": 7}, True)
    assert seen == ["not_found", "desk.chooses: no row", {"row": 7}, True]


@pytest.mark.parametrize(
    ("target", "params", "code"),
    [
        ("nobody.echo", [1], "not_found"),
        ("desk.nought", [1], "unimplemented"),
        ("desk.echo", [1, 2], "invalid_argument"),
        ("echo", [1], "not_found"),
    ],
)
async def test_a_worker_calls_what_does_not_exist(
    orch: Orchestrator, target: str, params: list[Any], code: str
) -> None:
    told = await orch.call("clerk.asks_and_tells", target, *params)
    assert told[0] == code
    assert told[1]


@pytest.mark.parametrize("service", ["clerk", "loop"])
async def test_the_deadline_is_passed_on(orch: Orchestrator, service: str) -> None:
    left = await orch.call(f"{service}.asks", "desk.left", timeout=5)
    assert 3 < left <= 5
    # A shorter one of the worker's own takes its place, a longer one does not.
    assert 1 < await orch.call(f"{service}.asks_within", 2, "desk.left", timeout=5) <= 2
    assert 3 < await orch.call(f"{service}.asks_within", 60, "desk.left", timeout=5) <= 5


async def test_a_nested_calls_own_timeout(orch: Orchestrator, tmp_path: Path) -> None:
    code, text = await orch.call("clerk.asks_within", 0.2, "desk.hold", str(tmp_path), timeout=10)
    assert code == "deadline_exceeded"
    assert "desk.hold" in text
    await until(lambda: marks(tmp_path / "left") == ["cancelled"], "the handler was told")
    assert await orch.call("clerk.asks", "desk.echo", 1) == 1


async def test_a_deadline_ends_the_whole_chain(orch: Orchestrator, tmp_path: Path) -> None:
    error = await failure(orch.call("clerk.asks", "desk.hold", str(tmp_path), timeout=0.2))
    assert type(error) is DeadlineExceeded
    await until(lambda: marks(tmp_path / "left") == ["cancelled"], "the last handler was told")
    assert await orch.call("clerk.asks", "desk.echo", 1) == 1


# Looking on.


async def test_progress(orch: Orchestrator) -> None:
    heard: list[tuple[float, float | None, str]] = []
    call = orch.call("desk.reports", 3, progress=lambda *report: heard.append(report))
    assert await call == 3
    assert heard == [(0, 3, "step 0"), (1, 3, "step 1"), (2, 3, "step 2"), (0.5, None, "")]


async def test_progress_and_logs_are_events(orch: Orchestrator) -> None:
    seen: list[dict[str, Any]] = []
    end = orch.event_log.listen(seen.append)
    await orch.call("desk.reports", 1)
    await orch.call("desk.logs", "it diverges")
    end()
    # "at once" is when nothing else is to be said: the log line may overtake nothing of the same worker.
    assert [event["event"] for event in seen] == ["progress", "progress", "log"]
    assert {(event["service"], event["replica"]) for event in seen} == {("desk", 0)}
    assert (seen[0]["done"], seen[0]["total"], seen[0]["text"]) == (0, 1, "step 0")
    assert (seen[2]["level"], seen[2]["text"]) == ("warning", "it diverges")
    assert seen[2]["fields"] == {"epoch": 3, "loss": 0.25}


async def test_status(tmp_path: Path) -> None:
    services = {
        "desk": ServiceConfig(command=desk(tmp_path), replicas=2),
        "gone": ServiceConfig(command=["no-such-program"]),
    }
    async with running(**services) as orch:
        for number in range(5):
            await orch.call("desk.echo", number)
        await failure(orch.call("desk.divide", 1, 0))
        status = orch.status()
        assert (status["state"], status["pid"], status["config"]) == ("running", os.getpid(), None)
        service = status["services"]["desk"]
        assert (service["state"], service["reason"]) == ("up", None)
        assert (service["waiting"], service["answered"], service["failed"], service["retried"]) == (0, 6, 1, 0)
        assert service["methods"] == sorted(service["methods"])
        assert "echo" in service["methods"]
        assert [replica["replica"] for replica in service["replicas"]] == [0, 1]
        assert [replica["state"] for replica in service["replicas"]] == ["ready", "ready"]
        assert [replica["restarts"] for replica in service["replicas"]] == [0, 0]
        assert sum(replica["answered"] for replica in service["replicas"]) == 6
        assert {replica["pid"] for replica in service["replicas"]} >= {await orch.call("desk.pid")}
        down = status["services"]["gone"]
        assert down["state"] == "down"
        assert "no such program" in down["reason"]
        assert down["replicas"][0]["state"] == "dead"
    assert orch.status()["state"] == "stopped"
    assert [replica["pid"] for replica in orch.status()["services"]["desk"]["replicas"]] == [None, None]


async def test_events_of_a_life(tmp_path: Path) -> None:
    orch = Orchestrator({"desk": ServiceConfig(command=desk(tmp_path))})
    seen: list[dict[str, Any]] = []
    orch.event_log.listen(seen.append)

    async def followed() -> list[dict[str, Any]]:
        return [event async for event in orch.events()]

    following = asyncio.create_task(followed())
    await asyncio.sleep(0)
    async with orch:
        pid = await orch.call("desk.pid")
        os.kill(pid, signal.SIGKILL)
        await until(lambda: [event["event"] for event in seen].count("ready") == 2, "it is back")
        assert await orch.call("desk.pid") != pid
        assert orch.status()["services"]["desk"]["replicas"][0]["restarts"] == 1
    names = [event["event"] for event in seen]
    assert names == ["starting", "ready", "died", "restarting", "starting", "ready", "stopping", "stopped"]
    assert await following == seen  # to the end, and not beyond
    assert seen[1]["pid"] == seen[2]["pid"] == pid
    assert seen[2]["verdict"]["name"] == "SIGKILL"
    assert "was killed by SIGKILL" in seen[2]["text"]
    assert [event["time"] for event in seen] == sorted(event["time"] for event in seen)


# Several replicas.


async def test_a_slow_call_does_not_hold_up_quick_ones(tmp_path: Path) -> None:
    async with running(desk=ServiceConfig(command=desk(tmp_path), replicas=2)) as orch:
        await asyncio.gather(*(orch.call("desk.echo", n) for n in range(1000)))  # both are known to be quick
        held = orch.call("desk.hold", str(tmp_path))
        await until((tmp_path / "at-work").exists, "one is busy")
        busy = time.monotonic()
        while time.monotonic() - busy < 0.02:
            await orch.call("desk.echo", "one after the other", timeout=5)
        for _ in range(3):
            calls = [orch.call("desk.echo", n, timeout=5) for n in range(300)]
            assert await asyncio.gather(*calls) == list(range(300))
        assert not held.done()
        (tmp_path / "go-on").touch()
        assert await held == "held"


async def test_replicas_share_the_work(tmp_path: Path) -> None:
    async with running(desk=ServiceConfig(command=desk(tmp_path), replicas=2)) as orch:
        began = time.monotonic()
        await asyncio.gather(*(orch.call("desk.naps", 0.1, n) for n in range(6)))
        assert time.monotonic() - began < 0.55
        shares = [replica["answered"] for replica in orch.status()["services"]["desk"]["replicas"]]
        assert shares == [3, 3]


# Starting and stopping.


async def test_before_and_after(tmp_path: Path) -> None:
    orch = Orchestrator({"desk": ServiceConfig(command=desk(tmp_path))})
    with pytest.raises(NotRunning, match="this orchestrator is new"):
        orch.call("desk.echo", 1)
    async with orch:
        assert await orch.call("desk.echo", 1) == 1
        with pytest.raises(NotRunning, match="it can be started once"):
            await orch.start()
    # A target that was in use, and one that was not.
    assert type(await failure(orch.call("desk.echo", 1))) is ServiceDown
    with pytest.raises(NotRunning, match="this orchestrator is stopped"):
        orch.call("desk.pid")
    await orch.stop()


async def test_none_that_can_be_started(tmp_path: Path) -> None:
    orch = Orchestrator({"a": ServiceConfig(command=["no-such-program"]), "b": ServiceConfig(command=str(tmp_path))})
    with pytest.raises(StartFailed, match=r"(?s)no service could be started:\n  a: .*no such program.*\n  b: .*direct"):
        await orch.start()
    assert orch.status()["state"] == "stopped"


async def test_a_start_that_is_interrupted(tmp_path: Path) -> None:
    command = program(tmp_path, "@worker.setup\ndef load(config):\n    time.sleep(60)", "slow")
    orch = Orchestrator({"slow": ServiceConfig(command=command, shutdown="brutal_kill")})
    started = asyncio.create_task(orch.start())
    await until(lambda: orch.status()["services"], "it began")
    started.cancel()
    with pytest.raises(asyncio.CancelledError):
        await started
    assert orch.status()["state"] == "stopped"


async def test_calls_that_wait_fail_when_it_stops_and_those_at_work_are_answered(tmp_path: Path) -> None:
    async with running(desk=ServiceConfig(command=desk(tmp_path))) as orch:
        held = orch.call("desk.hold", str(tmp_path))
        await until((tmp_path / "at-work").exists, "the worker is at it")
        waiting = [orch.call("desk.echo", n) for n in range(10)]
        await asyncio.sleep(0)
        stopping = asyncio.create_task(orch.stop())
        await until(lambda: orch.status()["state"] == "stopping", "it stops")
        assert type(await failure(orch.call("desk.echo", 1))) is ServiceDown
        (tmp_path / "go-on").touch()
        await stopping
        assert await held == "held"
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        # What was in the pipe already is answered; none is forgotten.
        assert all(outcome == n or type(outcome) is ServiceDown for n, outcome in enumerate(outcomes))
        assert type(outcomes[-1]) is ServiceDown


async def test_from_a_configuration_made_in_python(tmp_path: Path) -> None:
    program(tmp_path, DESK, "desk")
    config = Config(service={"desk": ServiceConfig(command="python desk.py")}, directory=tmp_path)
    async with Orchestrator(config=config) as orch:
        assert await orch.call("desk.echo", 1) == 1


# Everything at once.


@pytest.mark.parametrize("seed", [11, 12])
async def test_each_call_is_settled_exactly_once(tmp_path: Path, seed: int) -> None:
    """Calls with random timeouts, cancelled at random times, to plain and async handlers."""
    dice = random.Random(seed)
    services = {
        "desk": ServiceConfig(command=desk(tmp_path), replicas=2),
        "loop": ServiceConfig(command=program(tmp_path, LOOP, "loop")),
    }
    async with running(**services) as orch:
        settled: Counter[int] = Counter()
        calls: list[asyncio.Future[Any]] = []
        cancels: list[asyncio.TimerHandle] = []

        def count(number: int, _: asyncio.Future[Any]) -> None:
            settled[number] += 1

        event_loop = asyncio.get_running_loop()
        for number in range(400):
            target = dice.choice(["desk.naps", "loop.naps", "loop.naps", "loop.naps"])
            call = orch.call(
                target, dice.choice([0, 0.001, 0.005]), number, timeout=dice.choice([None, 5, 0.001, 0.01, 0.05])
            )
            call.add_done_callback(partial(count, number))
            calls.append(call)
            if dice.random() < 0.4:
                cancels.append(event_loop.call_later(dice.choice([0, 0.001, 0.01, 0.05]), call.cancel))
            if dice.random() < 0.1:
                await asyncio.sleep(dice.choice([0, 0.001, 0.005]))
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        kinds = Counter(type(outcome) for outcome in outcomes)
        assert set(kinds) <= {int, DeadlineExceeded, asyncio.CancelledError}
        assert len(kinds) == 3, "the dice were to bring up each kind"
        assert all(outcome == n for n, outcome in enumerate(outcomes) if isinstance(outcome, int))
        await asyncio.sleep(0)
        assert settled == Counter(range(400))
        for cancel in cancels:
            cancel.cancel()
        # What was given up is done with in the workers too, and they are as good as new.
        for name in services:
            await until(partial(is_idle, orch, name), "all was answered")
            assert orch.status()["services"][name]["waiting"] == 0
            assert await asyncio.gather(*(orch.call(f"{name}.echo", n) for n in range(100))) == list(range(100))
        assert all(r["restarts"] == 0 for s in orch.status()["services"].values() for r in s["replicas"])


async def test_a_crash_is_told_to_whoever_waits_for_a_nested_call(tmp_path: Path) -> None:
    services = {
        "desk": ServiceConfig(command=desk(tmp_path)),
        "clerk": ServiceConfig(command=program(tmp_path, CLERK, "clerk")),
    }
    async with running(**services) as orch:
        pid = await orch.call("desk.pid")
        told = asyncio.ensure_future(orch.call("clerk.asks_and_tells", "desk.hold", str(tmp_path)))
        await until((tmp_path / "at-work").exists, "the last one is at it")
        os.kill(pid, signal.SIGKILL)
        code, message, _, retryable = await told
        assert (code, retryable) == ("unavailable", True)
        assert "was killed by SIGKILL" in message


async def test_a_caller_that_dies_leaves_its_nested_call_to_end_in_peace(tmp_path: Path) -> None:
    services = {
        "desk": ServiceConfig(command=desk(tmp_path)),
        "clerk": ServiceConfig(command=program(tmp_path, CLERK, "clerk")),
    }
    async with running(**services) as orch:
        call = orch.call("clerk.asks", "desk.hold", str(tmp_path))
        await until((tmp_path / "at-work").exists, "the last one is at it")
        os.kill(orch.status()["services"]["clerk"]["replicas"][0]["pid"], signal.SIGKILL)
        assert type(await failure(call)) is WorkerCrashed
        (tmp_path / "go-on").touch()
        assert await orch.call("desk.echo", 1) == 1
        assert await orch.call("clerk.asks", "desk.echo", 1) == 1
