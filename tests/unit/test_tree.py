"""`plan`: whose child is whose, under which names, and with which specification."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlports.config import BackoffConfig, Config, ProgramConfig, ServiceConfig, SupervisorConfig
from mlports.config.values import ROOT as RESERVED
from mlports.core.supervision import ChildSpec, StartCall, Supervisor, SupervisorFlags, flags_from, specs_from
from mlports.tree import ROOT, Branch, plan, program_spec, replica_spec


def service(**more: Any) -> ServiceConfig:
    return ServiceConfig(command="x", **more)


def program(**more: Any) -> ProgramConfig:
    return ProgramConfig(command="x", **more)


def supervisor(*children: str, **more: Any) -> SupervisorConfig:
    return SupervisorConfig(children=children, **more)


def ids(branch: Branch) -> list[object]:
    return [spec.id for spec in branch.specs]


def shape(config: Config) -> dict[str, list[object]]:
    """The ids of each supervisor's children."""
    return {name: ids(branch) for name, branch in plan(config).items()}


def test_the_roots_name_cannot_be_anothers() -> None:
    assert ROOT == RESERVED == "mlports"


def test_a_service_that_nobody_names_has_a_supervisor_of_its_own() -> None:
    """Guards the neighbours of a service that keeps crashing: the root does not count its restarts, nor restart it."""
    limits = SupervisorConfig(intensity=3, period=7)
    tree = plan(Config(supervisor=limits, service={"digits": service(replicas=2, standby=1), "words": service()}))
    assert list(tree) == [ROOT, "digits", "words"]
    root, digits, _ = tree.values()
    assert root.flags == digits.flags == SupervisorFlags("one_for_one", 3, 7, "never")
    start = StartCall("service", ("digits",))
    assert root.specs[0] == ChildSpec("digits", start, "temporary", "infinity", False, "supervisor")
    assert ids(digits) == ["digits/0", "digits/1", "digits/2"]
    assert digits.specs[2] == ChildSpec("digits/2", StartCall("replica", ("digits", 2)), "permanent", 5000)
    assert (root.parallel, digits.parallel) == (True, True)
    assert (root.backoff, digits.backoff) == ({}, {})


@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_a_service_whose_replicas_may_all_end_ends_with_the_last(restart: str) -> None:
    """Guards against a supervisor of nothing, which would look like a service that is up."""
    digits = plan(Config(service={"digits": service(restart=restart, replicas=2)}))["digits"]
    assert digits.flags.auto_shutdown == "all_significant"
    assert [(spec.restart, spec.significant) for spec in digits.specs] == [(restart, True)] * 2


def test_who_is_whose_child_and_in_which_order() -> None:
    """Guards the order of the start, which is a promise."""
    config = Config(
        supervisor=supervisor("db", "words"),
        supervisors={
            "left": supervisor("cache"),
            "db": supervisor("store", "index", "pool", strategy="rest_for_one"),
            "pool": supervisor("digits", strategy="simple_one_for_one"),
            "cache": supervisor("logger"),
        },
        service={
            "digits": service(replicas=3),
            "words": service(replicas=2, standby=1),
            "store": service(replicas=2),
            "free": service(),
            "ticks": service(replicas=2),
        },
        program={"late": program(), "index": program(), "logger": program(), "early": program()},
    )
    assert shape(config) == {
        ROOT: ["db", "words/0", "words/1", "words/2", "late", "early", "free", "ticks", "left"],
        "left": ["cache"],
        "db": ["store/0", "store/1", "index", "pool"],
        "pool": ["digits"],
        "cache": ["logger"],
        "free": ["free/0"],
        "ticks": ["ticks/0", "ticks/1"],
    }
    targets = {spec.id: spec.start for branch in plan(config).values() for spec in branch.specs}
    assert targets["words/1"] == ("replica", ("words", 1))
    assert targets["late"] == ("program", ("late",))
    assert targets["db"] == ("supervisor", ("db",))
    assert targets["free"] == ("service", ("free",))
    assert targets["digits"] == ("replica", ("digits",))


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
def test_under_another_strategy_replicas_are_the_roots_own(strategy: str) -> None:
    """Guards what the user asked for: with a supervisor in between, none would fall with the others."""
    root = SupervisorConfig.model_validate({"strategy": strategy})
    config = Config(supervisor=root, service={"b": service(replicas=2), "a": service()}, program={"p": program()})
    assert shape(config) == {ROOT: ["p", "b/0", "b/1", "a/0"]}
    (root_branch,) = plan(config).values()
    assert (root_branch.flags.strategy, root_branch.parallel) == (strategy, False)


