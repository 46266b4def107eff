"""Streams in both directions at once, between two real sessions, in any order of what can happen."""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from mlports_protocol import (
    FEATURES,
    Answered,
    Buffer,
    CancelAsked,
    CreditGiven,
    CreditWindow,
    Event,
    HelloAsked,
    InputCreditGiven,
    InputEnded,
    InputItem,
    Item,
    OrchestratorSession,
    Request,
    Session,
    WorkerSession,
)

MOST_BYTES = 8 * 2**20
PIECE = 20_000

sizes = st.lists(st.sampled_from([0, 1, 100, PIECE, 2 * PIECE]), max_size=60)


class Reader:
    """One end of a stream: what came and waits, and what was taken. `scale` stands for items that many times larger."""

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self.window = CreditWindow()
        self.waiting: deque[tuple[int, int]] = deque()
        self.taken: list[int] = []
        self.largest = 0
        self.most_waiting = 0

    def add(self, value: bytes, size: int) -> None:
        size *= self.scale
        self.waiting.append((len(value), size))
        self.window.arrived(size)
        self.largest = max(self.largest, size)
        self.most_waiting = max(self.most_waiting, sum(size for _, size in self.waiting))
        assert self.window.coming >= 0
        assert len(self.waiting) + self.window.coming <= 32

    def take(self) -> None:
        if self.waiting:
            value, size = self.waiting.popleft()
            self.window.taken(size)
            self.taken.append(value)


class Echo:
    """A call whose worker gives back each item of its streamed argument, one step of either side at a time."""

    def __init__(self, items: list[int], scale: int) -> None:
        self.orchestrator, self.worker = OrchestratorSession(), WorkerSession()
        self.pipes: dict[Session, bytearray] = {self.orchestrator: bytearray(), self.worker: bytearray()}
        self.say(self.orchestrator, self.orchestrator.hello("s", 0, {}))
        self.deliver(self.orchestrator)
        self.deliver(self.worker)
        self.given = deque(items)
        self.answers, self.inputs = Reader(scale), Reader(scale)
        self.echoing: int | None = None
        self.input_ended = self.cancelled = self.answered = False
        meta = {"credit": self.answers.window.grant(), "input": True}
        self.say(self.orchestrator, self.orchestrator.request("echo", [], meta))
        self.number = self.orchestrator.last_id

    def say(self, end: Session, buffers: list[Buffer]) -> None:
        for buffer in buffers:
            self.pipes[end] += buffer

    def deliver(self, sender: Session, count: int | None = None) -> None:
        piece = bytes(self.pipes[sender][:count])
        del self.pipes[sender][: len(piece)]
        listener = self.worker if sender is self.orchestrator else self.orchestrator
        listener.feed(piece)
        while (event := listener.next_event()) is not None:
            self.hear(event, listener.frame_size)

    def hear(self, event: Event, size: int) -> None:
        if isinstance(event, HelloAsked):
            told: dict[str, Any] = {"name": "", "language": "", "sdk": "", "methods": {}, "features": FEATURES}
            self.say(self.worker, self.worker.answer_hello(event, **told))
        elif isinstance(event, Item):
            self.answers.add(event.value, size)
            self.let_answers_come()
        elif isinstance(event, InputItem):
            self.inputs.add(event.value, size)
        elif isinstance(event, InputEnded):
            self.input_ended = True
        elif isinstance(event, CancelAsked):
            self.answer({"code": "cancelled", "message": ""})
        elif isinstance(event, Answered):
            self.answered = True
        elif isinstance(event, Request):
            self.let_input_come()
        else:
            assert isinstance(event, (CreditGiven, InputCreditGiven)) or type(event).__name__ == "Greeted"

    def answer(self, error: dict[str, Any] | None) -> None:
        if self.number in self.worker.open:
            self.say(self.worker, self.worker.answer(self.number, error))

    def let_answers_come(self) -> None:
        if more := self.answers.window.grant():
            self.say(self.orchestrator, self.orchestrator.give_credit(self.number, more))

    def let_input_come(self) -> None:
        if not self.input_ended and (more := self.inputs.window.grant()):
            self.say(self.worker, self.worker.give_input_credit(self.number, more))

    # -- what can happen

    def give(self) -> None:
        """The caller gives an item, or ends its argument."""
        if self.given and self.orchestrator.input_allowance(self.number):
            self.say(self.orchestrator, self.orchestrator.input(self.number, bytes(self.given.popleft())))
        elif not self.given:
            self.say(self.orchestrator, self.orchestrator.end_input(self.number))

    def work(self) -> None:
        """The handler takes an item, or gives it back, or is done."""
        if self.number not in self.worker.open:
            return
        if self.echoing is not None:
            if self.worker.allowance(self.number):
                self.say(self.worker, self.worker.item(self.number, bytes(self.echoing)))
                self.echoing = None
        elif self.inputs.waiting:
            self.inputs.take()
            self.echoing = self.inputs.taken[-1]
            self.let_input_come()
        elif self.input_ended:
            self.answer(None)

    def read(self) -> None:
        """The caller reads an item."""
        self.answers.take()
        self.let_answers_come()

    def cancel(self) -> None:
        self.cancelled = True
        self.say(self.orchestrator, self.orchestrator.cancel(self.number))

    def step(self, choice: int) -> None:
        kind, amount = choice % 8, choice // 8
        if kind in (0, 1):
            self.deliver(self.orchestrator if kind else self.worker, 1 + amount)
        elif kind in (2, 3):
            self.deliver(self.orchestrator if kind == 2 else self.worker)
        else:
            (self.give, self.work, self.read, self.work)[kind - 4]()


@settings(max_examples=50)
@given(
    sizes,
    st.sampled_from([1, 300, 1000]),
    st.lists(st.integers(0, 2**12), max_size=150),
    st.none() | st.integers(0, 150),
    st.randoms(use_true_random=False),
)
def test_items_go_through_in_order_within_bounds_or_end_by_a_cancel(
    items: list[int], scale: int, steps: list[int], cancel_at: int | None, chance: Any
) -> None:
    echo = Echo(items, scale)
    for number, choice in enumerate(steps):
        if number == cancel_at:
            echo.cancel()
        echo.step(choice)
    # From here on everything happens again and again: it comes to an end.
    for _ in range(20 * len(items) + 50):
        happenings = [2, 3, 4, 5, 6]
        chance.shuffle(happenings)
        for kind in happenings:
            echo.step(kind)
    assert echo.answered
    while echo.answers.waiting:
        echo.read()
    if echo.cancelled:
        assert echo.answers.taken == items[: len(echo.answers.taken)]
    else:
        assert echo.answers.taken == items
    for reader in (echo.answers, echo.inputs):
        # What was let come when the items seemed to be small may be larger than expected, but there are never more.
        if len({size for size in items if size}) <= 1:
            assert reader.most_waiting <= max(MOST_BYTES + reader.largest, 2 * reader.largest)
        assert reader.most_waiting <= 32 * reader.largest
