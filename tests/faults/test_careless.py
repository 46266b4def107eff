"""Careless authors and careless callers: what the SDK and the library protect from, and what they say of the rest."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Any

import msgpack
import pytest

from mlports import InvalidArgument, UnknownMethod, UnknownService, WorkerCrashed, WorkerError
from tests.faults.scene import careless, outcome, scene, verdict_of

HARMLESS: list[tuple[str, list[Any], Any, list[str]]] = [  # method, arguments, result, what is in the log
    ("prints", ["loss: 0.25"], "done", ["loss: 0.25"]),
    ("prints_through_c", ["loss: 0.25"], "done", ["loss: 0.25, by printf", "loss: 0.25, by puts"]),
    ("runs_a_program", ["loss: 0.25"], 0, ["loss: 0.25"]),
    ("writes_to_descriptor_1", ["loss: 0.25"], 11, ["loss: 0.25"]),
    ("reads_stdin", [], "", []),
    ("closes_stdout", [], "done", []),
    ("logs_surrogates", [], "done", [".csv"]),
]


@pytest.mark.parametrize(("method", "arguments", "result", "logged"), HARMLESS, ids=[case[0] for case in HARMLESS])
async def test_what_must_not_hurt(method: str, arguments: list[Any], result: Any, logged: list[str]) -> None:
    async with scene(careless()) as seen:
        assert await seen.call(method, *arguments) == result
        for text in logged:
            assert text in await seen.until_logged(text)
        assert await seen.call("echo", 1) == 1
        assert seen.deaths() == []
        assert seen.replica()["restarts"] == 0


async def test_a_print_that_python_holds_back_does_not_hurt() -> None:
    async with scene(careless("prints-first")) as seen:
        assert await seen.call("echo", 1) == 1
        assert await seen.until_logged("loading the model") == "loading the model"
        assert seen.deaths() == []


async def test_on_descriptors_3_and_4_it_may_print_whenever_it_likes() -> None:
    async with scene(careless("prints-first-at-once"), transport="fd34") as seen:
        assert await seen.call("prints", "loss: 0.25") == "done"
        assert await seen.until_logged("loading the model") == "loading the model"
        assert await seen.until_logged("loss: 0.25") == "loss: 0.25"
        assert seen.deaths() == []


# Results and exceptions that are hard to send: the handler's call fails, and nothing else.

REFUSED: list[tuple[str, list[Any], str, str]] = [  # method, arguments, code, text
    ("returns_object", [], "internal", "the result of returns_object cannot be sent: a value of type builtins.object"),
    ("returns_itself", [], "internal", "it is nested too deep, or holds itself"),
    ("returns_bytes", [2 * 2**20], "resource_exhausted", "the peer accepts frames of 1048576 (max_frame)"),
    ("raises_unprintable", [], "unknown", "Unprintable"),
    ("raises_long", [1000], "unknown", "ValueError: " + "x" * 1000),
    ("raises_long", [4 * 2**20], "unknown", "ValueError: " + "x" * 1000),
    ("raises_surrogates", [], "unknown", "FileNotFoundError: /data/\\udcff.csv"),
    ("uses_up_the_stack", [], "unknown", "RecursionError: maximum recursion depth exceeded"),
    ("echo", [1, 2], "invalid_argument", "echo was called with 2 arguments; it takes (value"),
]


async def test_results_and_exceptions_that_are_hard_to_send() -> None:
    async with scene(careless(), max_frame="1MiB") as seen:
        pid = await seen.call("pid")
        for method, arguments, code, text in REFUSED:
            error = await outcome(seen.call(method, *arguments))
            assert type(error) is (InvalidArgument if code == "invalid_argument" else WorkerError), method
            assert error.code == code, method
            assert text in str(error), method
            assert len(str(error)) < 20_000, method
            assert await seen.call("pid") == pid, method
        error = await outcome(seen.call("raises_surrogates"))
        assert error.remote_type == "FileNotFoundError"
        assert "in raises_surrogates" in error.remote_traceback
        assert seen.deaths() == []


async def test_one_bad_item_of_a_batch_fails_alone() -> None:
    async with scene(careless(), max_frame="1MiB") as seen:
        for method, good, bad in (("returns_bytes", 10, 2 * 2**20), ("raises_long", 10, 2 * 2**20)):
            items = [good] * 10 + [bad] + [good] * 10
            outcomes = await asyncio.gather(*(outcome(seen.call(method, item)) for item in items))
            failed = [type(result).__name__ for result in outcomes if isinstance(result, Exception)]
            if method == "returns_bytes":
                assert failed == ["WorkerError"]
                assert isinstance(outcomes[10], WorkerError)
            else:
                assert failed == ["WorkerError"] * 21
        assert seen.deaths() == []


async def test_a_progress_callback_that_raises() -> None:
    async with scene(careless()) as seen:

        def fail(done: float, total: float | None, text: str) -> None:
            raise RuntimeError("no room on the screen")

        assert await seen.orch.call("faulty.reports", 3, progress=fail, timeout=5) == 3
        assert await seen.call("echo", 1) == 1
        assert seen.deaths() == []
        # asyncio's way of telling of errors that nobody can be given.
        assert [str(context["exception"]) for context in seen.failures] == ["no room on the screen"] * 3
        seen.failures.clear()


# Arguments that cannot be sent: nothing is.


def _unsendable() -> list[tuple[str, Any, str]]:
    loop: list[Any] = []
    loop.append(loop)
    twice: list[Any] = []
    twice += [twice, twice]
    return [
        ("object", object(), "a value of type builtins.object cannot be sent"),
        ("set", {1, 2}, "a value of type builtins.set cannot be sent"),
        ("function", len, "cannot be sent"),
        ("huge integer", 2**64, "an integer beyond 64 bits cannot be sent"),
        ("itself twice", twice, "it is nested too deep, or holds itself"),
        ("itself", loop, "it is nested too deep, or holds itself"),
        ("too large", bytes(2 * 2**20), "the peer accepts frames of 1048576 (max_frame)"),
        ("surrogates", os.fsdecode(b"\xff"), "surrogates not allowed"),
        ("a list for a key", {"a": {(1, 2): 3}}, "a dict's key of type tuple cannot be sent"),
        ("a time out of range", [msgpack.Timestamp(2**40)], "cannot be sent"),
        ("deep inside", {"a": [{"b": object()}]}, "a value of type builtins.object cannot be sent"),
    ]


async def test_arguments_that_cannot_be_sent() -> None:
    async with scene(careless("small-frames")) as seen:
        # So that later calls of one turn travel together.
        await asyncio.gather(*(seen.call("echo", number) for number in range(500)))
        for name, value, text in _unsendable():
            error = await outcome(seen.call("echo", value))
            assert type(error) is InvalidArgument, name
            assert str(error).startswith("the arguments of faulty.echo cannot be sent: "), name
            assert text in str(error), name

            among = [1, 2, value, 3, 4]
            outcomes = await asyncio.gather(*(outcome(seen.call("echo", item, timeout=5)) for item in among))
            assert type(outcomes.pop(2)) is InvalidArgument, name
            assert outcomes == [1, 2, 3, 4], name

            outcomes = await seen.orch.map("faulty.echo", [value], return_exceptions=True)
            assert [type(error) for error in outcomes] == [InvalidArgument], name
            # It is known at once when nothing is under way, and else told in the log.
            with suppress(InvalidArgument):
                seen.orch.cast("faulty.echo", value)
            assert text in await seen.until_logged(text)
            with pytest.raises(InvalidArgument):
                _ = [item async for item in seen.orch.stream("faulty.streams", value)]
        assert await seen.call("echo", 1) == 1
        assert seen.deaths() == []


async def test_methods_and_services_that_do_not_exist() -> None:
    async with scene(careless()) as seen:
        error = await outcome(seen.call("ecko", 1))
        assert type(error) is UnknownMethod
        assert "service faulty has no method 'ecko'; it has: " in str(error)
        assert "echo" in str(error)
        error = await outcome(seen.orch.call("faulti.echo", 1))
        assert type(error) is UnknownService
        assert "there is no service 'faulti'; there are: faulty, neighbour" in str(error)
        assert type(await outcome(seen.orch.call("faulty", 1))) is UnknownService
        assert await seen.call("echo", 1) == 1


# How a careless handler ends its worker.


@pytest.mark.parametrize("method", ["exits", "exits_async"])
@pytest.mark.parametrize("status", [0, 3])
async def test_sys_exit_in_a_handler(method: str, status: int) -> None:
    async with scene(careless()) as seen:
        error = await outcome(seen.call(method, status))
        assert type(error) is WorkerCrashed
        assert verdict_of(error).name == f"exit {status}"
        assert await seen.call("echo", 1) == 1
        assert seen.replica()["restarts"] == 1


@pytest.mark.parametrize("method", ["exits", "exits_at_once"])
async def test_what_the_handler_had_answered_before_is_an_answer(method: str) -> None:
    async with scene(careless(), intensity=100) as seen:
        for _ in range(5):
            pid = await seen.call("pid")
            for _ in range(10):
                assert await seen.call("pid") == pid
            # They are with the worker at the same time; `pid` is not idempotent: a lost answer could not be had again.
            calls = [seen.call("pid"), seen.call("pid"), seen.call(method, 3)]
            *answered, crashed = await asyncio.gather(*map(outcome, calls))
            assert answered == [pid, pid]
            assert type(crashed) is WorkerCrashed


async def test_a_cast_that_fails_is_logged() -> None:
    async with scene(careless()) as seen:
        pid = await seen.call("pid")
        for method, text in (("raises_unprintable", "Unprintable"), ("raises_surrogates", "FileNotFoundError: /data/")):
            seen.orch.cast(f"faulty.{method}")
            assert f"the cast to {method} failed: " in await seen.until_logged(text)
        seen.orch.cast("faulty.echo", 1, 2, 3)
        assert "the cast to echo failed: " in await seen.until_logged("cast to echo")
        assert await seen.call("pid") == pid