def test_a_root_can_be_a_simple_one_for_one() -> None:
    root = SupervisorConfig(strategy="simple_one_for_one")
    (branch,) = plan(Config(supervisor=root, service={"a": service(replicas=2, restart="transient")})).values()
    assert branch.specs == (ChildSpec("a", StartCall("replica", ("a",)), "transient", 5000),)
    (branch,) = plan(Config(supervisor=root, program={"p": program()})).values()
    assert branch.specs == (ChildSpec("p", StartCall("program", ("p",)), "permanent", 5000),)
    assert branch.parallel


def test_what_is_said_of_a_child_reaches_its_specification() -> None:
    """Guards each key, and that OTP counts milliseconds."""
    more: dict[str, Any] = {"restart": "transient", "significant": True}
    config = Config(
        supervisor=supervisor("s", "a", "p", auto_shutdown="all_significant"),
        supervisors={"s": supervisor("b", shutdown="1m", **more)},
        service={"a": service(shutdown=2.3, **more), "b": service(shutdown="brutal_kill")},
        program={"p": program(shutdown="infinity", **more)},
    )
    root, s = plan(config).values()
    assert root.specs == (
        ChildSpec("s", StartCall("supervisor", ("s",)), "transient", 60_000, True, "supervisor"),
        ChildSpec("a/0", StartCall("replica", ("a", 0)), "transient", 2300, True),
        ChildSpec("p", StartCall("program", ("p",)), "transient", "infinity", True),
    )
    assert root.flags.auto_shutdown == "all_significant"
    assert s.specs[0].shutdown == "brutal_kill"
    assert program_spec("p", config.program["p"]) == root.specs[2]
    assert replica_spec("a", 0, config.service["a"], True) == root.specs[1]


def test_a_service_of_its_own_may_be_significant_to_the_root() -> None:
    """Guards an orchestrator that is to end when its only work is done."""
    config = Config(
        supervisor=SupervisorConfig(auto_shutdown="any_significant"),
        service={"work": service(restart="transient", significant=True), "more": service(restart="transient")},
    )
    root = plan(config)[ROOT]
    assert [(spec.restart, spec.significant) for spec in root.specs] == [("temporary", True), ("temporary", False)]


def test_backoff_is_the_childs_own_or_its_supervisors() -> None:
    general, own = BackoffConfig(initial="1s"), BackoffConfig(initial="2s")
    config = Config(
        supervisor=supervisor("p", "q", "s", "named", backoff=general),
        supervisors={
            "s": supervisor("a", "b"),
            "t": supervisor("pool", strategy="simple_one_for_one", backoff=general),
        },
        service={
            "a": service(backoff=own, replicas=2),
            "b": service(),
            "named": service(),
            "pool": service(),
            "free": service(),
            "own": service(backoff=own),
        },
        program={"p": program(), "q": program(backoff=own)},
    )
    assert {name: branch.backoff for name, branch in plan(config).items()} == {
        ROOT: {"p": general, "q": own, "s": general, "named/0": general, "t": general},
        "s": {"a/0": own, "a/1": own},
        "t": {"pool": general},
        "free": {"free/0": general},
        "own": {"own/0": own},
    }


