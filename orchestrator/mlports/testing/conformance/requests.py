"""Requests, errors, casts and pings (SPEC.md 4.4, 6, 10.1), and standard output (1.6)."""

from __future__ import annotations

from mlports.testing.conformance.comparison import described, same
from mlports.testing.conformance.conversation import UNKNOWN_METHOD
from mlports.testing.conformance.failures import Failed, expect
from mlports.testing.conformance.rows import row
from mlports.testing.conformance.trial import Trial
from mlports_protocol import CODES

_BUSY = 0.4  # seconds that a handler is kept at work
_QUIET = 0.05


@row("an unknown method is answered unimplemented", section="6.4", level="standard")
def unknown_method(trial: Trial) -> None:
    talk = trial.talk()
    talk.error(talk.request(UNKNOWN_METHOD), "unimplemented")
    if trial.has("echo"):
        talk.error(talk.request("Echo", 1), "unimplemented")


@row("an unknown $/ request is answered unimplemented", section="4.5", level="standard")
def unknown_protocol_request(trial: Trial) -> None:
    talk = trial.talk()
    talk.error(talk.request("$/of_version_9", 1), "unimplemented")


@row("an unknown $/ notification is ignored", section="4.5", level="standard")
def unknown_protocol_notification(trial: Trial) -> None:
    talk = trial.talk()
    talk.notify("$/of_version_9", 1, {"a": []})
    talk.expect_probe(talk.probe(trial.has("echo")))
    talk.quiet(_QUIET)


@row(
    "what a handler raises has the code unknown, and one line for its message",
    section="4.4",
    level="standard",
    needs=("fail",),
)
def raised(trial: Trial) -> None:
    talk = trial.talk()
    error = talk.error(talk.request("fail", "a fault"), "unknown")
    expect("\n" not in error["message"], "a message of one line", described(error["message"]))
    data = error.get("data")
    if isinstance(data, dict):
        fine = all(isinstance(data.get(key), str) for key in ("type", "traceback") if key in data)
        expect(fine, "data {type: string, traceback: string}", described(data))


@row("a handler chooses its error's code", section="4.4", level="standard", needs=("refuse",))
def refused(trial: Trial) -> None:
    talk = trial.talk()
    for code in sorted(CODES):
        error = talk.error(talk.request("refuse", code, f"because of {code}"), code)
        expect(
            f"because of {code}" in error["message"], f"the message 'because of {code}'", described(error["message"])
        )


@row("arguments that do not fit are an error of that call alone", section="6.1", level="standard", needs=("add",))
def wrong_arguments(trial: Trial) -> None:
    talk = trial.talk()
    talk.error(talk.request("add", 1))
    talk.error(talk.request("add", [], {}))
    came = talk.call("add", 1, 2)
    expect(same(came, 3), "3 for 1 + 2 afterwards", described(came))


@row("an id that was answered may be used again", section="6.2", level="standard")
def id_again(trial: Trial) -> None:
    talk = trial.talk()
    for _ in range(3):
        call = talk.request(UNKNOWN_METHOD, id=5)
        talk.error(call)
        talk.forget_answered()


@row("traceparent and idempotency_key do not hurt", section="7.3", level="standard")
def other_meta(trial: Trial) -> None:
    talk = trial.talk()
    meta = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "idempotency_key": "a key"}
    call = talk.request("echo" if trial.has("echo") else UNKNOWN_METHOD, 1, meta=meta)
    talk.answer(call)


@row(
    "a cast runs its handler, in its turn, and is not answered",
    section="6.5",
    level="standard",
    needs=("mark", "marks"),
)
def casts(trial: Trial) -> None:
    talk = trial.talk()
    before = talk.call("marks")
    expect(isinstance(before, list), "an array of what was kept", described(before))
    talk.notify("mark", "first")
    talk.notify("mark", "second", meta={"idempotency_key": "x"})
    after = talk.call("marks")
    expect(same(after, [*before, "first", "second"]), "'first' and 'second' kept, in this order", described(after))
    talk.quiet(_QUIET)


@row("a cast that fails, or that no method is for, is not answered", section="6.5", level="standard")
def failing_casts(trial: Trial) -> None:
    talk = trial.talk()
    talk.notify(UNKNOWN_METHOD)
    if trial.has("fail"):
        talk.notify("fail", "in a cast")
    if trial.has("add"):
        talk.notify("add", 1)
    talk.expect_probe(talk.probe(trial.has("echo")))
    talk.quiet(_QUIET)


@row("$/ping is answered nil", section="10.1", level="standard")
def ping(trial: Trial) -> None:
    talk = trial.talk()
    call = talk.request("$/ping")
    if trial.claims_feature("ping"):
        came = talk.result(call)
        expect(came is None, "nil for $/ping", described(came))
        return
    response = talk.answer(call)
    fine = response.result is None if response.error is None else response.error["code"] == "unimplemented"
    expect(fine, "nil, or unimplemented from a worker that does not claim ping", str(response))


@row("$/ping is answered while a handler runs", section="10.1", level="standard", needs=("sleep",), feature="ping")
def ping_while_busy(trial: Trial) -> None:
    talk = trial.start()
    # As many as it works on at once, so that all its threads are taken.
    busy = [talk.request("sleep", _BUSY) for _ in range(min(trial.claims.concurrency, 64))]
    pings = [talk.request("$/ping") for _ in range(3)]
    for one in pings:
        talk.result(one)
    answered = [call for call in busy if call.response is not None]
    if answered:
        raise Failed(f"the answer to $/ping before those to {len(busy)} handlers at work", "it came behind them")
    for call in busy:
        talk.result(call)


@row("what is printed does not get among the frames", section="1.6", level="standard", needs=("print",))
def printing(trial: Trial) -> None:
    talk = trial.start()
    for text in ("printed by the kit", "x" * 20_000, "frames\n\0\x01\x02"):
        came = talk.call("print", text)
        expect(came is None, "nil from print", described(came))
    talk.expect_probe(talk.probe(trial.has("echo")))
    talk.close_input()
    talk.ends_normally("the end of its input")


@row("what is printed comes out on standard error", section="1.6", level="standard", needs=("print",), optional=True)
def printed_on_stderr(trial: Trial) -> None:
    talk = trial.start()
    talk.call("print", "printed by the kit")
    talk.close_input()
    talk.ends_normally("the end of its input")
    expect("printed by the kit" in talk.stderr(), "'printed by the kit' on standard error", described(talk.stderr()))


@row("what it logs comes as $/log", section="10.2", level="full", needs=("note",))
def logs(trial: Trial) -> None:
    talk = trial.talk()
    for level in ("debug", "info", "warning", "error"):
        came = talk.call("note", level, f"a line of level {level}")
        expect(came is None, "nil from note", described(came))
        said = [params[:2] for params in talk.logs]
        expect([level, f"a line of level {level}"] in said, f"$/log [{level!r}, …] before the answer", described(said))
