"""Requests of the worker's own; the kit plays the orchestrator that routes them (SPEC.md 6.6)."""

from __future__ import annotations

from mlports.testing.conformance.comparison import described, same
from mlports.testing.conformance.conversation import Call, Conversation
from mlports.testing.conformance.failures import expect
from mlports.testing.conformance.rows import row
from mlports.testing.conformance.trial import Trial
from mlports_protocol import Request


def _relayed(talk: Conversation, target: str, params: list[object]) -> tuple[Call, Request]:
    """Has the worker call `target`; gives the kit's request and the worker's."""
    talk.holds_requests = True
    call = talk.request("relay", target, params)
    talk.wait(lambda: bool(talk.requests) or call.response is not None, f"a request for {target} by the worker")
    expect(
        bool(talk.requests),
        f"a request for {target} by the worker",
        f"an answer to {call} without one: {call.response}",
    )
    asked = talk.requests.popleft()
    expect(asked.method == target, f"a request for {target}", described(asked.method))
    expect(same(asked.params, params), f"params {described(params)}", described(asked.params))
    parent = (asked.meta or {}).get("parent")
    expect(parent is None or parent == call.id, f"meta parent {call.id}, or none", described(parent))
    return call, asked


@row("calls another service, and gets its result", section="6.6", level="full", needs=("relay",))
def calls_a_service(trial: Trial) -> None:
    talk = trial.talk()
    for result in (3, {"x": [1.5, None]}, None):
        call, asked = _relayed(talk, "neighbour.add", [1, {"two": 2.5}])
        talk.answer_worker(asked, result)
        came = talk.result(call)
        expect(same(came, result), described(result), described(came))


@row("a call to another service that fails is told with its code", section="6.6", level="full", needs=("relay",))
def call_that_fails(trial: Trial) -> None:
    talk = trial.talk()
    for code in ("not_found", "unavailable", "invalid_argument"):
        call, asked = _relayed(talk, "neighbour.add", [])
        talk.answer_worker(asked, error={"code": code, "message": "there is no neighbour"})
        error = talk.error(call, code)
        expect(
            "there is no neighbour" in error["message"],
            "the message 'there is no neighbour'",
            described(error["message"]),
        )


@row("the same id may be open in both directions", section="6.2", level="full", needs=("relay", "echo"))
def same_id_both_ways(trial: Trial) -> None:
    talk = trial.talk()
    call, asked = _relayed(talk, "neighbour.add", [])
    other = (
        talk.request("echo", "the same id") if asked.id == call.id else talk.request("echo", "the same id", id=asked.id)
    )
    talk.answer_worker(asked, "answered")
    came = talk.result(call)
    expect(came == "answered", "'answered'", described(came))
    came = talk.result(other)
    expect(came == "the same id", "'the same id'", described(came))


@row("an answer with an unknown code and more keys is taken", section="4.4", level="full", needs=("relay",))
def odd_error(trial: Trial) -> None:
    talk = trial.talk()
    call, asked = _relayed(talk, "neighbour.add", [])
    talk.answer_worker(asked, error={"code": "tired", "message": "later", "colour": "red", "retryable": True})
    talk.error(call)
    talk.expect_probe(talk.probe(trial.has("echo")))


@row(
    "a call that waits for another service is answered once it is cancelled",
    section="7.1",
    level="full",
    needs=("relay",),
    feature="cancel",
)
def cancelled_relay(trial: Trial) -> None:
    talk = trial.talk()
    call, asked = _relayed(talk, "neighbour.add", [])
    talk.notify("$/cancel", call.id)
    # It may wait for its own call all the same, so that this is answered too.
    talk.quiet(0.05)
    talk.answer_worker(asked, 1)
    talk.answer(call)
    talk.expect_probe(talk.probe(trial.has("echo")))


@row(
    "its input ends while it waits for another service: it ends with status 0",
    section="11.2",
    level="full",
    needs=("relay",),
)
def end_while_calling(trial: Trial) -> None:
    talk = trial.start()
    _relayed(talk, "neighbour.add", [])
    talk.close_input()
    talk.ends_normally("the end of its input within a call of its own")
