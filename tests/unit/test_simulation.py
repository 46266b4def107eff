"""Scenarios and crash lists: what is wrong in them is told with its line, and crashes fall when they should."""

from __future__ import annotations

import pytest

from mlports.config import Config, ServiceConfig, SupervisorConfig
from mlports.testing.simulation import ScenarioError, play, play_crashes, read_crashes
from mlports.testing.simulation.terms import as_erlang

TREE = ["sup root - one_for_one 1 5 never", "worker a root permanent infinity false"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("worke a root", "did you mean worker?"),
        ("worker b root permanent 5000", "write worker ID PARENT"),
        ("worker b nobody permanent 5000 false", "declare it first"),
        ("worker b root permanent soon false", "soon is no whole number"),
        ("worker b root permanent 5000 false lazy", "a worker cannot be lazy"),
        ("sup s root one_for_one few 5 never", "few is no whole number"),
        ("fail a 1 quietly", "write error, raise or ignore"),
    ],
)
def test_a_wrong_line_is_named(line: str, told: str) -> None:
    """Guards users who write scenarios by hand."""
    with pytest.raises(ScenarioError, match=r"tree\.txt:4: ") as found:
        list(play([*TREE, "# a comment", line], "tree.txt"))
    assert told in str(found.value)


@pytest.mark.parametrize(
    "line", ["burst root:kill", "burst a", "gated root crash", "gated a crash | dance a", "juggle a"]
)
def test_a_wrong_line_after_the_start_is_named(line: str) -> None:
    with pytest.raises(ScenarioError, match="line 4: "):
        list(play([*TREE, "go", line]))


def test_what_would_wait_for_ever_is_told() -> None:
    """Guards against a simulation that hangs as its tree would."""
    trace = play(["sup root - one_for_one 1 5 never", "worker a root permanent infinity false stubborn", "go", "stop"])
    shown: list[str] = []
    with pytest.raises(ScenarioError, match="line 4: stop: this would wait for ever"):
        shown.extend(trace)


def test_a_line_comes_when_it_has_happened() -> None:
    """Guards against a trace that is only there at the end."""
    lines = iter([*TREE, "go", "exit a crash"])
    trace = play(lines)
    assert next(trace) == "=== -"
    assert next(trace) == "sup_init root#1"
    assert next(lines) == "exit a crash"


def test_the_name_and_the_end_may_be_left_out() -> None:
    assert list(play([*TREE, "go"]))[-4:] == ["> stop", "exit a#1 shutdown", "exit root#1 shutdown", "--- end"]


def test_atoms_are_quoted_as_erlang_does() -> None:
    term = ("shutdown", ["a1", "End", "end", "it's", "", True, -3])
    assert as_erlang(term) == r"{shutdown,[a1,'End','end','it\'s','',true,-3]}"


def config(restart: str = "permanent", intensity: int = 5, period: int = 10) -> Config:
    services = {
        "digits": ServiceConfig.model_validate({"command": ["digits"], "replicas": 2, "restart": restart}),
        "words": ServiceConfig(command=["words"]),
    }
    return Config(service=services, supervisor=SupervisorConfig(intensity=intensity, period=period))


def crashes(*lines: str, intensity: int = 5, restart: str = "permanent") -> list[tuple[int, str]]:
    """What follows from these crashes, without the states of the tree."""
    settings = config(restart, intensity)
    moments = play_crashes(settings, read_crashes(lines, settings))
    return [(at, text) for at, text in moments if at and not text.startswith("state ")]


def test_a_crash_restarts_its_replica_alone() -> None:
    assert crashes("1.5s digits/1 kill  # oh") == [
        (1500, "> digits/1 kill"),
        (1500, "exit digits/1#1 killed"),
        (1500, "report child_terminated 'digits/1' killed"),
        (1500, "start digits/1#2"),
    ]


def test_restarts_are_forgotten_after_their_period() -> None:
    """Guards the clock: three in ten seconds are one too many, and the next service does not notice."""
    spread = crashes("1 digits/0 crash", "6 digits/0 crash", "12 digits/0 crash", intensity=2)
    assert not any("reached_max" in text for _, text in spread)
    close = crashes("3 digits/0 crash", "1 digits/0 crash", "2s digits/1 crash", intensity=2)
    assert (3000, "report shutdown 'digits/0' reached_max_restart_intensity") in close
    assert close[-1] == (3000, "exit digits#1 shutdown")


def test_what_is_not_running_cannot_crash() -> None:
    told = crashes("1s digits/0 normal", "2s digits/0 crash", restart="temporary")
    assert told[-1] == (2000, "digits/0 is not running")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("soon digits/0 kill", "write TIME SERVICE/REPLICA REASON"),
        ("1s digit/0 kill", "name one of digits, words"),
        ("1s digits/2 kill", "name one from digits/0 to digits/1"),
        ("1s digits kill", "write TIME SERVICE/REPLICA REASON"),
    ],
)
def test_a_wrong_crash_is_named(line: str, told: str) -> None:
    with pytest.raises(ScenarioError, match=r"crashes\.txt:2: ") as found:
        read_crashes(["", line], config(), "crashes.txt")
    assert told in str(found.value)
