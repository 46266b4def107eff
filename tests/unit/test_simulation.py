"""Scenarios and crash lists: what is wrong in them is told with its line, and crashes fall when they should."""

from __future__ import annotations

import pytest

from mlports.config import Config, ProgramConfig, ServiceConfig, SupervisorConfig
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


def played(config: Config, *lines: str) -> list[str]:
    """What follows from these crashes, each one's state included."""
    return [text for at, text in play_crashes(config, read_crashes(lines, config)) if at]


def service(**more: object) -> ServiceConfig:
    return ServiceConfig.model_validate({"command": ["x"], **more})


def test_the_start_is_played_in_the_order_of_the_tree() -> None:
    """Guards the names: users look for their own supervisors, services and programs."""
    config = Config(
        supervisor=SupervisorConfig(children=["db"]),
        supervisors={"db": SupervisorConfig(children=["store", "indexer"], strategy="rest_for_one")},
        service={"digits": service(), "store": service(replicas=1, standby=1)},
        program={"indexer": ProgramConfig(command="indexer"), "early": ProgramConfig(command="early")},
    )
    *starts, last = [text for _, text in play_crashes(config, [])]
    assert starts == [
        "sup_init mlports#1",
        "sup_init db#1",
        "start store/0#1",
        "start store/1#1",
        "start indexer#1",
        "sup_up db#1",
        "start early#1",
        "sup_init digits#1",
        "start digits/0#1",
        "sup_up digits#1",
        "sup_up mlports#1",
    ]
    assert last == "started mlports#1[db#1[store/0#1 store/1#1 indexer#1] early#1 digits#1[digits/0#1]]"


def test_the_rest_falls_with_the_one_before_it() -> None:
    config = Config(
        supervisors={"db": SupervisorConfig(children=["store", "indexer", "api"], strategy="rest_for_one")},
        service={"store": service(), "api": service()},
        program={"indexer": ProgramConfig(command="indexer")},
    )
    assert played(config, "1.5s indexer kill") == [
        "> indexer kill",
        "exit indexer#1 killed",
        "report child_terminated indexer killed",
        "exit api/0#1 shutdown",
        "start indexer#2",
        "start api/0#2",
        "state mlports#1[db#1[store/0#1 indexer#2 api/0#2]]",
    ]


def test_a_supervisor_that_gives_up_is_restarted_by_its_own() -> None:
    """Guards escalation, and that a root that gives up ends everything."""
    config = Config(
        supervisor=SupervisorConfig(intensity=1),
        supervisors={"db": SupervisorConfig(children=["store"], intensity=0)},
        service={"store": service(), "digits": service()},
    )
    once = played(config, "1s store/0 crash")
    assert once[-1] == "state mlports#1[digits#1[digits/0#1] db#2[store/0#2]]"
    twice = played(config, "1s store/0 crash", "2s store/0 crash", "3s digits/0 crash")
    assert twice[-3:] == ["state root_dead", "> digits/0 crash", "digits/0 is not running"]
    assert "report shutdown db reached_max_restart_intensity" in twice


def test_a_significant_child_takes_its_supervisor_along() -> None:
    config = Config(
        supervisors={
            "job": SupervisorConfig(children=["train", "log"], auto_shutdown="any_significant", restart="transient")
        },
        service={"train": service(restart="transient", significant=True), "log": service()},
    )
    assert played(config, "1s train/0 normal") == [
        "> train/0 normal",
        "exit train/0#1 normal",
        "exit log/0#1 shutdown",
        "exit job#1 shutdown",
        "state mlports#1[job=undefined]",
    ]


def test_a_service_whose_replicas_have_all_ended_has_ended() -> None:
    config = Config(service={"train": service(restart="transient", replicas=2), "digits": service()})
    assert played(config, "1s train/1 normal", "2s train/0 normal")[-3:] == [
        "exit train/0#1 normal",
        "exit train#1 shutdown",
        "state mlports#1[digits#1[digits/0#1]]",
    ]


def test_a_simple_one_for_one_starts_as_many_as_there_are_replicas() -> None:
    """Guards those that come after its supervisor is up, also when that was restarted."""
    config = Config(
        supervisors={"pool": SupervisorConfig(children=["digits"], strategy="simple_one_for_one", intensity=0)},
        service={"digits": service(replicas=2, standby=1)},
    )
    moments = [text for _, text in play_crashes(config, [])]
    assert moments[-1] == "started mlports#1[pool#1[digits/0#1 digits/1#1 digits/2#1]]"
    again = played(config, "1s digits/2 crash")
    assert again[-1] == "state mlports#1[pool#2[digits/0#2 digits/1#2 digits/2#2]]"
    programs = Config(
        supervisors={"jobs": SupervisorConfig(children=["job"], strategy="simple_one_for_one")},
        program={"job": ProgramConfig(command="job")},
    )
    assert played(programs, "1s job crash") == ["> job crash", "job is not running"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("soon digits/0 kill", "write TIME SERVICE/REPLICA REASON"),
        ("soon indexer kill", "or TIME PROGRAM REASON"),
        ("1s digit/0 kill", "name one of digits, words, indexer"),
        ("1s index kill", "there is no service or program index"),
        ("1s digits/2 kill", "name one from digits/0 to digits/1"),
        ("1s words/2 kill", "name one from words/0 to words/1"),
        ("1s digits kill", "digits is a service. Fix: name one from digits/0 to digits/1"),
        ("1s indexer/0 kill", "indexer is a program, which has no replicas. Fix: write indexer alone"),
    ],
)
def test_a_wrong_crash_is_named(line: str, told: str) -> None:
    settings = Config(
        service={"digits": service(replicas=2), "words": service(standby=1)},
        program={"indexer": ProgramConfig(command="indexer")},
    )
    with pytest.raises(ScenarioError, match=r"crashes\.txt:2: ") as found:
        read_crashes(["", line], settings, "crashes.txt")
    assert told in str(found.value)
