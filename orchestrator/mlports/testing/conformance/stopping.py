"""The end: of input, of output, by `$/stop`, by signals (SPEC.md 2.4, 11)."""

from __future__ import annotations

import signal

from mlports.testing.conformance.conversation import UNKNOWN_METHOD
from mlports.testing.conformance.failures import Failed, NotTried, expect
from mlports.testing.conformance.rows import row
from mlports.testing.conformance.trial import Trial
from mlports.testing.conformance.wire import encoded
from mlports_protocol import Request

_BUSY = 0.3


@row("ends with status 0 at the end of its input", section="11.2", level="bare")
def end_of_input(trial: Trial) -> None:
    talk = trial.start()
    talk.expect_probe(talk.probe(trial.has("echo")))
    talk.close_input()
    talk.ends_normally("the end of its input")


@row("ends with status 0 at the end of its input, requests just sent", section="11.2", level="bare")
def end_of_input_behind_requests(trial: Trial) -> None:
    talk = trial.start()
    for _ in range(5):
        talk.probe(trial.has("echo"))
    talk.close_input()
    talk.ends_normally("the end of its input")


@row("ends with status 0 when its input ends before anything came", section="11.2", level="bare")
def no_input_at_all(trial: Trial) -> None:
    talk = trial.spawn()
    talk.close_input()
    what = "it to end with status 0 after an empty input"
    if talk.wait_end(what, trial.subject.start_timeout) != 0:
        raise Failed(what, talk.how_it_ended())


def _cut(trial: Trial, length: int) -> None:
    talk = trial.start()
    frame = encoded(Request(9, UNKNOWN_METHOD, ["cut"]))
    talk.send_bytes(frame[:length], f"(the first {length} of {len(frame)} bytes of a frame)")
    talk.close_input()
    why = "the end of its input inside a frame (TruncatedFrame)"
    if trial.bare:
        talk.wait_end(f"it to end after {why}")
    else:
        talk.ends_abnormally(why)


@row("ends, and not with 0, when its input ends inside a frame's length", section="2.4", level="bare")
def end_inside_length(trial: Trial) -> None:
    _cut(trial, 2)


@row("ends, and not with 0, when its input ends inside a payload", section="2.4", level="bare")
def end_inside_payload(trial: Trial) -> None:
    _cut(trial, 12)


@row("ends when nobody reads its output any more", section="11.2", level="standard")
def nobody_reads(trial: Trial) -> None:
    talk = trial.start()
    talk.process.close_output()
    frame = encoded(Request(9, UNKNOWN_METHOD, ["is anybody there?"]))
    what = "it to end, because its output has no reader (EPIPE)"
    talk.transcript.add(True, b"", "(its output has no reader any more)")
    talk.process.queue(frame)
    status = talk.process.wait_status(0.2)
    end = trial.subject.timeout
    while status is None and end > 0 and not talk.process.input_refused:
        # Some buffer what they write, so that it takes more than one answer.
        talk.process.queue(frame * 100)
        talk.process.pump(0.0)
        status = talk.process.wait_status(0.1)
        end -= 0.1
    if status is None and talk.process.wait_status(1.0) is None:
        raise Failed(what, "it still runs", late=True)


@row("$/stop: answers what it has read, and ends with status 0", section="11.1", level="standard")
def stop(trial: Trial) -> None:
    talk = trial.start()
    calls = [talk.probe(trial.has("echo")) for _ in range(5)]
    if trial.has("sleep"):
        calls.append(talk.request("sleep", _BUSY))
    talk.notify("$/stop", "the check is over")
    for call in calls[:5]:
        talk.expect_probe(call)
    for call in calls[5:]:
        talk.result(call)
    talk.ends_normally("$/stop, its input being open")


@row("$/stop without a reason, then the end of input: the same", section="11.1", level="standard")
def stop_and_end(trial: Trial) -> None:
    talk = trial.start()
    busy = talk.request("sleep", _BUSY) if trial.has("sleep") else talk.probe(trial.has("echo"))
    talk.notify("$/stop")
    talk.close_input()
    talk.answer(busy)
    if busy.method == "sleep":
        talk.result(busy)
    talk.ends_normally("$/stop and the end of input")


@row(
    "$/stop: a request that comes behind it is not begun",
    section="11.1",
    level="standard",
    needs=("sleep",),
    feature="ping",
)
def request_behind_stop(trial: Trial) -> None:
    talk = trial.start()
    busy = talk.request("sleep", _BUSY)
    talk.until_read()
    talk.notify("$/stop")
    late = talk.request("sleep", 0)
    talk.result(busy)
    talk.error(late, "unavailable")
    talk.ends_normally("$/stop")


@row("SIGINT is ignored", section="11.4", level="standard")
def interrupt(trial: Trial) -> None:
    talk = trial.start()
    talk.process.signal(signal.SIGINT)
    talk.quiet(0.1)
    talk.expect_probe(talk.probe(trial.has("echo")))
    talk.close_input()
    talk.ends_normally("SIGINT and the end of its input")


@row("SIGTERM ends it", section="11.4", level="standard")
def terminated(trial: Trial) -> None:
    talk = trial.start()
    talk.process.signal(signal.SIGTERM)
    talk.wait_end("it to end after SIGTERM")


@row("SIGUSR2 has it write its stacks, and go on", section="11.4", level="standard", feature="stacks")
def stacks(trial: Trial) -> None:
    if not hasattr(signal, "SIGUSR2"):
        raise NotTried("there is no SIGUSR2 here")
    talk = trial.start()
    talk.process.signal(signal.SIGUSR2)
    talk.wait(lambda: bool(talk.process.stderr), "its stacks on standard error")
    talk.expect_probe(talk.probe(trial.has("echo")))
    expect(talk.process.status is None, "it to go on", talk.how_it_ended())