def test_parallel_start_is_the_supervisors_own_and_for_services_alone_the_roots() -> None:
    config = Config(
        supervisor=SupervisorConfig(parallel_start=False),
        supervisors={"s": supervisor("a")},
        service={"a": service(), "free": service()},
    )
    assert {name: branch.parallel for name, branch in plan(config).items()} == {ROOT: False, "s": True, "free": False}


# Any tree at all.

SERVICES, PROGRAMS, SUPERVISORS = ["a", "b", "c"], ["p", "q"], ["s", "t", "u"]
STRATEGIES = ["one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one"]


@st.composite
def configs(draw: st.DrawFn) -> Config:
    """A configuration that can be: each child is named once at most, and supervisors name only those before them."""
    heeded = draw(st.booleans())
    free = draw(st.permutations(SERVICES + PROGRAMS))

    def life() -> dict[str, Any]:
        restart = draw(st.sampled_from(["permanent", "transient", "temporary"]))
        significant = heeded and restart != "permanent" and draw(st.booleans())
        shutdown = draw(st.sampled_from(["brutal_kill", "infinity", "5s", 0.25]))
        return {"restart": restart, "shutdown": shutdown, "significant": significant}

    def some(strategy: str, names: list[str], more: dict[str, Any]) -> SupervisorConfig:
        auto = draw(st.sampled_from(["any_significant", "all_significant"] if heeded else ["never", "any_significant"]))
        backoff = draw(st.sampled_from([None, BackoffConfig()]))
        given = {"strategy": strategy, "auto_shutdown": auto, "backoff": backoff, "children": names}
        return SupervisorConfig.model_validate(given | more)

    def taken(at_least: int, at_most: int) -> list[str]:
        count = draw(st.integers(at_least, at_most))
        return [free.pop() for _ in range(count)]

    supervisors: dict[str, SupervisorConfig] = {}
    waiting: list[str] = []  # supervisors that nobody has named
    for name in SUPERVISORS[: draw(st.integers(0, 3))]:
        strategy = draw(st.sampled_from(STRATEGIES))
        if strategy == "simple_one_for_one":
            names = taken(1, 1)
        else:
            names = taken(1, 1 if len(free) < 4 else 2) + [waiting.pop() for _ in waiting[: draw(st.integers(0, 1))]]
        supervisors[name] = some(strategy, draw(st.permutations(names)), life())
        waiting.append(name)
    return Config(
        supervisor=some(draw(st.sampled_from(STRATEGIES[:3])), taken(0, min(1, len(free))) + waiting[:1], {}),
        supervisors=supervisors,
        service={
            name: service(replicas=draw(st.integers(1, 3)), standby=draw(st.integers(0, 2)), **life())
            for name in SERVICES
        },
        program={name: program(**life()) for name in PROGRAMS},
    )


@given(configs())
def test_a_config_that_can_be_gives_a_tree_that_can_be(config: Config) -> None:
    """Guards the checks of both: OTP's rules let the tree through, and everything is in it exactly once."""
    tree = plan(config)
    for branch in tree.values():
        assert flags_from(asdict(branch.flags)) == branch.flags
        assert len(specs_from(branch.specs, branch.flags.auto_shutdown)) == len(branch.specs)
        Supervisor(branch.flags, branch.specs)
        assert set(branch.backoff) <= set(ids(branch))
    specs = [spec for branch in tree.values() for spec in branch.specs]
    starts = Counter(spec.start for spec in specs)
    assert set(starts.values()) == {1}
    for name, its in config.service.items():
        numbers = range(its.replicas + its.standby)
        started = {start for start in starts if start.target == "replica" and start.args[0] == name}
        each, template = {StartCall("replica", (name, number)) for number in numbers}, {StartCall("replica", (name,))}
        assert started in (each, template)
    assert {start.args[0] for start in starts if start.target == "program"} == set(config.program)
    below = {str(start.args[0]) for start in starts if start.target in ("supervisor", "service")}
    assert {ROOT, *below} == set(tree)
    assert below >= set(config.supervisors)
