"""Streamed arguments (SPEC.md 8.2)."""

from __future__ import annotations

from collections.abc import Iterator

from mlports.testing.conformance.comparison import described
from mlports.testing.conformance.conversation import Call, Conversation
from mlports.testing.conformance.failures import expect
from mlports.testing.conformance.rows import row
from mlports.testing.conformance.trial import Trial

_BUSY = 0.4  # seconds that a handler is kept at work


def _give(talk: Conversation, call: Call, items: Iterator[int]) -> None:
    """Gives the items as credit for them comes, then the end."""
    for given, item in enumerate(items):
        _wait_for_credit(talk, call, given)
        if call.response is not None:
            return
        talk.notify("$/input", call.id, item)
    talk.notify("$/input_end", call.id)


def _wait_for_credit(talk: Conversation, call: Call, given: int) -> None:
    talk.wait(lambda: call.input_credit > given or call.response is not None, f"$/input_credit for {call}")


def _total(talk: Conversation, count: int) -> None:
    call = talk.request("total", meta={"input": True})
    _give(talk, call, iter(range(count)))
    came = talk.result(call)
    expect(came == sum(range(count)), f"{sum(range(count))}, the sum of 0 … {count - 1}", described(came))


@row("a streamed argument is taken item by item", section="8.2", level="full", needs=("total",), feature="input")
def streamed_argument(trial: Trial) -> None:
    _total(trial.talk(), 5)


@row(
    "a streamed argument of 2000 items, its credit renewed by the worker",
    section="8.2",
    level="full",
    needs=("total",),
    feature="input",
)
def long_argument(trial: Trial) -> None:
    _total(trial.talk(), 2000)


@row("a streamed argument without items", section="8.2", level="full", needs=("total",), feature="input")
def empty_argument(trial: Trial) -> None:
    talk = trial.talk()
    call = talk.request("total", meta={"input": True})
    talk.notify("$/input_end", call.id)
    came = talk.result(call)
    expect(came == 0, "0, the sum of nothing", described(came))


@row(
    "a method with a streamed argument, called without one, is invalid_argument",
    section="8.2",
    level="full",
    needs=("total",),
    feature="input",
)
def argument_missing(trial: Trial) -> None:
    talk = trial.talk()
    talk.error(talk.request("total"), "invalid_argument")
    talk.expect_probe(talk.probe(trial.has("echo")))


@row(
    "a method without a streamed argument, called with one, is invalid_argument",
    section="8.2",
    level="full",
    needs=("echo",),
    feature="input",
)
def argument_not_wanted(trial: Trial) -> None:
    talk = trial.talk()
    call = talk.request("echo", 1, meta={"input": True})
    talk.error(call, "invalid_argument")
    talk.notify("$/input_end", call.id)
    talk.expect_probe(talk.probe(trial.has("echo")))


@row(
    "a call that waits for its streamed argument is cancelled",
    section="8.3",
    level="full",
    needs=("total",),
    feature="input",
)
def argument_cancelled(trial: Trial) -> None:
    trial.need_feature("cancel")
    talk = trial.talk()
    call = talk.request("total", meta={"input": True})
    talk.wait(lambda: call.input_credit > 0, f"$/input_credit for {call}")
    talk.notify("$/input", call.id, 1)
    talk.notify("$/cancel", call.id)
    talk.error(call, "cancelled")
    talk.notify("$/input_end", call.id)
    talk.expect_probe(talk.probe(trial.has("echo")))


@row(
    "an item for a request without a streamed argument ends it",
    section="8.2",
    level="full",
    needs=("sleep",),
    feature="input",
)
def item_without_input(trial: Trial) -> None:
    trial.need_feature("ping")  # others do not read while a handler is at work, and then it is not open any more
    talk = trial.start()
    call = talk.request("sleep", _BUSY)
    talk.notify("$/input", call.id, 1)
    talk.ends_abnormally("$/input for an open request without input (CreditExceeded)")


@row("items for a request that is not open are ignored", section="8.2", level="full", feature="input")
def items_too_late(trial: Trial) -> None:
    talk = trial.talk()
    call = talk.probe(trial.has("echo"))
    talk.expect_probe(call)
    talk.notify("$/input", call.id, 1)
    talk.notify("$/input_end", call.id)
    talk.expect_probe(talk.probe(trial.has("echo")))


@row(
    "its input ends within a streamed argument: it ends with status 0",
    section="8.3",
    level="full",
    needs=("total",),
    feature="input",
)
def end_within_argument(trial: Trial) -> None:
    talk = trial.start()
    call = talk.request("total", meta={"input": True})
    talk.wait(lambda: call.input_credit > 0, f"$/input_credit for {call}")
    talk.close_input()
    talk.ends_normally("the end of its input within a streamed argument")
    if call.response is not None:
        talk.error(call, "unavailable")
