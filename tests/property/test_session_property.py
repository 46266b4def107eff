"""Two sessions joined by a pipe that delivers in pieces: one answer for each request, no item beyond credit."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlports_protocol import (
    FEATURES,
    Answered,
    Buffer,
    CancelAsked,
    Codec,
    CreditGiven,
    Event,
    HelloAsked,
    InputCreditGiven,
    InputEnded,
    InputItem,
    Item,
    Notification,
    NotOutstanding,
    OrchestratorSession,
    RemoteProtocolError,
    Request,
    Response,
    Session,
    WorkerSession,
    WrongState,
)

sides = st.sampled_from([0, 1])
whichever = st.integers(0, 2**16)


class Joined(RuleBasedStateMachine):
    """Side 0 is the orchestrator, side 1 the worker; what it knows of a request is keyed by (the caller's side, id)."""

    def __init__(self) -> None:
        super().__init__()
        orchestrator, worker = OrchestratorSession(), WorkerSession()
        worker.feed(b"".join(orchestrator.hello("s", 0, {})))
        asked = worker.next_event()
        assert isinstance(asked, HelloAsked)
        answer = worker.answer_hello(asked, name="", language="", sdk="", methods={}, features=FEATURES)
        orchestrator.feed(b"".join(answer))
        orchestrator.next_event()
        self.ends: tuple[Session, Session] = (orchestrator, worker)
        self.pipes = (bytearray(), bytearray())  # what each side has sent and the other not yet read
        self.sent: dict[tuple[int, int], str] = {}
        self.arrived: set[tuple[int, int]] = set()
        self.results: dict[tuple[int, int], Any] = {}
        self.answers: Counter[tuple[int, int]] = Counter()
        self.granted: Counter[tuple[int, int]] = Counter()
        self.items: dict[tuple[int, int], list[int]] = {}
        self.items_heard: dict[tuple[int, int], list[int]] = {}
        self.input_granted: Counter[tuple[int, int]] = Counter()
        self.inputs: dict[tuple[int, int], list[int]] = {}
        self.inputs_heard: dict[tuple[int, int], list[int]] = {}
        self.ended: set[tuple[int, int]] = set()
        self.serial = 0

    def put(self, side: int, buffers: list[Buffer]) -> None:
        for buffer in buffers:
            self.pipes[side].extend(buffer)

    def next_serial(self) -> int:
        self.serial += 1
        return self.serial

    # -- what the two ends do

    @rule(side=sides, credit=st.none() | st.integers(0, 3), takes_input=st.booleans())
    def ask(self, side: int, credit: int | None, takes_input: bool) -> None:
        meta: dict[str, Any] = {} if credit is None else {"credit": credit}
        if takes_input:
            meta["input"] = True
        session = self.ends[side]
        tag = f"{side}/{self.next_serial()}"
        buffers = session.request("t.f", [tag], meta, tag)
        key = (side, session.last_id)
        assert key not in self.sent
        self.sent[key] = tag
        self.granted[key] = credit or 0
        self.items[key], self.items_heard[key], self.inputs[key], self.inputs_heard[key] = [], [], [], []
        self.put(side, buffers)

    def an_open_one(self, callee: int, which: int) -> tuple[int, int]:
        numbers = sorted(self.ends[callee].open)
        return (1 - callee, numbers[which % len(numbers)])

    @precondition(lambda self: any(end.open for end in self.ends))
    @rule(which=whichever, failing=st.booleans())
    def answer(self, which: int, failing: bool) -> None:
        callee = which % 2 if self.ends[which % 2].open else 1 - which % 2
        key = self.an_open_one(callee, which)
        error = {"code": "unknown", "message": self.sent[key]} if failing else None
        result = None if failing else self.next_serial()
        self.put(callee, self.ends[callee].answer(key[1], error, result))
        assert key not in self.results
        self.results[key] = (error, result)
        with pytest.raises(NotOutstanding):
            self.ends[callee].answer(key[1])

    @precondition(lambda self: any(end.open for end in self.ends))
    @rule(which=whichever)
    def send_item(self, which: int) -> None:
        callee = which % 2 if self.ends[which % 2].open else 1 - which % 2
        key = self.an_open_one(callee, which)
        value = self.next_serial()
        if self.ends[callee].allowance(key[1]):
            self.put(callee, self.ends[callee].item(key[1], value))
            self.items[key].append(value)
        else:
            with pytest.raises(WrongState):
                self.ends[callee].item(key[1], value)

    @precondition(lambda self: any(end.open for end in self.ends))
    @rule(which=whichever, count=st.integers(1, 3))
    def give_input_credit(self, which: int, count: int) -> None:
        callee = which % 2 if self.ends[which % 2].open else 1 - which % 2
        key = self.an_open_one(callee, which)
        buffers = self.ends[callee].give_input_credit(key[1], count)
        if buffers:
            self.input_granted[key] += count
        self.put(callee, buffers)

    @precondition(lambda self: self.sent)
    @rule(which=whichever, count=st.integers(1, 3))
    def give_credit(self, which: int, count: int) -> None:
        key = sorted(self.sent)[which % len(self.sent)]
        buffers = self.ends[key[0]].give_credit(key[1], count)
        assert not (buffers and self.answers[key])
        if buffers:
            self.granted[key] += count
        self.put(key[0], buffers)

    @precondition(lambda self: self.sent)
    @rule(which=whichever)
    def send_input(self, which: int) -> None:
        key = sorted(self.sent)[which % len(self.sent)]
        caller, value = self.ends[key[0]], self.next_serial()
        if self.answers[key]:
            assert caller.input(key[1], value) == []
        elif caller.input_allowance(key[1]):
            self.put(key[0], caller.input(key[1], value))
            self.inputs[key].append(value)
        else:
            with pytest.raises(WrongState):
                caller.input(key[1], value)

    @precondition(lambda self: self.sent)
    @rule(which=whichever)
    def end_input(self, which: int) -> None:
        key = sorted(self.sent)[which % len(self.sent)]
        self.put(key[0], self.ends[key[0]].end_input(key[1]))

    @precondition(lambda self: self.sent)
    @rule(which=whichever)
    def cancel(self, which: int) -> None:
        key = sorted(self.sent)[which % len(self.sent)]
        buffers = self.ends[key[0]].cancel(key[1])
        assert bool(buffers) == (not self.answers[key])
        self.put(key[0], buffers)

    # -- the pipe

    @precondition(lambda self: any(self.pipes))
    @rule(side=sides, count=st.integers(1, 120))
    def deliver(self, side: int, count: int) -> None:
        side = side if self.pipes[side] else 1 - side
        piece = bytes(self.pipes[side][:count])
        del self.pipes[side][:count]
        listener = self.ends[1 - side]
        listener.feed(piece)
        while (event := listener.next_event()) is not None:
            self.hear(1 - side, event)

    def hear(self, side: int, event: Event) -> None:
        ours, theirs = (side, getattr(event, "id", -1)), (1 - side, getattr(event, "id", -1))
        if isinstance(event, Request):
            assert theirs not in self.arrived
            assert event.params == [self.sent[theirs]]
            self.arrived.add(theirs)
        elif isinstance(event, Answered):
            assert self.answers[ours] == 0
            assert event.tag == self.sent[ours]
            assert (event.error, event.result) == self.results[ours]
            assert self.items_heard[ours] == self.items[ours]
            self.answers[ours] += 1
        elif isinstance(event, Item):
            assert self.answers[ours] == 0
            assert event.tag == self.sent[ours]
            self.items_heard[ours].append(event.value)
        elif isinstance(event, InputItem):
            assert theirs not in self.ended
            self.inputs_heard[theirs].append(event.value)
        elif isinstance(event, InputEnded):
            assert theirs not in self.ended
            assert self.inputs_heard[theirs] == self.inputs[theirs]
            self.ended.add(theirs)
        elif isinstance(event, (CancelAsked, CreditGiven)):
            assert event.id in self.ends[side].open
        else:
            assert isinstance(event, InputCreditGiven)
            assert event.id in self.ends[side].asked

    # -- what holds at every moment

    @invariant()
    def items_stay_within_credit(self) -> None:
        for key in self.sent:
            assert len(self.items[key]) <= self.granted[key]
            assert self.items_heard[key] == self.items[key][: len(self.items_heard[key])]
            assert len(self.inputs[key]) <= self.input_granted[key]
            assert self.inputs_heard[key] == self.inputs[key][: len(self.inputs_heard[key])]

    @invariant()
    def each_end_knows_what_is_open(self) -> None:
        for side in (0, 1):
            assert self.ends[side].phase == "ready"
            assert set(self.ends[side].asked) == {
                number for (caller, number) in self.sent if caller == side and not self.answers[caller, number]
            }
            assert self.ends[side].open == {
                number
                for (caller, number) in self.arrived
                if caller == 1 - side and (caller, number) not in self.results
            }

    def teardown(self) -> None:
        while any(self.pipes) or any(end.open for end in self.ends):
            while any(self.pipes):
                self.deliver(0, 7)
            for side in (0, 1):
                for number in list(self.ends[side].open):
                    self.put(side, self.ends[side].answer(number, None, "at last"))
                    self.results[1 - side, number] = (None, "at last")
        assert dict.fromkeys(self.sent, 1) == dict(+self.answers)
        assert self.arrived == set(self.sent)
        assert self.items_heard == self.items
        for end in self.ends:
            end.end()
            assert not end.asked
            assert not end.open


TestJoined = Joined.TestCase
TestJoined.settings = settings(max_examples=60, stateful_step_count=60)


small = st.integers(-1, 4)
notifications = st.builds(
    Notification,
    st.sampled_from(
        [
            "g",
            "$/item",
            "$/cancel",
            "$/credit",
            "$/input",
            "$/input_end",
            "$/input_credit",
            "$/log",
            "$/progress",
            "$/x",
        ]
    ),
    st.lists(st.one_of(small, st.none(), st.text(max_size=2), st.lists(small, max_size=1)), max_size=4),
    st.none(),
)
request_metas = st.fixed_dictionaries({}, optional={"credit": small | st.none(), "input": st.booleans() | small})
no_meta = st.none()
peer_messages = st.one_of(
    st.builds(Request, small, st.sampled_from(["f", "$/hello", "$/ping"]), st.just([]), no_meta | request_metas),
    st.builds(Response, small, st.none(), small, no_meta),
    st.builds(Response, small, st.just({"code": "unknown", "message": ""}), st.none(), no_meta),
    notifications,
)


@given(st.lists(peer_messages, max_size=25), st.booleans(), st.integers(1, 50), st.lists(small, max_size=3))
@settings(max_examples=200)
def test_a_peer_that_says_anything_gets_events_or_one_name(
    said: list[Any], handshake: bool, size: int, asked: list[int]
) -> None:
    session = OrchestratorSession()
    session.hello("s", 0, {})
    if handshake:
        session.feed(b"".join(Codec().encode(Response(0, None, {"protocol": 1, "features": sorted(FEATURES)}))))
        session.next_event()
        for credit in asked:
            session.request("f", [], {"credit": max(credit, 0)})
    stream = b"".join(b"".join(Codec().encode(message)) for message in said)
    credit_left = {number: max(credit, 0) for number, credit in enumerate(asked, 1)}
    answered: set[int] = set()
    fault: RemoteProtocolError | None = None
    try:
        for start in range(0, len(stream), size):
            session.feed(stream[start : start + size])
            while (event := session.next_event()) is not None:
                if isinstance(event, Answered):
                    assert event.id not in answered
                    answered.add(event.id)
                elif isinstance(event, Item):
                    assert event.id not in answered
                    credit_left[event.id] -= 1
                    assert credit_left[event.id] >= 0
    except RemoteProtocolError as error:
        fault = error
    assert (session.phase == "broken") == (fault is not None)
    if fault is not None:
        session.feed(b"".join(Codec().encode(Notification("g", []))))
        with pytest.raises(type(fault)):
            session.next_event()
