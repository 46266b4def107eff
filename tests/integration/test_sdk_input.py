"""Streamed arguments in the Python SDK, spoken by hand: frames over pipes, and nothing of ours at the other end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlports_worker import Worker
from tests.integration.raw_worker import RawWorker
from tests.workers import marks, program, until_blocking

INPUTS = """
@worker.method
def plain(x):
    return x

@worker.method(input=True)
def total(items, start=0):
    for item in items:
        start += item
    return start

@worker.method(input=True)
def waits(items, place):
    mark(place + "/began")
    wait_for(place + "/go-on")
    return [item for item in items]

@worker.method(input=True)
def nothing(items):
    return "early"

@worker.method(input=True)
def tells(items, place):
    try:
        for item in items:
            mark(place + "/took")
    except BaseException as error:
        mark(place + "/ended", type(error).__name__)
        raise

kept = []

@worker.method(input=True)
def keeps(items):
    kept.append(items)

@worker.method
def takes_the_kept():
    for item in kept[0]:
        pass
"""

ASYNC_INPUTS = (
    INPUTS.replace("\ndef ", "\nasync def ")
    .replace("for item in items:\n", "async for item in items:\n")
    .replace("for item in kept[0]:\n", "async for item in kept[0]:\n")
    .replace("[item for item in items]", "[item async for item in items]")
    .replace("    wait_for(place", "    await asyncio.to_thread(wait_for, place")
)

FEATURES = ["ping", "cancel", "stream", "input", "batch"]


@pytest.fixture(params=["plain", "async"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def raw(tmp_path: Path, kind: str) -> Callable[[], RawWorker]:
    """Starts the worker above, and says hello."""

    def start() -> RawWorker:
        body = INPUTS if kind == "plain" else ASYNC_INPUTS
        worker = RawWorker(program(tmp_path, body, "raw"), stderr=tmp_path / "stderr")
        worker.hello(features=FEATURES)
        return worker

    return start


def asked(number: int, method: str, *params: Any, **meta: Any) -> list[Any]:
    return [0, number, method, list(params), {"input": True, **meta}]


def given(number: int, *items: Any) -> list[list[Any]]:
    return [[2, "$/input", [number, item]] for item in items]


def ended(number: int) -> list[Any]:
    return [2, "$/input_end", [number]]


def test_hello_says_which_methods_take_one(tmp_path: Path) -> None:
    with RawWorker(program(tmp_path, INPUTS, "raw"), stderr=tmp_path / "stderr") as worker:
        answer = worker.hello(features=FEATURES)
        assert "input" in answer["features"]
        assert answer["methods"]["total"] == {"batch": False, "stream": False, "idempotent": False, "input": True}
        assert answer["methods"]["plain"] == {"batch": False, "stream": False, "idempotent": False}


def test_a_conversation(raw: Callable[[], RawWorker]) -> None:
    with raw() as worker:
        worker.send(asked(1, "total", 100))
        assert worker.receive()[:3] == [2, "$/input_credit", [1, 2]]
        worker.send(*given(1, 1, 2))
        assert worker.receive()[:2] == [2, "$/input_credit"]
        worker.send(*given(1, *range(3, 11)), ended(1))
        assert worker.receive()[:4] == [1, 1, None, 155]


def test_none_is_let_come_before_the_handler_asks(raw: Callable[[], RawWorker], tmp_path: Path) -> None:
    with raw() as worker:
        worker.send(asked(1, "waits", str(tmp_path)))
        until_blocking((tmp_path / "began").exists, "it is at work")
        assert worker.call(2, "$/ping") == [None, None]
        (tmp_path / "go-on").touch()
        assert worker.receive()[:3] == [2, "$/input_credit", [1, 2]]
        worker.send(ended(1))
        assert worker.receive()[:4] == [1, 1, None, []]


def test_an_item_beyond_credit_ends_the_worker(raw: Callable[[], RawWorker]) -> None:
    with raw() as worker:
        worker.send(asked(1, "total"))
        assert worker.receive()[:3] == [2, "$/input_credit", [1, 2]]
        worker.send(*given(1, *range(200)))
        assert worker.status() == 1
        assert "beyond the credit" in worker.stderr()


def test_items_after_an_early_answer_are_ignored(raw: Callable[[], RawWorker]) -> None:
    with raw() as worker:
        worker.send(asked(1, "nothing"))
        assert worker.receive()[:4] == [1, 1, None, "early"]
        worker.send(*given(1, 1, 2, 3), ended(1), *given(77, 1), ended(77))
        assert worker.call(2, "plain", "on") == [None, "on"]


def test_a_stream_that_outlives_its_call(raw: Callable[[], RawWorker]) -> None:
    with raw() as worker:
        assert worker.call(1, "keeps", input=True) == [None, None]
        error, _ = worker.call(2, "takes_the_kept")
        assert error["code"] == "failed_precondition"
        assert "was answered: its streamed argument is over" in error["message"]


@pytest.mark.parametrize(
    ("method", "params", "meta", "told"),
    [
        ("total", [], {}, "total takes a streamed argument, and this call has none"),
        ("plain", [1], {"input": True}, "plain takes no streamed argument"),
        ("total", [[1]], {"input": True, "batch": 1}, "total: a batch has no streamed argument"),
        ("total", [1, 2, 3], {"input": True}, "total was called with 4 arguments; it takes (items, start=0)"),
    ],
)
def test_what_cannot_be_called(
    raw: Callable[[], RawWorker], method: str, params: list[Any], meta: dict[str, Any], told: str
) -> None:
    with raw() as worker:
        error, _ = worker.call(1, method, *params, **meta)
        assert (error["code"], error["message"]) == ("invalid_argument", told)
        assert worker.call(2, "plain", 1) == [None, 1]


def test_a_cast_has_no_streamed_argument(raw: Callable[[], RawWorker]) -> None:
    with raw() as worker:
        worker.send([2, "total", []])
        _, method, params = worker.receive()[:3]
        assert (method, params[0]) == ("$/log", "error")
        assert "takes a streamed argument" in params[1]


def test_a_cancel_while_items_are_waited_for(raw: Callable[[], RawWorker], kind: str, tmp_path: Path) -> None:
    with raw() as worker:
        worker.send(asked(1, "tells", str(tmp_path)))
        assert worker.receive()[1] == "$/input_credit"
        worker.send([2, "$/cancel", [1]])
        answer = worker.receive()
        assert (answer[:2], answer[2]["code"]) == ([1, 1], "cancelled")
        assert marks(tmp_path / "ended") == ["Cancelled" if kind == "plain" else "CancelledError"]


def test_a_plain_handlers_wait_ends_at_its_deadline(tmp_path: Path) -> None:
    with RawWorker(program(tmp_path, INPUTS, "raw"), stderr=tmp_path / "stderr") as worker:
        worker.hello(features=FEATURES)
        worker.send(asked(1, "tells", str(tmp_path), deadline_ms=150))
        assert worker.receive()[1] == "$/input_credit"
        answer = worker.receive()
        assert (answer[:2], answer[2]["code"]) == ([1, 1], "deadline_exceeded")
        assert marks(tmp_path / "ended") == ["Failure"]


def test_the_end_of_everything_ends_the_wait(raw: Callable[[], RawWorker], tmp_path: Path) -> None:
    with raw() as worker:
        worker.send(asked(1, "tells", str(tmp_path)))
        assert worker.receive()[1] == "$/input_credit"
        worker.end_input()
        answer = worker.receive()
        assert (answer[:2], answer[2]["code"]) == ([1, 1], "unavailable")
        assert worker.status() == 0


def test_a_stop_lets_it_finish(raw: Callable[[], RawWorker], tmp_path: Path) -> None:
    with raw() as worker:
        worker.send(asked(1, "total"))
        assert worker.receive()[1] == "$/input_credit"
        worker.send([2, "$/stop", ["enough"]], *given(1, 1, 2), ended(1))
        while (answer := worker.receive())[0] == 2:
            pass
        assert answer[:4] == [1, 1, None, 3]
        worker.end_input()
        assert worker.status() == 0


def test_a_batch_method_takes_none() -> None:
    worker = Worker("w")
    with pytest.raises(TypeError, match="cannot be a batch method and take a streamed argument"):
        worker.method(batch=True, input=True)(len)
