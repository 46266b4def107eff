"""The three messages, and what in them is to be ignored (SPEC.md 4)."""

from __future__ import annotations

from typing import Any

from mlports.testing.conformance.comparison import described
from mlports.testing.conformance.conversation import UNKNOWN_METHOD, Conversation
from mlports.testing.conformance.failures import NotTried, expect
from mlports.testing.conformance.rows import row
from mlports.testing.conformance.trial import Trial
from mlports.testing.conformance.wire import packed
from mlports_protocol import MAX_ID

_QUIET = 0.05  # seconds in which what must not come would have come


def _ask(trial: Trial, talk: Conversation, behind: list[Any], id: int | None = None) -> None:
    """A request with other elements behind its params."""
    method = "echo" if trial.has("echo") else UNKNOWN_METHOD
    call = talk.new_call(method, id=id)
    message = [0, call.id, method, [f"probe {call.id}"], *behind]
    talk.send_bytes(packed(message), repr(message))
    talk.expect_probe(call)


@row("answers with the request's id, whatever it is", section="4.1", level="bare")
def ids(trial: Trial) -> None:
    talk = trial.talk()
    for number in (0, 1, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32, MAX_ID):
        _ask(trial, talk, [], id=number)
        talk.forget_answered()


@row("reads ids and message types in longer forms", section="3.1", level="bare")
def longer_ids(trial: Trial) -> None:
    talk = trial.talk()
    method = ("echo" if trial.has("echo") else UNKNOWN_METHOD).encode()
    call = talk.new_call(method.decode(), id=7)
    text = b"probe 7"
    payload = (
        bytes([0xDC, 0, 4, 0xCC, 0, 0xCF, 0, 0, 0, 0, 0, 0, 0, 7, 0xD9, len(method)])
        + method
        + bytes([0xDD, 0, 0, 0, 1, 0xDA, 0, len(text)])
        + text
    )
    talk.send_bytes(
        len(payload).to_bytes(4, "big") + payload, f"[0, 7, {method.decode()!r}, ['probe 7']], in long forms"
    )
    talk.expect_probe(call)


@row("answers each of 500 requests sent at once, exactly once", section="6.3", level="bare")
def pipelined(trial: Trial) -> None:
    talk = trial.talk()
    calls = [talk.probe(trial.has("echo")) for _ in range(500)]
    for call in calls:
        talk.expect_probe(call)
    talk.quiet(_QUIET)


@row("ignores elements behind those it knows", section="4.5", level="bare")
def more_elements(trial: Trial) -> None:
    _ask(trial, trial.talk(), [{}, "more", [7]])


@row("takes meta that is absent, nil or empty alike", section="4.5", level="bare")
def empty_meta(trial: Trial) -> None:
    talk = trial.talk()
    nothing: list[list[Any]] = [[], [None], [{}]]
    for behind in nothing:
        _ask(trial, talk, behind)


@row("ignores keys of meta that it does not know", section="4.5", level="bare")
def unknown_meta(trial: Trial) -> None:
    _ask(trial, trial.talk(), [{"colour": "red", "x": [1, {"y": None}]}])


@row("ignores notifications, and answers none", section="4.3", level="bare")
def notifications_unanswered(trial: Trial) -> None:
    talk = trial.talk()
    talk.notify(UNKNOWN_METHOD, 1)
    if trial.bare:
        message = [1, 77, None, "an answer to nothing"]
        talk.send_bytes(packed(message), repr(message))
    if trial.has("fail"):
        talk.notify("fail", "in a cast")
    talk.expect_probe(talk.probe(trial.has("echo")))
    talk.quiet(_QUIET)


@row("a method that is not there is answered with an error", section="6.4", level="bare")
def error_for_unknown_method(trial: Trial) -> None:
    talk = trial.talk()
    talk.error(talk.request(UNKNOWN_METHOD))
    talk.error(talk.request(UNKNOWN_METHOD, 1, "two", [3.0]))


@row("a handler that fails is answered with an error, the next one with its result", section="4.4", level="bare")
def error_of_handler(trial: Trial) -> None:
    talk = trial.talk()
    if trial.has("fail"):
        said = talk.error(talk.request("fail", "it went wrong"))["message"]
        expect("it went wrong" in said, "an error whose message says 'it went wrong'", described(said))
    elif trial.has("add"):
        talk.answer(talk.request("add", [], {}))
    else:
        raise NotTried("has no method fail", missing=True)
    talk.expect_probe(talk.probe(trial.has("echo")))


@row("strings that came as bin are taken for strings", section="3.4", level="standard", needs=("echo",))
def names_in_bin(trial: Trial) -> None:
    talk = trial.talk()
    call = talk.new_call("echo")
    message = [0, call.id, b"echo", [f"probe {call.id}"], {b"deadline_ms": 60_000}]
    talk.send_bytes(packed(message), repr(message))
    talk.expect_probe(call)
