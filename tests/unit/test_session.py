"""One end of a connection: the handshake, one answer for each request, credit, and what is refused when."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mlports_protocol import (
    DEFAULT_MAX_FRAME,
    FEATURES,
    MAX_FRAME_LIMIT,
    MAX_ID,
    Answered,
    AnsweredTwice,
    Buffer,
    CancelAsked,
    Codec,
    CreditExceeded,
    CreditGiven,
    DuplicateId,
    EmptyFrame,
    Event,
    Greeted,
    HandshakeExpected,
    HelloAsked,
    InputCreditGiven,
    InputEnded,
    InputItem,
    InvalidExtension,
    InvalidHello,
    InvalidMessage,
    Item,
    Logged,
    MalformedValue,
    Message,
    MethodInfo,
    Notification,
    NotOutstanding,
    OrchestratorSession,
    OversizedMessage,
    Peer,
    Progressed,
    RemoteProtocolError,
    Request,
    Response,
    Session,
    StdoutPolluted,
    StopAsked,
    TruncatedFrame,
    Unencodable,
    UnknownId,
    UnsupportedVersion,
    WorkerSession,
    WrongState,
)

ERROR = {"code": "unknown", "message": "no"}


def hear(session: Session, data: list[Buffer] | bytes | Message) -> list[Event]:
    if isinstance(data, (Request, Response, Notification)):
        data = Codec().encode(data)
    session.feed(data if isinstance(data, bytes) else b"".join(data))
    events = []
    while (event := session.next_event()) is not None:
        events.append(event)
    return events


def hear_into(events: list[Event], session: Session, stream: bytes, size: int) -> None:
    """Events before a fault are in the list when it is raised."""
    for start in range(0, len(stream), size):
        session.feed(stream[start : start + size])
        while (event := session.next_event()) is not None:
            events.append(event)


def say(buffers: list[Buffer]) -> Message:
    return Codec().decode(b"".join(buffers)[4:])


def greeting(worker: WorkerSession, asked: HelloAsked, **changes: Any) -> list[Buffer]:
    said: dict[str, Any] = {"name": "w", "language": "python", "sdk": "s", "methods": {}, "features": FEATURES}
    return worker.answer_hello(asked, **{**said, **changes})


def greeted(
    offered: frozenset[str] = FEATURES, claimed: frozenset[str] = FEATURES, max_frame: int = DEFAULT_MAX_FRAME
) -> tuple[OrchestratorSession, WorkerSession]:
    orchestrator, worker = OrchestratorSession(max_frame), WorkerSession(max_frame)
    (asked,) = hear(worker, orchestrator.hello("s", 0, {}, offered))
    assert isinstance(asked, HelloAsked)
    (answer,) = hear(orchestrator, greeting(worker, asked, features=claimed))
    assert isinstance(answer, Greeted)
    return orchestrator, worker


End = Callable[[], tuple[Session, Session]]


def as_orchestrator() -> tuple[Session, Session]:
    return greeted()


def as_worker() -> tuple[Session, Session]:
    orchestrator, worker = greeted()
    return worker, orchestrator


both_ends = pytest.mark.parametrize("ends", [as_orchestrator, as_worker], ids=["orchestrator", "worker"])


# -- the handshake


def test_what_each_end_learns_in_the_handshake() -> None:
    orchestrator, worker = OrchestratorSession(max_frame=5000), WorkerSession(max_frame=7000)
    assert (orchestrator.phase, worker.phase) == ("new", "new")
    assert orchestrator.last_id == -1
    (asked,) = hear(worker, orchestrator.hello("digits", 3, {"model": "m"}, frozenset(["ping", "batch"])))
    assert isinstance(asked, HelloAsked)
    assert (orchestrator.phase, worker.phase) == ("greeting", "greeting")
    assert asked.id == orchestrator.last_id == 0
    assert (asked.hello.service, asked.hello.replica, asked.hello.config) == ("digits", 3, {"model": "m"})
    assert asked.hello.features == {"ping", "batch"}
    assert asked.hello.max_frame == 5000
    methods = {"f": MethodInfo(batch=True), "g": MethodInfo(stream=True, idempotent=True)}
    answer = greeting(worker, asked, methods=methods, features=frozenset(["batch", "cancel"]), concurrency=4)
    (event,) = hear(orchestrator, answer)
    assert event == Greeted(
        Peer("w", "python", "s", 1, 7000, frozenset(["batch", "cancel"]), methods, concurrency=4, bare=False)
    )
    assert orchestrator.peer is event.peer
    assert (orchestrator.phase, worker.phase) == ("ready", "ready")
    assert orchestrator.features == worker.features == {"batch"}
    assert not orchestrator.asked
    assert not worker.open


def test_arrays_in_the_config_are_sent_as_lists() -> None:
    orchestrator, worker = OrchestratorSession(), WorkerSession()
    (asked,) = hear(worker, orchestrator.hello("s", 0, {"weights": np.arange(3)}))
    assert isinstance(asked, HelloAsked)
    assert asked.hello.config == {"weights": [0, 1, 2]}


@pytest.mark.parametrize("claimed", [FEATURES, FEATURES - {"ndarray"}])
def test_arrays_are_sent_as_arrays_only_when_that_was_agreed(claimed: frozenset[str]) -> None:
    orchestrator, worker = greeted(claimed=claimed)
    (request,) = hear(worker, orchestrator.request("f", [np.arange(3)]))
    assert isinstance(request, Request)
    assert isinstance(request.params[0], np.ndarray) == ("ndarray" in claimed)
    assert list(request.params[0]) == [0, 1, 2]


def test_a_worker_that_answers_hello_with_an_error_is_bare() -> None:
    orchestrator, worker = OrchestratorSession(), WorkerSession()
    hear(worker, orchestrator.hello("s", 0, {}))
    (event,) = hear(orchestrator, worker.answer(0, {"code": "unimplemented", "message": "no $/hello"}))
    assert event == Greeted(Peer(bare=True))
    assert orchestrator.phase == worker.phase == "ready"
    assert orchestrator.features == worker.features == frozenset()
    (request,) = hear(worker, orchestrator.request("f", [1]))
    assert request == Request(1, "f", [1])
    assert hear(orchestrator, worker.answer(1, None, 2)) == [Answered(1, None, None, 2)]


def test_the_least_that_hello_and_its_answer_may_say() -> None:
    worker = WorkerSession()
    (asked,) = hear(worker, Request(0, "$/hello", [{"protocol": {"min": 1, "max": 1}}]))
    assert isinstance(asked, HelloAsked)
    assert asked.hello.max_frame == DEFAULT_MAX_FRAME
    assert (asked.hello.service, asked.hello.replica, asked.hello.config) == ("", 0, {})
    orchestrator = OrchestratorSession()
    orchestrator.hello("s", 0, {})
    assert hear(orchestrator, Response(0, None, {"protocol": 1})) == [Greeted(Peer())]


def test_hello_may_come_with_bin_for_every_string() -> None:
    worker = WorkerSession()
    config: dict[Any, Any] = {b"k": b"v"}
    said = {b"protocol": {b"min": 0, b"max": 2}, b"service": b"s", b"features": [b"ping"], b"config": config}
    (asked,) = hear(worker, Request(0, "$/hello", [said]))
    assert isinstance(asked, HelloAsked)
    assert asked.hello.service == "s"
    assert asked.hello.features == {"ping"}
    assert asked.hello.config == config
    orchestrator = OrchestratorSession()
    orchestrator.hello("s", 0, {})
    answer = {b"protocol": 1, b"name": b"n", b"methods": {b"f": {b"batch": True}}}
    assert hear(orchestrator, Response(0, None, answer)) == [
        Greeted(Peer("n", methods={"f": MethodInfo(batch=True)}))
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("methods", "understood"),
    [
        (None, None),
        ({}, {}),
        ([], {}),
        (["g", "f", b"h"], {"f": MethodInfo(), "g": MethodInfo(), "h": MethodInfo()}),
        ({"f": {}}, {"f": MethodInfo()}),
        ({"f": {"batch": True, "new": 1}}, {"f": MethodInfo(batch=True)}),
        ({"f": {"input": True}}, {"f": MethodInfo(input=True)}),
        ({"f": {"batch": 1, "stream": "yes", "idempotent": None}}, {"f": MethodInfo()}),
    ],
)
def test_how_a_worker_may_tell_its_methods(methods: Any, understood: Any) -> None:
    orchestrator = OrchestratorSession()
    orchestrator.hello("s", 0, {})
    (event,) = hear(orchestrator, Response(0, None, {"protocol": 1, "methods": methods}))
    assert isinstance(event, Greeted)
    assert event.peer.methods == understood


deep: list[Any] = []
for _ in range(990):
    deep = [deep]
WRONG = [deep, 1.5, True, b"\xff", "x" * 100_000]


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("protocol", [None, 1, [], {}, {"min": 1}, {"min": 1, "max": None}, {"min": True, "max": 1}, {"min": 1.0}]),
        ("max_frame", [0, -1, MAX_FRAME_LIMIT + 1, "1", 1.0]),
        ("features", ["ping", {}, [1], [b"\xff"], ["ping", None]]),
        ("service", [None, 5, []]),
        ("replica", [-1, None, "0", 2**53]),
        ("config", [[], "x", 0]),
    ],
)  # fmt: skip
def test_a_wrong_hello_is_named(key: str, values: list[Any]) -> None:
    for value in [*values, *WRONG]:
        if (key, value) in [("service", "x" * 100_000)]:
            continue
        worker = WorkerSession()
        said = {"protocol": {"min": 1, "max": 1}, key: value}
        with pytest.raises(InvalidHello) as caught:
            hear(worker, Request(0, "$/hello", [said]))
        assert len(str(caught.value)) < 250
        assert worker.phase == "broken"


@pytest.mark.parametrize("params", [[], [None], [[]], [1], [deep], ["{}"]])
def test_a_hello_without_its_map_is_named(params: list[Any]) -> None:
    with pytest.raises(InvalidHello):
        hear(WorkerSession(), Request(0, "$/hello", params))


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("protocol", [None, "1", 1.0, {"min": 1, "max": 1}]),
        ("max_frame", [0, -1, MAX_FRAME_LIMIT + 1, "1", 1.0]),
        ("features", ["ping", {}, [1], [b"\xff"]]),
        ("name", [None, 5]),
        ("language", [None, 5]),
        ("sdk", [None, 5]),
        ("methods", [0, "f", [1], [None], {1: {}}, {"f": 1}, {"f": None}, {"f": {}, b"\xff": {}}]),
        ("concurrency", [0, -1, None, "1", 2**53]),
    ],
)
def test_a_wrong_answer_to_hello_is_named(key: str, values: list[Any]) -> None:
    for value in [*values, *WRONG]:
        if key in ("name", "language", "sdk") and isinstance(value, str):
            continue
        orchestrator = OrchestratorSession()
        orchestrator.hello("s", 0, {})
        with pytest.raises(InvalidHello) as caught:
            hear(orchestrator, Response(0, None, {"protocol": 1, key: value}))
        assert len(str(caught.value)) < 250
        assert orchestrator.phase == "broken"


@pytest.mark.parametrize("result", [None, 1, [], "ok", True, deep])
def test_an_answer_to_hello_that_is_no_map_is_named(result: Any) -> None:
    orchestrator = OrchestratorSession()
    orchestrator.hello("s", 0, {})
    with pytest.raises(InvalidHello):
        hear(orchestrator, Response(0, None, result))


def test_versions_must_meet() -> None:
    for least, most in [(2, 3), (0, 0), (-5, 0), (3, 1)]:
        with pytest.raises(UnsupportedVersion):
            hear(WorkerSession(), Request(0, "$/hello", [{"protocol": {"min": least, "max": most}}]))
    for version in (0, 2, -1, 2**60):
        orchestrator = OrchestratorSession()
        orchestrator.hello("s", 0, {})
        with pytest.raises(UnsupportedVersion):
            hear(orchestrator, Response(0, None, {"protocol": version}))


# -- phases


NEW_WORKER_REFUSES = [
    Request(0, "f", []),
    Request(0, "$/ping", []),
    Notification("g", []),
    Notification("$/log", ["info", "x"]),
    Notification("$/stop", []),
    Notification("$/cancel", [0]),
]


@pytest.mark.parametrize("message", NEW_WORKER_REFUSES)
def test_nothing_may_come_before_hello(message: Message) -> None:
    for session in (WorkerSession(), OrchestratorSession()):
        with pytest.raises(HandshakeExpected):
            hear(session, message)
        assert session.phase == "broken"


@pytest.mark.parametrize("message", [Request(5, "f", []), Notification("g", []), Notification("$/item", [0, 1])])
def test_only_the_answer_log_and_progress_may_come_before_the_answer_to_hello(message: Message) -> None:
    for session in (WorkerSession(), OrchestratorSession()):
        if isinstance(session, OrchestratorSession):
            session.hello("s", 0, {})
            assert hear(session, Notification("$/log", ["info", "x"])) == [Logged("info", "x", {})]
            assert hear(session, Notification("$/progress", [0, 1, 2])) == [Progressed(0, 1, 2, "")]
        else:
            hear(session, Request(0, "$/hello", [{"protocol": {"min": 1, "max": 1}}]))
        with pytest.raises(HandshakeExpected):
            hear(session, message)


@pytest.mark.parametrize("phase", ["new", "greeting"])
def test_nothing_may_be_sent_before_the_handshake_is_done(phase: str) -> None:
    orchestrator, worker = OrchestratorSession(), WorkerSession()
    if phase == "greeting":
        hear(worker, orchestrator.hello("s", 0, {}))
    sessions: list[Session] = [orchestrator, worker]
    attempts: list[Callable[[Session], object]] = [
        lambda session: session.request("f", []),
        lambda session: session.notify("g", []),
        lambda session: session.notify("$/stop", []),
    ]
    for session in sessions:
        for attempt in attempts:
            with pytest.raises(WrongState, match=f"is {phase}, not ready"):
                attempt(session)
        assert session.cancel(0) == []
        assert session.give_credit(0, 1) == []
    if phase == "new":
        with pytest.raises(WrongState):
            worker.notify("$/log", ["info", "x"])
        with pytest.raises(WrongState):
            greeting(worker, HelloAsked(0, Any))  # type: ignore[arg-type]
    else:
        assert hear(orchestrator, worker.notify("$/log", ["info", "x"])) == [Logged("info", "x", {})]
        with pytest.raises(WrongState, match="already"):
            orchestrator.hello("s", 0, {})


def test_a_second_hello_is_refused() -> None:
    orchestrator, worker = greeted()
    with pytest.raises(WrongState):
        orchestrator.hello("s", 0, {})
    with pytest.raises(HandshakeExpected):
        hear(worker, Request(9, "$/hello", [{"protocol": {"min": 1, "max": 1}}]))


def test_hello_is_answered_once() -> None:
    orchestrator, worker = OrchestratorSession(), WorkerSession()
    (asked,) = hear(worker, orchestrator.hello("s", 0, {}))
    assert isinstance(asked, HelloAsked)
    answer = greeting(worker, asked)
    with pytest.raises(WrongState):
        greeting(worker, asked)
    hear(orchestrator, answer)
    with pytest.raises(AnsweredTwice):
        hear(orchestrator, answer)


# -- one answer for each request


@both_ends
def test_a_request_is_answered_once(ends: End) -> None:
    caller, callee = ends()
    (request,) = hear(callee, caller.request("f", [1, "x"], {"deadline_ms": 5}, tag="mine"))
    number = caller.last_id
    assert request == Request(number, "f", [1, "x"], {"deadline_ms": 5})
    assert caller.asked == {number: "mine"}
    assert callee.open == {number}
    answer = callee.answer(number, None, "done")
    assert callee.open == set()
    assert hear(caller, answer) == [Answered(number, "mine", None, "done")]
    assert caller.asked == {}
    with pytest.raises(NotOutstanding, match=f"request {number} "):
        callee.answer(number, None, "again")
    with pytest.raises(NotOutstanding, match=f"request {number} "):
        callee.item(number, "late")
    with pytest.raises(AnsweredTwice, match=f"request {number}, which was answered already"):
        hear(caller, answer)


@both_ends
def test_an_error_is_an_answer(ends: End) -> None:
    caller, callee = ends()
    hear(callee, caller.request("f", []))
    error = {**ERROR, "data": {"type": "ValueError"}, "retryable": True}
    assert hear(caller, callee.answer(caller.last_id, error)) == [Answered(caller.last_id, None, error, None)]


@both_ends
def test_what_was_never_asked_cannot_be_answered(ends: End) -> None:
    caller, callee = ends()
    with pytest.raises(NotOutstanding):
        callee.answer(caller.last_id + 1)
    with pytest.raises(UnknownId, match="never made"):
        hear(caller, Response(caller.last_id + 1, None, 1))
    caller, callee = ends()
    with pytest.raises(UnknownId, match="an item"):
        hear(caller, Notification("$/item", [caller.last_id + 1, 1]))


@both_ends
def test_answers_come_in_any_order(ends: End) -> None:
    caller, callee = ends()
    numbers = []
    for index in range(5):
        hear(callee, caller.request("f", [], tag=index))
        numbers.append(caller.last_id)
    assert numbers == list(range(numbers[0], numbers[0] + 5))
    for index in (3, 0, 4, 1, 2):
        answer = callee.answer(numbers[index], None, index * 10)
        assert hear(caller, answer) == [Answered(numbers[index], index, None, index * 10)]
    assert (caller.asked, callee.open) == ({}, set())


def test_each_direction_has_its_own_ids() -> None:
    orchestrator, worker = greeted()
    hear(orchestrator, worker.request("t.f", [], tag="hers"))
    hear(worker, orchestrator.request("f", [], tag="his"))
    hear(orchestrator, worker.request("t.g", [], tag="hers too"))
    assert orchestrator.last_id == worker.last_id == 1
    assert hear(worker, orchestrator.answer(1, None, "a")) == [Answered(1, "hers too", None, "a")]
    assert orchestrator.asked == {1: "his"}
    assert hear(orchestrator, worker.answer(1, None, "b")) == [Answered(1, "his", None, "b")]
    assert worker.asked == {0: "hers"}
    assert orchestrator.open == {0}


@both_ends
def test_an_id_may_come_again_only_after_its_answer(ends: End) -> None:
    _, callee = ends()
    hear(callee, Request(70, "f", []))
    hear(callee, Request(5, "f", []))
    callee.answer(70)
    assert hear(callee, Request(70, "f", [])) == [Request(70, "f", [])]
    with pytest.raises(DuplicateId, match="5"):
        hear(callee, Request(5, "f", []))


@both_ends
def test_the_last_id(ends: End) -> None:
    caller, callee = ends()
    assert hear(callee, Request(MAX_ID, "f", [])) == [Request(MAX_ID, "f", [])]
    caller._next_id = MAX_ID
    assert hear(ends()[1], caller.request("f", [])) == [Request(MAX_ID, "f", [])]
    with pytest.raises(WrongState, match="used up"):
        caller.request("f", [])


@both_ends
def test_a_request_that_cannot_be_sent_uses_no_id(ends: End) -> None:
    caller, callee = ends()
    before = caller.last_id
    attempts: list[Callable[[], object]] = [
        lambda: caller.request("f", [object()]),
        lambda: caller.request("f", [1], {"x": object()}),
        lambda: caller.request("", []),
        lambda: caller.request(5, []),  # type: ignore[arg-type]
        lambda: caller.request("f", {"a": 1}),  # type: ignore[arg-type]
        lambda: caller.request("f", "ab"),  # type: ignore[arg-type]
        lambda: caller.request("f", [], ["meta"]),  # type: ignore[arg-type]
        lambda: caller.request("f", [], {"credit": -1}),
        lambda: caller.request("f", [], {"credit": True}),
        lambda: caller.request("f", [], {"credit": 1.0}),
        lambda: caller.request("f", [], {"credit": 2**53}),
        lambda: caller.request("f", [], {"input": 1}),
    ]
    for attempt in attempts:
        with pytest.raises(Unencodable):
            attempt()
        assert (caller.last_id, caller.asked) == (before, {})
    assert hear(callee, caller.request("f", (1, 2))) == [  # type: ignore[arg-type]
        Request(before + 1, "f", [1, 2])
    ]


@both_ends
def test_a_request_whose_answer_cannot_be_sent_stays_open(ends: End) -> None:
    caller, callee = ends()
    hear(callee, caller.request("f", [], {"credit": 1}))
    number = caller.last_id
    for error, result in [
        (None, object()),
        ({"code": "unknown"}, None),
        ({"code": "unknown", "message": 5}, None),
        ({**ERROR, "retryable": "yes"}, None),
        ({**ERROR, "data": object()}, None),
        ("failed", None),
        (ERROR, 1),
    ]:
        with pytest.raises(Unencodable):
            callee.answer(number, error, result)  # type: ignore[arg-type]
        assert callee.open == {number}
        assert callee.allowance(number) == 1
    assert hear(caller, callee.answer(number, ERROR)) == [Answered(number, None, ERROR, None)]


def test_nothing_longer_than_the_peer_accepts_is_sent() -> None:
    orchestrator, worker = OrchestratorSession(), WorkerSession(max_frame=200)
    (asked,) = hear(worker, orchestrator.hello("s", 0, {}))
    assert isinstance(asked, HelloAsked)
    hear(orchestrator, greeting(worker, asked, methods={}, features=frozenset(["stream"])))
    overhead = len(b"".join(orchestrator.request("f", [b""]))) - 4
    fitting = orchestrator.request("f", ["x" * (200 - overhead)])
    assert len(b"".join(fitting)) == 204
    before = orchestrator.last_id
    with pytest.raises(OversizedMessage, match=r"201 bytes long.*200 \(max_frame\)"):
        orchestrator.request("f", ["x" * (201 - overhead)])
    with pytest.raises(OversizedMessage):
        orchestrator.request("f", [np.zeros(100_000)])
    assert orchestrator.last_id == before
    (request,) = hear(worker, fitting)
    assert isinstance(request, Request)


def test_an_answer_longer_than_the_peer_accepts_leaves_room_for_an_error() -> None:
    orchestrator, worker = greeted(max_frame=600)
    hear(worker, orchestrator.request("f", []))
    with pytest.raises(OversizedMessage):
        worker.answer(1, None, "x" * 600)
    assert hear(orchestrator, worker.answer(1, ERROR)) == [Answered(1, None, ERROR, None)]


# -- streams and credit


@both_ends
def test_items_come_within_credit(ends: End) -> None:
    caller, callee = ends()
    hear(callee, caller.request("f", [], {"credit": 2}, tag="s"))
    number = caller.last_id
    assert callee.allowance(number) == 2
    assert hear(caller, callee.item(number, "a")) == [Item(number, "s", "a")]
    assert hear(caller, callee.item(number, None)) == [Item(number, "s", None)]
    assert callee.allowance(number) == 0
    with pytest.raises(WrongState, match="no credit"):
        callee.item(number, "c")
    assert hear(callee, caller.give_credit(number, 3)) == [CreditGiven(number, 3)]
    assert hear(callee, caller.give_credit(number, 1)) == [CreditGiven(number, 1)]
    assert callee.allowance(number) == 4
    for left in (3, 2, 1, 0):
        assert hear(caller, callee.item(number, left)) == [Item(number, "s", left)]
        assert callee.allowance(number) == left
    assert hear(caller, callee.answer(number, None, "end")) == [Answered(number, "s", None, "end")]
    assert callee.allowance(number) is None
    assert caller.give_credit(number, 1) == []


@both_ends
@pytest.mark.parametrize("credit", [0, 1, 3])
def test_an_item_beyond_credit_is_refused(ends: End, credit: int) -> None:
    caller, _ = ends()
    caller.request("f", [], {"credit": credit})
    number = caller.last_id
    item = b"".join(Codec().encode(Notification("$/item", [number, 1])))
    events: list[Event] = []
    with pytest.raises(CreditExceeded, match=f"request {number} "):
        hear_into(events, caller, item * (credit + 1), size=1000)
    assert len(events) == credit


@both_ends
def test_an_item_where_no_stream_was_asked_is_refused(ends: End) -> None:
    caller, callee = ends()
    hear(callee, caller.request("f", []))
    assert callee.allowance(caller.last_id) is None
    with pytest.raises(WrongState):
        callee.item(caller.last_id, 1)
    assert caller.give_credit(caller.last_id, 5) == []
    with pytest.raises(CreditExceeded):
        hear(caller, Notification("$/item", [caller.last_id, 1]))


@both_ends
def test_credit_that_crosses_the_answer_is_ignored(ends: End) -> None:
    caller, callee = ends()
    hear(callee, caller.request("f", [], {"credit": 1, "input": True}))
    number = caller.last_id
    callee.give_input_credit(number, 1)
    crossing = [caller.give_credit(number, 5), caller.cancel(number), caller.end_input(number)]
    answer = callee.answer(number)
    for buffers in crossing:
        assert buffers
        assert hear(callee, buffers) == []
    assert hear(caller, answer) == [Answered(number, None, None, None)]
    assert hear(caller, Notification("$/input_credit", [number, 1])) == []
    with pytest.raises(AnsweredTwice, match="an item"):
        hear(caller, Notification("$/item", [number, 1]))


@both_ends
def test_an_item_that_cannot_be_sent_costs_no_credit(ends: End) -> None:
    caller, callee = ends()
    hear(callee, caller.request("f", [], {"credit": 1, "input": True}))
    number = caller.last_id
    hear(caller, callee.give_input_credit(number, 1))
    with pytest.raises(Unencodable):
        callee.item(number, object())
    with pytest.raises(Unencodable):
        caller.input(number, object())
    assert callee.allowance(number) == caller.input_allowance(number) == 1


@both_ends
@pytest.mark.parametrize("count", [0, -1, True, 1.0, "1", None, 2**53])
def test_credit_is_given_in_whole_numbers_from_1(ends: End, count: Any) -> None:
    caller, callee = ends()
    hear(callee, caller.request("f", [], {"credit": 0, "input": True}))
    number = caller.last_id
    with pytest.raises(Unencodable, match="from 1"):
        caller.give_credit(number, count)
    with pytest.raises(Unencodable, match="from 1"):
        callee.give_input_credit(number, count)
    assert callee.allowance(number) == caller.input_allowance(number) == 0
    with pytest.raises(InvalidMessage, match="count"):
        hear(callee, Notification("$/credit", [number, count]))
    with pytest.raises(InvalidMessage, match="count"):
        hear(caller, Notification("$/input_credit", [number, count]))


@both_ends
def test_a_streamed_argument_comes_within_credit(ends: End) -> None:
    caller, callee = ends()
    hear(callee, caller.request("f", [], {"input": True}))
    number = caller.last_id
    assert caller.input_allowance(number) == 0
    with pytest.raises(WrongState, match="no credit"):
        caller.input(number, "a")
    assert hear(caller, callee.give_input_credit(number, 2)) == [InputCreditGiven(number, 2)]
    assert caller.input_allowance(number) == 2
    assert hear(callee, caller.input(number, "a")) == [InputItem(number, "a")]
    assert hear(callee, caller.input(number, "b")) == [InputItem(number, "b")]
    with pytest.raises(WrongState, match="no credit"):
        caller.input(number, "c")
    assert hear(callee, caller.end_input(number)) == [InputEnded(number)]
    assert caller.end_input(number) == []
    assert caller.input_allowance(number) is None
    assert callee.give_input_credit(number, 1) == []
    assert hear(callee, Notification("$/input_end", [number])) == []
    with pytest.raises(WrongState):
        caller.input(number, "d")
    hear(caller, callee.answer(number))
    assert caller.input(number, "late") == caller.end_input(number) == []
    assert caller.input_allowance(number) is None
    with pytest.raises(NotOutstanding):
        callee.answer(number)


@both_ends
@pytest.mark.parametrize(
    ("meta", "credit", "items"),
    [({"input": True}, 0, 1), ({"input": True}, 2, 3), ({}, 0, 1), ({"input": False}, 0, 1)],
)
def test_a_streamed_argument_beyond_credit_is_refused(ends: End, meta: dict[str, Any], credit: int, items: int) -> None:
    _, callee = ends()
    hear(callee, Request(50, "f", [], meta))
    if credit:
        callee.give_input_credit(50, credit)
    for _ in range(items - 1):
        assert hear(callee, Notification("$/input", [50, "x"])) == [InputItem(50, "x")]
    with pytest.raises(CreditExceeded, match="request 50 "):
        hear(callee, Notification("$/input", [50, "x"]))


@both_ends
def test_a_streamed_argument_after_its_end_is_refused(ends: End) -> None:
    _, callee = ends()
    hear(callee, Request(50, "f", [], {"input": True}))
    callee.give_input_credit(50, 5)
    hear(callee, Notification("$/input_end", [50]))
    with pytest.raises(CreditExceeded):
        hear(callee, Notification("$/input", [50, "x"]))


@both_ends
def test_an_id_that_is_used_again_has_credit_of_its_own(ends: End) -> None:
    caller, callee = ends()
    streamed = Request(50, "f", [], {"credit": 5, "input": True})
    hear(callee, streamed)
    hear(caller, callee.give_input_credit(50, 3))
    with pytest.raises(DuplicateId, match="request id 50 is still in use"):
        hear(callee, streamed)
    _, callee = ends()
    hear(callee, streamed)
    callee.give_input_credit(50, 3)
    callee.item(50, "a")
    callee.answer(50)
    hear(callee, Request(50, "f", [], {"credit": 1, "input": True}))
    assert callee.allowance(50) == 1
    with pytest.raises(CreditExceeded):
        hear(callee, Notification("$/input", [50, "x"]))


@both_ends
def test_credit_is_what_was_given_less_what_was_used(ends: End) -> None:
    caller, callee = ends()
    hear(callee, caller.request("f", [], {"credit": 2}))
    number = caller.last_id
    assert not caller.giving_input
    for left in (1, 0):
        hear(caller, callee.item(number, "x"))
        assert callee.allowance(number) == left
    hear(callee, caller.give_credit(number, 3))
    assert callee.allowance(number) == 3
    hear(caller, callee.item(number, b"x" * 1000))
    assert 1000 < caller.frame_size < 1050


@both_ends
def test_an_end_knows_whether_it_still_has_items_to_give(ends: End) -> None:
    caller, callee = ends()
    for way in ("ended", "answered"):
        hear(callee, caller.request("f", [], {"input": True}))
        assert caller.giving_input
        if way == "ended":
            caller.end_input(caller.last_id)
        else:
            hear(caller, callee.answer(caller.last_id))
        assert not caller.giving_input


@both_ends
def test_input_for_a_request_that_is_not_open_is_ignored(ends: End) -> None:
    _, callee = ends()
    assert hear(callee, Notification("$/input", [50, "x"])) == []
    assert hear(callee, Notification("$/input_end", [50])) == []
    assert hear(callee, Notification("$/input_credit", [50, 1])) == []


@pytest.mark.parametrize(("key", "value"), [("credit", 1), ("input", True), ("batch", 2)])
def test_what_was_not_agreed_is_not_sent(key: str, value: Any) -> None:
    feature = {"credit": "stream", "input": "input", "batch": "batch"}[key]
    orchestrator, worker = greeted(claimed=FEATURES - {feature})
    for session in (orchestrator, worker):
        with pytest.raises(WrongState, match=f"feature {feature}"):
            session.request("f", [], {key: value})
    if key != "batch":
        with pytest.raises(InvalidMessage, match="not negotiated"):
            hear(worker, Request(1, "f", [], {key: value}))


def test_a_cancel_is_not_sent_to_a_peer_that_cannot() -> None:
    orchestrator, worker = greeted(claimed=FEATURES - {"cancel"})
    hear(worker, orchestrator.request("f", []))
    assert orchestrator.cancel(1) == []
    assert orchestrator.notify("$/cancel", [1]) == []


@both_ends
def test_a_cancelled_request_is_still_answered(ends: End) -> None:
    caller, callee = ends()
    hear(callee, caller.request("f", []))
    number = caller.last_id
    assert hear(callee, caller.cancel(number)) == [CancelAsked(number)]
    assert hear(callee, caller.cancel(number)) == [CancelAsked(number)]
    assert callee.open == {number}
    cancelled = {"code": "cancelled", "message": "as asked"}
    assert hear(caller, callee.answer(number, cancelled)) == [Answered(number, None, cancelled, None)]
    assert caller.cancel(number) == []
    assert caller.cancel(12345) == []


@both_ends
def test_notify_keeps_the_accounts(ends: End) -> None:
    caller, callee = ends()
    hear(callee, caller.request("f", [], {"credit": 1, "input": True}))
    number = caller.last_id
    with pytest.raises(WrongState):
        caller.notify("$/input", [number, 1])
    assert hear(caller, callee.notify("$/input_credit", [number, 1])) == [InputCreditGiven(number, 1)]
    assert hear(callee, caller.notify("$/input", [number, 1])) == [InputItem(number, 1)]
    assert hear(callee, caller.notify("$/input_end", [number])) == [InputEnded(number)]
    assert hear(caller, callee.notify("$/item", [number, 1])) == [Item(number, None, 1)]
    with pytest.raises(WrongState):
        callee.notify("$/item", [number, 1])
    assert hear(callee, caller.notify("$/credit", [number, 1])) == [CreditGiven(number, 1)]
    assert hear(callee, caller.notify("$/cancel", [number])) == [CancelAsked(number)]


# -- the other notifications


@both_ends
@pytest.mark.parametrize(
    ("sent", "event"),
    [
        (Notification("g", [1, "x"]), Notification("g", [1, "x"])),
        (Notification("$/log", ["info", "text"]), Logged("info", "text", {})),
        (Notification("$/log", [b"info", b"text", None, 5]), Logged("info", "text", {})),
        (Notification("$/log", ["loud", "", {"a": 1, b"b": b"c"}]), Logged("info", "", {"a": 1, "b": b"c"})),
        (Notification("$/progress", [0, 1]), Progressed(0, 1, None, "")),
        (Notification("$/progress", [0, 0.5, 2.0, b"half", 1]), Progressed(0, 0.5, 2.0, "half")),
        (Notification("$/progress", [0, -1, None, None]), Progressed(0, -1, None, "")),
        (Notification("$/stop", []), StopAsked("")),
        (Notification("$/stop", [None]), StopAsked("")),
        (Notification("$/stop", ["shutdown", 1]), StopAsked("shutdown")),
        (Notification("$/sparkle", []), None),
        (Notification("$/sparkle", [1, {}]), None),
        (Notification("$/", []), None),
        (Notification("$/cancel", [77, 1, 2]), None),
        (Notification("$/credit", [77, 1]), None),
        (Notification("$/progress", [77, 1]), None),
    ],
)
def test_what_a_notification_means(ends: End, sent: Notification, event: Event | None) -> None:
    session, _ = ends()
    session._asked[0] = None
    assert hear(session, sent) == ([] if event is None else [event])


NO_ID = [-1, 2**53, True, 1.0, "1", None, b"1", [1], {}, {"a": deep}]


@both_ends
@pytest.mark.parametrize(
    ("method", "rest"),
    [
        ("$/item", [1]),
        ("$/cancel", []),
        ("$/credit", [1]),
        ("$/input", [1]),
        ("$/input_end", []),
        ("$/input_credit", [1]),
        ("$/progress", [1]),
    ],
)
def test_an_id_that_is_none_is_refused(ends: End, method: str, rest: list[Any]) -> None:
    for number in NO_ID:
        session, _ = ends()
        with pytest.raises(InvalidMessage, match="id in") as caught:
            hear(session, Notification(method, [number, *rest]))
        assert len(str(caught.value)) < 150
    session, _ = ends()
    with pytest.raises(InvalidMessage, match=r"at least \d params"):
        hear(session, Notification(method, [1][: len(rest)]))


@both_ends
@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("$/log", []),
        ("$/log", ["info"]),
        ("$/log", [1, "text"]),
        ("$/log", ["info", 5]),
        ("$/log", ["info", None]),
        ("$/log", ["info", b"\xff"]),
        ("$/log", ["info", deep]),
        ("$/log", ["info", "text", []]),
        ("$/log", ["info", "text", deep]),
        ("$/progress", [1, "1"]),
        ("$/progress", [1, True]),
        ("$/progress", [1, None]),
        ("$/progress", [1, 1, "2"]),
        ("$/progress", [1, 1, False]),
        ("$/progress", [1, 1, deep]),
        ("$/progress", [1, 1, 2, 3]),
        ("$/progress", [1, 1, 2, deep]),
        ("$/stop", [5]),
        ("$/stop", [deep]),
    ],
)
def test_a_notification_of_wrong_types_is_refused_by_both_ends(ends: End, method: str, params: list[Any]) -> None:
    session, other = ends()
    with pytest.raises(Unencodable, match=r"\$/"):
        other.notify(method, params)
    with pytest.raises(InvalidMessage, match=r"\$/") as caught:
        hear(session, Notification(method, params))
    assert len(str(caught.value)) < 200


def test_numpy_numbers_and_string_enums_may_be_progress_and_log() -> None:
    orchestrator, worker = greeted()
    hear(worker, orchestrator.request("f", []))
    sent = worker.notify("$/progress", [1, np.float32(0.5), np.int64(2), np.str_("x")])
    assert hear(orchestrator, sent) == [Progressed(1, 0.5, 2, "x")]
    sent = worker.notify("$/log", [np.str_("info"), "loss", {"loss": np.float64(0.25), "step": np.int32(3)}])
    assert hear(orchestrator, sent) == [Logged("info", "loss", {"loss": 0.25, "step": 3})]


@pytest.mark.parametrize("meta", [{"credit": -1}, {"credit": 1.0}, {"credit": "1"}, {"credit": True}, {"input": 1},
                                  {"input": "yes"}, {"input": deep}, {"credit": deep}, {b"credit": -1}])  # fmt: skip
def test_meta_of_wrong_types_is_refused(meta: dict[Any, Any]) -> None:
    _, worker = greeted()
    with pytest.raises(InvalidMessage, match="meta"):
        hear(worker, Request(1, "f", [], meta))
    assert worker.open == set()


def test_unknown_meta_is_handed_on() -> None:
    orchestrator, worker = greeted()
    meta = {"colour": "red", "credit": None, "deadline_ms": 5}
    assert hear(worker, orchestrator.request("f", [], meta)) == [Request(1, "f", [], meta)]
    assert worker.allowance(1) is None
    with pytest.raises(CreditExceeded):
        hear(orchestrator, Notification("$/item", [1, 1]))


# -- a broken session


FAULTS: list[tuple[bytes, type[RemoteProtocolError]]] = [
    (bytes(4), EmptyFrame),
    (b"Traceback\n", StdoutPolluted),
    (b"\0\0\0\1\xc1", MalformedValue),
    (b"\0\0\0\1\x90", InvalidMessage),
    (b"".join(Codec().encode(Response(2**40, None, 1))), UnknownId),
    (b"".join(Codec().encode(Notification("$/item", [2**40, 1]))), UnknownId),
    (b"".join(Codec().encode(Notification("$/credit", [1, 0]))), InvalidMessage),
    (bytes.fromhex("0000000c 940005a166 91 d5020000 c0"), InvalidExtension),
]


@both_ends
@pytest.mark.parametrize(("bad", "name"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_events_before_the_fault_come_first_and_it_stays(
    ends: End, bad: bytes, name: type[RemoteProtocolError], size: int
) -> None:
    session, _ = ends()
    good = b"".join(Codec().encode(Request(1, "f", [])) + Codec().encode(Notification("g", [])))
    later = b"".join(Codec().encode(Request(2, "f", [])))
    stream = good + bad + later
    events: list[Event] = []
    with pytest.raises(name) as caught:
        hear_into(events, session, stream, size)
    assert events == [Request(1, "f", []), Notification("g", [])]
    assert session.phase == "broken"
    for again in (session.next_event, session.end, session.next_event):
        session.feed(later)
        with pytest.raises(name) as same:
            again()
        assert same.value is caught.value


@both_ends
def test_a_broken_session_asks_nothing_and_answers_what_it_was_asked(ends: End) -> None:
    session, peer = ends()
    hear(session, peer.request("f", []))
    session.request("g", [], {"credit": 1, "input": True}, tag="t")
    number = session.last_id
    with pytest.raises(EmptyFrame):
        hear(session, bytes(4))
    assert session.asked == {number: "t"}
    assert session.open == {peer.last_id}
    attempts: list[Callable[[], object]] = [
        lambda: session.request("f", []),
        lambda: session.notify("g", []),
        lambda: session.notify("$/log", ["info", "x"]),
        lambda: session.cancel(number),
        lambda: session.give_credit(number, 1),
        lambda: session.end_input(number),
    ]
    for attempt in attempts:
        with pytest.raises(WrongState, match="broken"):
            attempt()
    assert say(session.answer(peer.last_id, None, 1)) == Response(peer.last_id, None, 1)
    with pytest.raises(NotOutstanding):
        session.answer(peer.last_id, None, 1)


@both_ends
def test_an_end_inside_a_frame_breaks_the_session(ends: End) -> None:
    session, _ = ends()
    session.end()
    hear(session, b"\0\0\0\5ab")
    with pytest.raises(TruncatedFrame):
        session.end()
    assert session.phase == "broken"
    with pytest.raises(TruncatedFrame):
        session.next_event()


@both_ends
def test_a_local_mistake_leaves_the_session_as_it_was(ends: End) -> None:
    caller, callee = ends()
    attempts: list[Callable[[], object]] = [
        lambda: caller.request("f", [object()]),
        lambda: caller.notify("g", [2**70]),
        lambda: caller.notify("", []),
        lambda: caller.notify("g", {}),  # type: ignore[arg-type]
        lambda: caller.answer(5),
        lambda: caller.item(5, 1),
    ]
    for attempt in attempts:
        with pytest.raises((Unencodable, NotOutstanding)):
            attempt()
    assert caller.phase == "ready"
    hear(callee, caller.request("f", []))
    assert hear(caller, callee.answer(caller.last_id, None, 1)) == [Answered(caller.last_id, None, None, 1)]


def test_nothing_is_kept_of_what_is_done() -> None:
    orchestrator, worker = greeted()
    for number in range(1, 301):
        hear(worker, orchestrator.request("f", [], {"credit": 1, "input": True}))
        hear(orchestrator, worker.give_input_credit(number, 1))
        hear(worker, orchestrator.input(number, 1))
        hear(orchestrator, worker.item(number, 1))
        hear(orchestrator, worker.answer(number))
    for session in (orchestrator, worker):
        for name, kept in vars(session).items():
            if isinstance(kept, (dict, set, list)):
                assert not kept, name


@both_ends
def test_a_broken_session_does_not_collect_what_it_is_fed(ends: End) -> None:
    session, _ = ends()
    with pytest.raises(InvalidMessage):
        hear(session, b"\0\0\0\1\x90")
    began = time.perf_counter()
    for _ in range(3000):
        session.feed(bytes(65536))
    # Kept one behind the other, and copied for each that is added, they would be 300 GB.
    assert time.perf_counter() - began < 3


def test_a_worker_keeps_to_the_length_of_hello_before_it_answers() -> None:
    orchestrator, worker = OrchestratorSession(max_frame=400), WorkerSession()
    hear(worker, orchestrator.hello("s", 0, {}))
    with pytest.raises(OversizedMessage):
        worker.notify("$/log", ["info", "x" * 400])
    with pytest.raises(OversizedMessage):
        worker.answer(0, {**ERROR, "message": "x" * 400})
    assert worker.phase == "greeting"
    (event,) = hear(orchestrator, worker.answer(0, ERROR))
    assert isinstance(event, Greeted)
    hear(worker, orchestrator.request("f", []))
    with pytest.raises(OversizedMessage):
        worker.answer(1, None, "x" * 400)
