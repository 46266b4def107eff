"""A worker on a thread of the orchestrator's process: the same as in one of its own, and what is different."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

import mlports
from mlports import (
    CallError,
    DeadlineExceeded,
    Orchestrator,
    ServiceConfig,
    StartFailed,
    WorkerCrashed,
)
from mlports.telemetry import Event
from tests.workers import marks, program, until

BOTH = """
import datetime
import numpy as np
state = {"list": [1]}

@worker.setup
def load(config):
    state["config"] = config

@worker.method(idempotent=True)
def echo(x):
    return x

@worker.method
async def later(x):
    await asyncio.sleep(0)
    return x

@worker.method
def kind(x):
    return type(x).__name__

@worker.method(batch=True, idempotent=True)
def roots(xs):
    return [x ** 0.5 if x >= 0 else ValueError("negative") for x in xs]

@worker.method
def count(n):
    yield from range(n)

@worker.method
def given(what):
    return {"tuple": (1, (2, 3)), "keys": {1: "a", "b": None}, "half": np.float32(0.5), "object": object(),
            "bytearray": bytearray(b"x"), "config": state["config"], "surrogate": "\\ud800"}[what]

@worker.method
def spoil(xs):
    xs.append("spoilt")
    return state["list"]

@worker.method
def fails():
    raise KeyError("k")

@worker.method
def refuses():
    raise Failure("not_found", "it is not here", {"where": ["here"]}, retryable=True)

@worker.method
def area(width, height=1):
    return width * height

@worker.method
def asks(target, x):
    return worker.call(target, x)

@worker.method
async def asks_later(target, x):
    return await worker.acall(target, x)

@worker.method
def reports():
    current().progress(1, 2, "half")
    return current().deadline is not None

@worker.method
def hold(place):
    mark(place + "/at-work")
    wait_for(place + "/go-on", lambda: current().cancelled)
    return "cancelled" if current().cancelled else "went on"

@worker.method
def stays(place):
    mark(place + "/at-work")
    wait_for(place + "/go-on")

@worker.method
def exits(status):
    sys.exit(status)

@worker.method
async def exits_later(status):
    sys.exit(status)

@worker.method
def where():
    return [os.getpid(), threading.current_thread().name]

@worker.method
def sends(array):
    state["array"] = array
    return array
