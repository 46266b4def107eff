"""Streamed answers, and progress (SPEC.md 8.1, 8.3, 10.3)."""

from __future__ import annotations

from mlports.testing.conformance.comparison import described, same
from mlports.testing.conformance.conversation import Call, Conversation
from mlports.testing.conformance.failures import Failed, expect
from mlports.testing.conformance.rows import row
from mlports.testing.conformance.trial import Trial

_QUIET = 0.05  # seconds in which an item that no credit allows would have come
_MANY = 1_000_000  # items, which a worker may make all at once before it gives the first


def _items(talk: Conversation, call: Call, count: int) -> None:
    talk.wait(lambda: len(call.items) >= count or call.response is not None, f"{count} items of {call}")
    expect(same(call.items, list(range(len(call.items)))), "items 0, 1, 2, … in order", described(call.items))
    if len(call.items) < count:
        raise Failed(f"{count} items of {call} before its answer", f"{len(call.items)}")


@row(
    "a stream gives its items within credit, and waits for more",
    section="8.1",
    level="full",
    needs=("count",),
    feature="stream",
)
def stream_within_credit(trial: Trial) -> None:
    talk = trial.talk()
    call = talk.request("count", 7, meta={"credit": 2})
    _items(talk, call, 2)
    talk.quiet(_QUIET)
    expect(call.response is None, "no answer while items wait for credit", str(call.response))
    talk.give_credit(call, 1)
    _items(talk, call, 3)
    talk.quiet(_QUIET)
    talk.give_credit(call, 10)
    came = talk.result(call)
    _items(talk, call, 7)
    expect(came is None, "nil behind the last item", described(came))
    talk.give_credit(call, 5)
    talk.expect_probe(talk.probe(trial.has("echo")))


@row("a stream without credit at first waits for it", section="8.1", level="full", needs=("count",), feature="stream")
def stream_without_credit_at_first(trial: Trial) -> None:
    talk = trial.talk()
    call = talk.request("count", 3, meta={"credit": 0})
    talk.quiet(_QUIET)
    talk.give_credit(call, 3)
    talk.result(call)
    _items(talk, call, 3)


@row("a stream of no items is answered at once", section="8.1", level="full", needs=("count",), feature="stream")
def empty_stream(trial: Trial) -> None:
    talk = trial.talk()
    call = talk.request("count", 0, meta={"credit": 0})
    talk.result(call)
    expect(not call.items, "no items", described(call.items))


@row(
    "a stream of 5000 items, its credit renewed all the time",
    section="8.1",
    level="full",
    needs=("count",),
    feature="stream",
)
def long_stream(trial: Trial) -> None:
    talk = trial.talk()
    call = talk.request("count", 5000, meta={"credit": 100})
    for had in range(50, 5000, 50):
        _items(talk, call, had)
        talk.give_credit(call, 50)
    talk.result(call)
    _items(talk, call, 5000)


@row(
    "a stream is cancelled, and gives no item behind its answer",
    section="8.3",
    level="full",
    needs=("count",),
    feature="stream",
)
def cancelled_stream(trial: Trial) -> None:
    trial.need_feature("cancel")
    talk = trial.talk()
    call = talk.request("count", _MANY, meta={"credit": 10})
    _items(talk, call, 10)
    talk.notify("$/cancel", call.id)
    talk.error(call, "cancelled")
    talk.give_credit(call, 1000)
    talk.expect_probe(talk.probe(trial.has("echo")))
    talk.quiet(_QUIET)


@row(
    "a stream's method, called without credit, gives an array or invalid_argument",
    section="8.1",
    level="full",
    needs=("count",),
    feature="stream",
)
def stream_as_array(trial: Trial) -> None:
    talk = trial.talk()
    call = talk.request("count", 4)
    if talk.answer(call).error is not None:
        talk.error(call, "invalid_argument")
        return
    came = talk.result(call)
    expect(same(came, [0, 1, 2, 3]), "[0, 1, 2, 3]", described(came))


@row(
    "a method without a stream, called with credit, just answers",
    section="8.1",
    level="full",
    needs=("echo",),
    feature="stream",
)
def credit_for_no_stream(trial: Trial) -> None:
    talk = trial.talk()
    call = talk.request("echo", [1, 2], meta={"credit": 10})
    came = talk.result(call)
    expect(
        same(came, [1, 2]) and not call.items,
        "the result [1, 2], and no item",
        f"{described(came)}, {len(call.items)} items",
    )


@row(
    "$/ping is answered while a stream waits for credit",
    section="10.1",
    level="full",
    needs=("count",),
    feature="stream",
)
def ping_during_stream(trial: Trial) -> None:
    trial.need_feature("ping")
    talk = trial.talk()
    call = talk.request("count", 2, meta={"credit": 1})
    _items(talk, call, 1)
    talk.result(talk.request("$/ping"))
    talk.give_credit(call, 1)
    talk.result(call)


@row("progress is told while the handler is at work", section="10.3", level="full", needs=("advance",))
def progress(trial: Trial) -> None:
    talk = trial.talk()
    call = talk.request("advance", 5)
    came = talk.result(call)
    expect(same(came, 5), "5", described(came))
    told = [[float(number) for number in said[1:3]] for said in call.progress if _numbers(said[1:3])]
    expect(
        told == [[float(done), 5.0] for done in range(1, 6)],
        "$/progress 1 … 5 of 5 before the answer",
        str(call.progress),
    )


def _numbers(values: list[object]) -> bool:
    return len(values) == 2 and all(type(value) in (int, float) for value in values)
