"""`$/hello` and its answer (SPEC.md 5)."""

from __future__ import annotations

from mlports.testing.conformance.failures import Failed, expect
from mlports.testing.conformance.rows import row
from mlports.testing.conformance.subject import FULL, hello
from mlports.testing.conformance.trial import Trial
from mlports_protocol import Request


@row("answers $/hello, and tells its methods", section="5.2", level="standard")
def tells_methods(trial: Trial) -> None:
    expect(not trial.bare, "the answer to $/hello of SPEC.md 5.2", "an error, as of a bare worker")
    expect(trial.claims.methods is not None, "methods in the answer to $/hello", "none: not told")
    reserved = [name for name in trial.subject.methods if name.startswith("$/")]
    expect(not reserved, "methods whose names do not begin with $/", ", ".join(reserved))


@row("claims the features cancel, stream, input, batch and ndarray", section="14", level="full")
def claims_features(trial: Trial) -> None:
    missing = sorted(FULL - trial.claims.features)
    expect(not missing, f"the features {', '.join(sorted(FULL))}", f"without {', '.join(missing)}")


@row("takes a $/hello with nothing in it but versions", section="5.1", level="standard")
def short_hello(trial: Trial) -> None:
    talk = trial.spawn()
    trial.subject.greet(talk, {"protocol": {"min": 1, "max": 1}})
    talk.expect_probe(talk.probe(trial.has("echo")))


@row("ignores fields and features of $/hello that it does not know", section="4.5", level="standard")
def long_hello(trial: Trial) -> None:
    talk = trial.spawn()
    said = hello(
        features=["telepathy", "batch"], colour={"deep": ["red"]}, config=None, protocol={"min": 1, "max": 1, "best": 1}
    )
    trial.subject.greet(talk, said, id=3)
    talk.expect_probe(talk.probe(trial.has("echo")))


@row("chooses version 1 of 1 to 2", section="5.3", level="standard")
def versions_1_to_2(trial: Trial) -> None:
    talk = trial.spawn()
    trial.subject.greet(talk, hello(protocol={"min": 1, "max": 2}))
    talk.expect_probe(talk.probe(trial.has("echo")))


@row("does not answer when only version 2 is spoken, and says why", section="5.3", level="standard")
def version_2_only(trial: Trial) -> None:
    talk = trial.spawn()
    call = talk.new_call("$/hello", id=0)
    talk.send(Request(0, "$/hello", [hello(protocol={"min": 2, "max": 2})]))
    what = "it to end with a status other than 0, because it does not speak version 2"
    status = talk.wait_end(what, trial.subject.start_timeout, not_answering=call)
    expect(status != 0, what, "status 0")
    expect(bool(talk.stderr().strip()), "the reason on standard error", talk.how_it_ended())


@row("a $/hello without versions ends it", section="5.1", level="standard")
def hello_without_versions(trial: Trial) -> None:
    talk = trial.spawn()
    call = talk.new_call("$/hello", id=0)
    talk.send(Request(0, "$/hello", [{"features": []}]))
    talk.ends_abnormally("a $/hello without protocol (InvalidHello)", call)


@row("a request before $/hello ends it", section="5", level="standard")
def request_before_hello(trial: Trial) -> None:
    talk = trial.spawn()
    call = talk.new_call("echo", id=0)
    talk.send(Request(0, "echo", [1]))
    talk.ends_abnormally("a request before $/hello (HandshakeExpected)", call)


@row("a second $/hello ends it", section="5", level="standard")
def second_hello(trial: Trial) -> None:
    talk = trial.start()
    call = talk.new_call("$/hello", id=1)
    talk.send(Request(1, "$/hello", [hello()]))
    talk.ends_abnormally("a second $/hello (HandshakeExpected)", call)


@row("carries its frames on descriptors 3 and 4 when asked to", section="1.4", level="standard", optional=True)
def descriptors_3_and_4(trial: Trial) -> None:
    talk = trial.start(fd34=True)
    talk.expect_probe(talk.probe(trial.has("echo")))
    talk.close_input()
    if talk.wait_end("it to end after the end of descriptor 3") != 0:
        raise Failed("status 0 after the end of descriptor 3", talk.how_it_ended())