"""
TRANSPORTS = ["stdio", "inline"]
both = pytest.mark.parametrize("service", TRANSPORTS)
in_module = pytest.mark.asyncio(loop_scope="module")


def service(place: Path, transport: Any, name: str = "both", **more: Any) -> ServiceConfig:
    # Without shared memory: between the tests of a module nobody sees to it that idle segments are given back.
    config = {"command": program(place, BOTH, name), "timeout": 10, "config": {"a": [1]}, "shared_memory": False}
    return ServiceConfig(**{**config, **more}, transport=transport)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def orch(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Orchestrator]:
    """The same program as a process and inline."""
    place = tmp_path_factory.mktemp("programs")
    async with Orchestrator(
        {each: service(place, "stdio" if each == "other" else each) for each in (*TRANSPORTS, "other")}
    ) as orchestrator:
        yield orchestrator


@asynccontextmanager
async def alone(place: Path, body: str = BOTH, **more: Any) -> AsyncIterator[Orchestrator]:
    """An orchestrator with the inline service "desk"; `all_events` holds what it told, when it has stopped."""
    desk = {"command": program(place, body, "desk"), "timeout": 10, "transport": "inline", **more}
    all_events.clear()
    orchestrator = Orchestrator({"desk": ServiceConfig(**desk)})

    async def read() -> None:
        async for event in orchestrator.events():
            all_events.append(event)

    reader = asyncio.ensure_future(read())
    await asyncio.sleep(0)
    try:
        async with orchestrator:
            yield orchestrator
        await reader
    finally:
        reader.cancel()


all_events: list[Event] = []


@both
@in_module
async def test_it_runs_where_it_should(orch: Orchestrator, service: str) -> None:
    """Guards the tests below, which would hold if both were processes."""
    pid, thread = await orch.call(f"{service}.where")
    assert (pid == os.getpid()) == (service == "inline")
    assert thread == ("mlports-inline/0" if service == "inline" else "MainThread")


STRUCTURED = np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")])
EAST = timezone(timedelta(hours=1))
VALUES: tuple[Any, ...] = (
    *(None, True, 0, -1, 2**53, 2**63, 2**64 - 1, -(2**63), 2**64, 0.5, math.inf),
    *("", "text", "ähnlich", "x" * 100_000, "\ud800", b"", b"bytes", b"x" * 100_000, bytearray(b"x")),
    *([], {}, (1, (2, [3, (4,)])), {"a": (1, 2), 3: None, "deep": {"er": [{}]}}, {(1, 2): 3}, {1, 2}),
    *([[]] * 3, [1] * 20, [[1], [2.0], ["ä"]] * 9, [object()], {"x": [{1}]}, object(), 1j),
    *(np.float32(0.5), np.int64(7), np.bool_(True), np.datetime64("2030-01-31")),
    *(np.arange(6.0), np.arange(6).reshape(2, 3).T, np.zeros((0, 3)), np.array(5), np.zeros(100_000)),
    *(np.arange(3, dtype=">i4"), np.array(["a", "bc"]), STRUCTURED, np.ma.array([1, 2]), np.array([object()])),
    *([np.arange(3)], {"x": np.ones((2, 2))}, np.ma.array([1, 2], mask=[True, False])),
    *(datetime(2030, 1, 31, tzinfo=EAST), datetime(2030, 1, 31)),
)


def shown(value: Any) -> Any:
    """A value with the types of all that is in it, to be compared."""
    if isinstance(value, np.ndarray):
        return type(value), value.dtype, value.shape, value.flags.writeable, value.flags.c_contiguous, value.tolist()
    if isinstance(value, list):
        return [list, *map(shown, value)]
    if isinstance(value, dict):
        return [dict, *((shown(key), shown(item)) for key, item in value.items())]
    return type(value), value


async def outcome(orch: Orchestrator, target: str, *params: Any) -> Any:
    """What a call gives, or the error that it raises, as its caller sees it."""
    try:
        return shown(await orch.call(target, *params))
    except CallError as error:
        service = target.partition(".")[0]
        data = {key: value for key, value in (error.data or {}).items() if key != "traceback"}
        return type(error), str(error).replace(service, "SERVICE"), error.code, error.retryable, data


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value).partition(" at 0x")[0][:40])
@in_module
async def test_a_value_is_what_it_is_through_a_pipe(orch: Orchestrator, value: Any) -> None:
    assert await outcome(orch, "inline.echo", value) == await outcome(orch, "stdio.echo", value)
    assert await outcome(orch, "inline.kind", value) == await outcome(orch, "stdio.kind", value)


KEPT = ("tuple", "keys", "half", "object", "bytearray", "config", "surrogate", "missing")
CALLS: tuple[tuple[Any, ...], ...] = (
    *(("given", what) for what in KEPT),
    *(("fails",), ("refuses",), ("nothing",), ("later", (1,)), ("count", 5), ("reports",), ("where", 1)),
    *(("area", 2), ("area", 2, 3), ("area",), ("area", 1, 2, 3), ("roots", 4), ("roots", -1)),
    *(("asks", "other.echo", (1, 2)), ("asks", "other.nothing", 1), ("asks", "other.fails", 1)),
    *(("asks_later", "other.later", {"a": (1,)}), ("asks_later", "other.fails")),
)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: " ".join(map(str, call)))
@in_module
async def test_a_call_does_what_it_does_in_a_process(orch: Orchestrator, call: tuple[Any, ...]) -> None:
    method, *params = call
    assert await outcome(orch, f"inline.{method}", *params) == await outcome(orch, f"stdio.{method}", *params)


@both
@in_module
async def test_many_at_once(orch: Orchestrator, service: str) -> None:
    """Guards the batches that calls travel in, the handler loop, and streams, all at the same time."""
    plain = [orch.call(f"{service}.echo", number) for number in range(500)]
    later = [orch.call(f"{service}.later", [number]) for number in range(500)]
    roots = orch.map(f"{service}.roots", [number * number for number in range(500)])
    assert [number async for number in orch.stream(f"{service}.count", 200)] == list(range(200))
    assert await asyncio.gather(*plain) == list(range(500))
    assert await asyncio.gather(*later) == [[number] for number in range(500)]
    assert await roots == list(range(500))


@both
@in_module
async def test_neither_side_holds_what_is_the_others(orch: Orchestrator, service: str) -> None:
    mine = [1, 2]
    got = await orch.call(f"{service}.spoil", mine)
    got.append("spoilt too")
    assert mine == [1, 2]
    assert await orch.call(f"{service}.spoil", mine) == [1]


@in_module
async def test_an_array_is_passed_by_reference(orch: Orchestrator) -> None:
    array = np.zeros(1_000_000)
    assert np.shares_memory(array, await orch.call("inline.sends", array))
    assert np.shares_memory(array, (await orch.call("inline.sends", [array]))[0])
    with pytest.raises(ValueError, match="read-only"):
        (await orch.call("inline.sends", array))[0] = 1
    assert array.flags.writeable


@both
@in_module
async def test_a_cancel(orch: Orchestrator, service: str, tmp_path: Path) -> None:
    call = orch.call(f"{service}.hold", str(tmp_path))
    behind = orch.call(f"{service}.area", 2)
    await until(lambda: marks(tmp_path / "at-work"), "the handler is at work")
    call.cancel()
    assert await behind == 2


@both
@in_module
async def test_a_deadline(orch: Orchestrator, service: str, tmp_path: Path) -> None:
    with pytest.raises(DeadlineExceeded):
        await orch.call(f"{service}.hold", str(tmp_path), timeout=0.05)
    assert await orch.call(f"{service}.echo", 1) == 1


@both
@in_module
async def test_progress(orch: Orchestrator, service: str) -> None:
    told: list[Any] = []
    await orch.call(f"{service}.reports", progress=lambda *args: told.append(args))
    assert told == [(1, 2, "half")]


# -- its end


@pytest.mark.parametrize("method", ["exits", "exits_later"])
@in_module
async def test_a_handler_that_exits_ends_the_worker_and_it_is_started_again(tmp_path: Path, method: str) -> None:
    async with alone(tmp_path) as orch:
        before = threading.active_count()
        with pytest.raises(WorkerCrashed) as crashed:
            await orch.call(f"desk.{method}", 3)
        verdict = crashed.value.verdict
        assert verdict is not None
        assert (verdict.cause, verdict.status, len(verdict.in_flight)) == ("exit", 3, 1)
        assert await orch.call("desk.echo", 1) == 1
        assert orch.status()["services"]["desk"]["replicas"][0]["restarts"] == 1
        await until(lambda: threading.active_count() == before, "its threads have ended")
        assert gc.get_freeze_count() == 0  # what is the orchestrator's own is not the worker's to freeze


FAULTS = {
    "raises": ('raise KeyError("k")', ["KeyError: 'k'"]),
    "fails": ('raise Failure("internal", "no model here")', ["no model here"]),
    "exits": ('sys.exit("I would rather not")', ["I would rather not"]),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("where", ["setup", "script"])
@in_module
async def test_a_start_that_fails(tmp_path: Path, fault: str, where: str) -> None:
    statement, words = FAULTS[fault]
    body = f"@worker.setup\ndef load(config):\n    {statement}\n" if where == "setup" else statement
    with pytest.raises(StartFailed) as failed:
        async with alone(tmp_path, body, restart="temporary"):
            pass
    assert "exited with status 1" in str(failed.value)
    for word in words:
        assert word in str(failed.value)
    assert "mlports/runtime/inline.py" not in str(failed.value)


STUCK = {
    "stop": (
        {"shutdown": "100ms"},
        "stopped",
        "it ignored the request for 0.1 s",
    ),
    "brutal": ({"shutdown": "brutal_kill"}, "stopped", "was stopped (the orchestrator stops)"),
    "hang": ({"grace": "100ms"}, "hang", "hung: it was at stays for"),
}


@pytest.mark.parametrize("how", STUCK)
@in_module
async def test_a_thread_that_is_stuck_is_abandoned(tmp_path: Path, how: str) -> None:
    """Guards against an orchestrator that cannot be stopped, and against one that says nothing of what it left."""
    keys, cause, told = STUCK[how]
    async with alone(tmp_path, **keys) as orch:
        call = orch.call("desk.stays", str(tmp_path))
        await until(lambda: marks(tmp_path / "at-work"), "the handler is at work")
        if how == "hang":
            call.cancel()
            await until(lambda: orch.status()["services"]["desk"]["replicas"][0]["restarts"], "another is started")
            assert await orch.call("desk.echo", 1) == 1
    (tmp_path / "go-on").touch()
    if how != "hang":
        assert isinstance(call.exception(), WorkerCrashed)
    (end,) = [event for event in all_events if event["event"] in ("died", "stopped") and told in event["text"]]
    assert end["verdict"]["cause"] == cause
    assert "cannot be killed: it is abandoned" in end["verdict"]["detail"]
    assert any("it is abandoned" in event["text"] for event in all_events if event["event"] == "log")
    if how == "hang":
        assert any(" in stays" in line for line in end["verdict"]["stacks"])


@in_module
async def test_one_that_looks_whether_it_is_wanted_ends_with_the_stop(tmp_path: Path) -> None:
    async with alone(tmp_path, shutdown="50ms") as orch:
        call = orch.call("desk.hold", str(tmp_path))
        await until(lambda: marks(tmp_path / "at-work"), "the handler is at work")
    assert isinstance(call.exception(), WorkerCrashed)
    assert not any("abandoned" in event.get("text", "") for event in all_events)


@in_module
async def test_a_stop_lets_it_finish_what_it_has(tmp_path: Path) -> None:
    async with alone(tmp_path) as orch:
        call = orch.call("desk.hold", str(tmp_path))
        await until(lambda: marks(tmp_path / "at-work"), "the handler is at work")
        asyncio.get_running_loop().call_later(0.05, (tmp_path / "go-on").touch)
    assert await call == "went on"
    assert [event["verdict"]["cause"] for event in all_events if "verdict" in event] == ["stopped"]


@in_module
async def test_replicas_and_those_that_stand_by_have_each_their_own_state(tmp_path: Path) -> None:
    body = """
    seen = []

    @worker.method
    def adds(x):
        seen.append(x)
        return len(seen)

    @worker.method
    def exits():
        sys.exit(1)
    """
    async with alone(tmp_path, body, replicas=2, standby=1) as orch:
        await until(lambda: len(orch.status()["services"]["desk"]["replicas"]) == 3, "all are up")
        counts = await asyncio.gather(*(orch.call("desk.adds", number) for number in range(4)))
        assert max(counts) < 4
        with pytest.raises(WorkerCrashed):
            await orch.call("desk.exits")
        assert await orch.call("desk.adds", 1)
    assert any(event["event"] == "promoted" for event in all_events)


@in_module
async def test_one_that_is_recycled(tmp_path: Path) -> None:
    async with alone(tmp_path, max_requests=20) as orch:
        for number in range(100):
            assert await orch.call("desk.echo", number) == number
        await until(lambda: len([e for e in all_events if e["event"] == "ready"]) > 1, "it is recycled")


@in_module
async def test_a_module_and_what_lies_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guards `python -m package`, relative imports, `if __name__ == "__main__"` and a script's neighbours."""
    package = tmp_path / "inline_package"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "words.py").write_text("WORD = 'beside'")
    (package / "__main__.py").write_text(
        "from mlports_worker import Worker\nfrom .words import WORD\nworker = Worker('x')\n"
        "@worker.method\ndef word():\n    return WORD\nif __name__ == '__main__':\n    worker.run()\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    main = sys.modules["__main__"]
    config = mlports.Config(
        service={"x": ServiceConfig(command=["python", "-m", "inline_package"], transport="inline")}, directory=tmp_path
    )
    async with Orchestrator(config=config) as orch:
        assert await orch.call("x.word") == "beside"
        assert sys.modules["__main__"] is main
    for name in [name for name in sys.modules if name.startswith("inline_package")]:
        del sys.modules[name]


def test_the_blocking_facade(tmp_path: Path) -> None:
    """Guards the facade, whose loop is on another thread."""
    with mlports.open(mlports.Config(service={"desk": service(tmp_path, "inline")})) as orch:
        assert orch.call("desk.echo", (1, 2)) == [1, 2]
        assert list(orch.stream("desk.count", 50)) == list(range(50))


@in_module
async def test_what_is_printed_goes_where_the_orchestrator_prints(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with alone(tmp_path, "@worker.method\ndef says(x):\n    print(x)\n") as orch:
        await orch.call("desk.says", "on our own stdout")
    assert "on our own stdout" in capsys.readouterr().out


@in_module
async def test_one_that_is_given_up_while_it_starts_does_not_set_itself_up(tmp_path: Path) -> None:
    """Guards against a model that is loaded for nobody, when a slow script comes to its `run()` after all."""
    body = f"""
    @worker.setup
    def load(config):
        mark({str(tmp_path / "set-up")!r})

    wait_for({str(tmp_path / "go-on")!r})
    """
    with pytest.raises(StartFailed, match="cannot be killed: it is abandoned"):
        async with alone(tmp_path, body, restart="temporary", start_timeout="50ms"):
            pass
    (tmp_path / "go-on").touch()
    await until(lambda: not any(t.name == "mlports-desk/0" for t in threading.enumerate()), "its thread has ended")
    assert not marks(tmp_path / "set-up")
