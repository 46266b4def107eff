"""Cancellation and deadlines (SPEC.md 7)."""

from __future__ import annotations

from mlports.testing.conformance.comparison import described, same
from mlports.testing.conformance.conversation import UNKNOWN_METHOD
from mlports.testing.conformance.failures import expect
from mlports.testing.conformance.rows import row
from mlports.testing.conformance.trial import Trial

_LONG = 30.0  # seconds that a handler would take if it were not cancelled
_BUSY = 0.4


@row(
    "a request whose deadline has passed is answered deadline_exceeded",
    section="7.2",
    level="standard",
    needs=("echo",),
)
def expired(trial: Trial) -> None:
    talk = trial.talk()
    talk.error(talk.request("echo", 1, meta={"deadline_ms": 0}), "deadline_exceeded")
    talk.error(talk.request("echo", 1, meta={"deadline_ms": 0.0}), "deadline_exceeded")
    talk.echoes("afterwards")


@row("a request whose deadline has passed is not begun", section="7.2", level="standard", needs=("mark", "marks"))
def expired_not_begun(trial: Trial) -> None:
    talk = trial.talk()
    talk.error(talk.request("mark", "too late", meta={"deadline_ms": 0}), "deadline_exceeded")
    kept = talk.call("marks")
    expect("too late" not in kept, "nothing kept by a handler that came too late", described(kept))


@row("a deadline that is far away changes nothing", section="7.2", level="standard", needs=("echo",))
def far_deadline(trial: Trial) -> None:
    talk = trial.talk()
    for far in (60_000, 60_000.5, 2**40):
        came = talk.call("echo", far, meta={"deadline_ms": far})
        expect(same(came, far), described(far), described(came))


@row(
    "a handler at work is cancelled, and its request answered once",
    section="7.1",
    level="full",
    needs=("sleep",),
    feature="cancel",
)
def cancelled(trial: Trial) -> None:
    talk = trial.talk()
    call = talk.request("sleep", _LONG)
    talk.until_read()
    talk.notify("$/cancel", call.id)
    talk.error(call, "cancelled")
    talk.expect_probe(talk.probe(trial.has("echo")))


@row(
    "a request that is cancelled while it waits is answered, and then not begun",
    section="7.1",
    level="full",
    needs=("sleep", "mark", "marks"),
    feature="cancel",
)
def cancelled_while_waiting(trial: Trial) -> None:
    talk = trial.talk()
    busy = [talk.request("sleep", _BUSY) for _ in range(min(trial.claims.concurrency, 64))]
    waiting = talk.request("mark", "never to be kept")
    talk.notify("$/cancel", waiting.id)
    begun = talk.answer(waiting).error is None
    if not begun:
        talk.error(waiting, "cancelled")
    for call in busy:
        talk.result(call)
    kept = "never to be kept" in talk.call("marks")
    expect(begun or not kept, "nothing kept by a request that was cancelled", "'never to be kept'")


@row("$/cancel of what is not open is ignored", section="7.1", level="full", feature="cancel")
def cancelled_too_late(trial: Trial) -> None:
    talk = trial.talk()
    call = talk.request(UNKNOWN_METHOD)
    talk.answer(call)
    talk.notify("$/cancel", call.id)
    talk.notify("$/cancel", 2**53 - 1)
    talk.expect_probe(talk.probe(trial.has("echo")))


@row(
    "a request that another was cancelled before is answered as usual",
    section="7.1",
    level="full",
    needs=("sleep", "echo"),
    feature="cancel",
)
def cancelled_among_others(trial: Trial) -> None:
    talk = trial.talk()
    calls = [talk.request("sleep", _LONG), talk.request("echo", "behind it")]
    talk.notify("$/cancel", calls[0].id)
    talk.error(calls[0], "cancelled")
    came = talk.result(calls[1])
    expect(came == "behind it", "'behind it'", described(came))
