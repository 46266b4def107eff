"""Batches (SPEC.md 9)."""

from __future__ import annotations

from typing import Any

import msgpack

from mlports.testing.conformance.comparison import described, same
from mlports.testing.conformance.conversation import UNKNOWN_METHOD, Call, Conversation
from mlports.testing.conformance.failures import Failed, expect
from mlports.testing.conformance.rows import row
from mlports.testing.conformance.trial import Trial
from mlports_protocol import InvalidMessage
from mlports_protocol.messages import parse_error


def _batch(talk: Conversation, method: str, items: list[list[Any]], **meta: Any) -> Call:
    return talk.request(method, *items, meta={"batch": len(items), **meta})


def _pairs(talk: Conversation, call: Call, count: int) -> list[tuple[dict[str, Any] | None, Any]]:
    """The outcomes of a batch, which must be right pairs and so many."""
    came = talk.result(call)
    if not isinstance(came, list) or len(came) != count:
        length = f"{len(came)} of them: " if isinstance(came, list) else ""
        raise Failed(f"{count} pairs [error, result] for {call}", f"{length}{described(came)}")
    found: list[tuple[dict[str, Any] | None, Any]] = []
    for pair in came:
        if not isinstance(pair, list) or len(pair) != 2:
            raise Failed("pairs [error, result]", described(pair))
        try:
            found.append((None if pair[0] is None else parse_error(pair[0]), pair[1]))
        except InvalidMessage as error:
            raise Failed("an item's error as in SPEC.md 4.4", str(error)) from None
    return found


def _results(talk: Conversation, call: Call, expected: list[Any]) -> None:
    for (error, result), wanted in zip(_pairs(talk, call, len(expected)), expected, strict=True):
        expect(error is None and same(result, wanted), f"[nil, {described(wanted)}]", f"[{error}, {described(result)}]")


@row("a batch of a method that takes batches", section="9", level="full", needs=("root",), feature="batch")
def batch_of_batch_method(trial: Trial) -> None:
    talk = trial.talk()
    _results(talk, _batch(talk, "root", [[0.25], [2.25], [1e10]]), [0.5, 1.5, 1e5])
    _results(talk, _batch(talk, "root", [[6.25]]), [2.5])
    many = [(number + 0.5) ** 2 for number in range(128)]
    _results(talk, _batch(talk, "root", [[number] for number in many]), [number + 0.5 for number in range(128)])


@row("a method that takes batches is called for one item too", section="9", level="full", needs=("root",))
def batch_method_alone(trial: Trial) -> None:
    talk = trial.talk()
    came = talk.call("root", 6.25)
    expect(same(came, 2.5), "2.5 (float)", described(came))
    talk.error(talk.request("root", -1.0), "invalid_argument")


@row("one bad item of a batch fails alone", section="9", level="full", needs=("root",), feature="batch")
def bad_item(trial: Trial) -> None:
    talk = trial.talk()
    pairs = _pairs(talk, _batch(talk, "root", [[0.25], [-1.0], [6.25]]), 3)
    for index, wanted in ((0, 0.5), (2, 2.5)):
        error, result = pairs[index]
        expect(
            error is None and same(result, wanted),
            f"[nil, {wanted}] for item {index}",
            f"[{error}, {described(result)}]",
        )
    error, result = pairs[1]
    code = error["code"] if error is not None else f"no error, but {described(result)}"
    expect(code == "invalid_argument" and result is None, "[{code: invalid_argument, …}, nil] for item 1", str(code))


@row("a batch of any other method is as many calls", section="9", level="full", needs=("echo",), feature="batch")
def batch_of_plain_method(trial: Trial) -> None:
    talk = trial.talk()
    _results(talk, _batch(talk, "echo", [["a"], [None], [[1, 2.5]]]), ["a", None, [1, 2.5]])
    if trial.has("add"):
        pairs = _pairs(talk, _batch(talk, "add", [[1, 2], [1], [3, 4]]), 3)
        expect(
            [result for _, result in pairs] == [3, None, 7],
            "results 3, nil and 7",
            described([one for _, one in pairs]),
        )
        expect(pairs[1][0] is not None, "an error for add with one argument", "none")


@row("what a handler raises for one item fails that item", section="9", level="full", needs=("fail",), feature="batch")
def raised_in_batch(trial: Trial) -> None:
    talk = trial.talk()
    pairs = _pairs(talk, _batch(talk, "fail", [["first"], ["second"]]), 2)
    for (error, _), text in zip(pairs, ("first", "second"), strict=True):
        fine = error is not None and error["code"] == "unknown" and text in error["message"]
        expect(fine, f"code unknown and a message with {text!r}", str(error))


@row(
    "a batch whose n and params do not agree is invalid_argument",
    section="9",
    level="full",
    needs=("echo",),
    feature="batch",
)
def batch_of_wrong_length(trial: Trial) -> None:
    talk = trial.talk()
    for count in (1, 3):
        talk.error(talk.request("echo", [1], [2], meta={"batch": count}), "invalid_argument")
    talk.echoes("afterwards")


@row("a batch with credit or input is invalid_argument", section="9", level="full", needs=("echo",), feature="batch")
def batch_with_streams(trial: Trial) -> None:
    talk = trial.talk()
    if trial.claims_feature("stream"):
        talk.error(_batch(talk, "echo", [[1], [2]], credit=5), "invalid_argument")
    if trial.claims_feature("input"):
        talk.error(_batch(talk, "echo", [[1], [2]], input=True), "invalid_argument")
    talk.echoes("afterwards")


@row(
    "a batch of an unknown method, or too late, fails as a whole",
    section="9",
    level="full",
    needs=("echo",),
    feature="batch",
)
def batch_that_fails(trial: Trial) -> None:
    talk = trial.talk()
    talk.error(_batch(talk, UNKNOWN_METHOD, [[1], [2]]), "unimplemented")
    talk.error(_batch(talk, "echo", [[1], [2]], deadline_ms=0), "deadline_exceeded")


@row("a batch as columns gives the same", section="9", level="full", needs=("root",), feature="columns", optional=True)
def columns(trial: Trial) -> None:
    talk = trial.talk()
    meta = {"batch": 3, "columns": True}
    _results(talk, talk.request("root", [0.25, 2.25, 6.25], meta=meta), [0.5, 1.5, 2.5])
    numbers = msgpack.ExtType(
        1, bytes.fromhex("92a33c66389103") + bytes(8) + bytes.fromhex("000000000000d03f000000000000f03f")
    )
    if trial.claims_feature("ndarray"):
        _results(talk, talk.request("root", numbers, meta=meta), [0.0, 0.5, 1.0])
