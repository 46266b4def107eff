"""OTP's sup_start_map_faulty_specs and what is like it: as Python's mappings, in mlports.toml, and as whole trees."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from mlports.config import Config, ConfigErrors, ProgramConfig, ServiceConfig, SupervisorConfig, load_config
from mlports.core.supervision import ChildSpec, InvalidSpec, StartCall, flags_from, spec_from, specs_from
from mlports.errors import ConfigError

# As OTP has them.

START = ("serve", ["digits"])
SUPERVISOR = {"id": "a", "start": START, "type": "supervisor"}
NEVER = ("auto_shutdown", "never")
PERMANENT = ("restart", "permanent")
SIGNIFICANT = ("significant", True)


def spec(**changes: object) -> dict[str, object]:
    return {"id": "a", "start": START, **changes}


FAULTY_SPECS: list[tuple[object, object]] = [
    ("child4", ("invalid_child_spec", "child4")),
    (None, ("invalid_child_spec", None)),
    (["id", "start"], ("invalid_child_spec", ["id", "start"])),
    ({}, "missing_id"),
    ({"start": START}, "missing_id"),
    ({"id": "a"}, "missing_start"),
    ({"id": "a", "restart": "unknown"}, "missing_start"),
    (spec(start=None), ("invalid_mfa", None)),
    (spec(start="serve"), ("invalid_mfa", "serve")),
    (spec(start=[]), ("invalid_mfa", [])),
    (spec(start=("serve",)), ("invalid_mfa", ("serve",))),
    (spec(start=("serve", "digits")), ("invalid_mfa", ("serve", "digits"))),
    (spec(start=(1, [])), ("invalid_mfa", (1, []))),
    (spec(start=("a", "b", [])), ("invalid_mfa", ("a", "b", []))),
    (spec(restart="unknown"), ("invalid_restart_type", "unknown")),
    (spec(restart=None), ("invalid_restart_type", None)),
    (spec(restart=True), ("invalid_restart_type", True)),
    (spec(restart=["permanent"]), ("invalid_restart_type", ["permanent"])),
    (spec(shutdown=-1), ("invalid_shutdown", -1)),
    (spec(shutdown=1.5), ("invalid_shutdown", 1.5)),
    (spec(shutdown=True), ("invalid_shutdown", True)),
    (spec(shutdown="forever"), ("invalid_shutdown", "forever")),
    (spec(shutdown=None), ("invalid_shutdown", None)),
    (spec(shutdown=["infinity"]), ("invalid_shutdown", ["infinity"])),
    ({**SUPERVISOR, "shutdown": -1}, ("invalid_shutdown", -1)),
    (spec(type="nurse"), ("invalid_child_type", "nurse")),
    (spec(type=None), ("invalid_child_type", None)),
    (spec(modules="serve"), ("invalid_modules", "serve")),
    (spec(modules={"serve": 1}), ("invalid_modules", {"serve": 1})),
    (spec(modules=["serve", 1]), ("invalid_module", 1)),
    (spec(modules=["dynamic", None]), ("invalid_module", None)),
    (spec(significant="yes"), ("invalid_significant", "yes")),
    (spec(significant=1), ("invalid_significant", 1)),
    (spec(significant=None, restart="transient"), ("invalid_significant", None)),
    (spec(significant=True), ("bad_combination", [PERMANENT, SIGNIFICANT])),
    (spec(significant=True, restart="permanent"), ("bad_combination", [PERMANENT, SIGNIFICANT])),
    ({**SUPERVISOR, "significant": True}, ("bad_combination", [PERMANENT, SIGNIFICANT])),
    # The first fault that OTP would find is the one that is told.
    (spec(restart="unknown", shutdown=-1, type="nurse"), ("invalid_restart_type", "unknown")),
    (spec(shutdown=-1, type="nurse"), ("invalid_child_type", "nurse")),
    (spec(shutdown=-1, modules="serve"), ("invalid_shutdown", -1)),
]


@pytest.mark.parametrize(("given", "fault"), FAULTY_SPECS, ids=lambda value: str(value)[:50])
def test_sup_start_map_faulty_specs(given: object, fault: object) -> None:
    """Guards programs that make specifications: each fault is found, and is OTP's own term for it."""
    with pytest.raises(InvalidSpec) as found:
        spec_from(given)
    assert found.value.fault == fault
    assert str(found.value)
    with pytest.raises(InvalidSpec) as found:
        specs_from([spec(id="b"), given])
    assert found.value.fault == fault


@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_a_significant_child_needs_a_supervisor_that_heeds_it(restart: str) -> None:
    given = spec(significant=True, restart=restart)
    with pytest.raises(InvalidSpec) as found:
        spec_from(given, "never")
    assert found.value.fault == ("bad_combination", [NEVER, SIGNIFICANT])
    assert spec_from(given, "any_significant").significant
    assert spec_from(given, "all_significant").significant
    assert spec_from(given).significant  # where nobody knows the supervisor yet


def test_two_children_of_the_same_id() -> None:
    with pytest.raises(InvalidSpec) as found:
        specs_from([spec(), spec(id="b"), spec(restart="temporary")])
    assert found.value.fault == ("duplicate_child_name", "a")


def test_a_silly_flag_is_overlooked() -> None:
    """As OTP does it; in mlports.toml it is an error."""
    assert spec_from(spec(silly_flag=True)) == spec_from(spec())
    assert spec_from(spec(modules="dynamic")).modules == "dynamic"
    assert spec_from(ChildSpec("a", StartCall("serve"))).start.args == ()


FAULTY_FLAGS: list[tuple[object, object]] = [
    (7, ("invalid_type", 7)),
    ("one_for_one", ("invalid_type", "one_for_one")),
    ({"strategy": "unknown"}, ("invalid_strategy", "unknown")),
    ({"strategy": None}, ("invalid_strategy", None)),
    ({"intensity": -1}, ("invalid_intensity", -1)),
    ({"intensity": 1.5}, ("invalid_intensity", 1.5)),
    ({"intensity": True}, ("invalid_intensity", True)),
    ({"period": 0}, ("invalid_period", 0)),
    ({"period": -5}, ("invalid_period", -5)),
    ({"period": "5s"}, ("invalid_period", "5s")),
    ({"auto_shutdown": "always"}, ("invalid_auto_shutdown", "always")),
    ({"auto_shutdown": False}, ("invalid_auto_shutdown", False)),
]


@pytest.mark.parametrize(("given", "fault"), FAULTY_FLAGS, ids=lambda value: str(value)[:50])
def test_faulty_flags(given: object, fault: object) -> None:
    with pytest.raises(InvalidSpec) as found:
        flags_from(given)
    assert found.value.fault == fault
    assert str(found.value)


# As mlports.toml has them.

D = '[service.digits]\ncommand = "x"\n'
"""What a key of the service is put behind: it then stands on line 3."""
P = D + '[program.p]\ncommand = "x"\n'
"""The same for a key of a program, on line 5."""
S = D + '[supervisor.s]\nchildren = ["digits"]\n'
"""The same for a key of a supervisor, on line 5."""
R = D + "[supervisor]\n"
"""The same for a key of the root, on line 4."""
CHOICES = '"permanent", "transient" or "temporary"'

FAULTY_FILES = {
    # text: (line, key, part of the problem, part of the fix)
    "[service.digits]\nreplicas = 1": (1, "service.digits.command", "is missing", 'add command = ["python"'),
    D + "[program.p]\nenv = {}": (3, "program.p.command", "is missing", 'add command = ["python"'),
    D + "[supervisor.s]": (3, "supervisor.s.children", "is missing", 'add children = ["digits"]'),
    D + "[supervisor.s]\nchildren = []": (4, "supervisor.s.children", "is empty", "or remove [supervisor.s]"),
    D + "command.x = 1": (3, "service.digits.command.x", "is given twice", "remove one of the two"),
    "[service.digits]\ncommand = {}": (2, "service.digits.command", "not a table", 'write command = ["python"'),
    D + "[program.p]\ncommand = []": (4, "program.p.command", "is empty", '["python", "worker.py"]'),
    **{
        text + f'restart = "{word}"': (line, f"{key}.restart", f'must be {CHOICES}, not "{word}"', fix)
        for text, line, key in ((D, 3, "service.digits"), (P, 5, "program.p"), (S, 5, "supervisor.s"))
        for word, fix in (("unknown", 'write "permanent"'), ("permanant", 'did you mean "permanent"?'))
    },
    **{
        text + f"shutdown = {value}": (line, f"{key}.shutdown", problem, '"brutal_kill" or "infinity"')
        for text, line, key in ((D, 3, "service.digits"), (P, 5, "program.p"), (S, 5, "supervisor.s"))
        for value, problem in (
            ("-1", "must be from 0 to 8760h, a year, not -1"),
            ('"forever"', '"forever" is not a duration'),
            ("true", "must be a duration, not true"),
        )
    },
    **{
        text + 'significant = "yes"': (line, f"{key}.significant", 'must be true or false, not "yes"', "without quotes")
        for text, line, key in ((D, 3, "service.digits"), (P, 5, "program.p"), (S, 5, "supervisor.s"))
    },
    **{
        text + "significant = true": (line, f"{key}.significant", "a permanent child is always", '"transient" or')
        for text, line, key in ((D, 3, "service.digits"), (P, 5, "program.p"), (S, 5, "supervisor.s"))
    },
    **{
        text + "restart = 'temporary'\nsignificant = true": (
            line + 1,
            f"{key}.significant",
            'its supervisor, [supervisor], has auto_shutdown = "never"',
            'write auto_shutdown = "any_significant" or "all_significant" in [supervisor]',
        )
        for text, line, key in ((D, 3, "service.digits"), (P, 5, "program.p"), (S, 5, "supervisor.s"))
    },
    "[supervisor]\nauto_shutdown = 'any_significant'\n" + S + "[service.digits.env]\n[service.b]\ncommand = 'x'\n"
    "restart = 'transient'\nsignificant = true\n[supervisor.t]\nchildren = ['b']": (
        11,
        "service.b.significant",
        'its supervisor, [supervisor.t], has auto_shutdown = "never"',
        "in [supervisor.t]",
    ),
    D + "id = 'digits'": (3, "service.digits.id", "no such key", "a child's id is its name"),
    D + "start = ['serve']": (3, "service.digits.start", "no such key", "what is started is the command"),
    D + "type = 'worker'": (3, "service.digits.type", "no such key", "[supervisor.NAME] are supervisors"),
    D + "modules = []": (3, "service.digits.modules", "no such key", "remove it"),
    P + "type = 'worker'": (5, "program.p.type", "no such key", "[program.NAME] are workers"),
    P + "replicas = 2": (5, "program.p.replicas", "no such key here", "it belongs to [service.NAME]"),
    P + "zzz = 2": (5, "program.p.zzz", "no such key", "there are command, python, restart, shutdown"),
    P + "[program.p.v2]": (5, "program.p.v2", "no such key", "[program.p-v2]"),
    S + "type = 'supervisor'": (5, "supervisor.s.type", "no such key", "remove it"),
    S + "strategie = 'one_for_one'": (5, "supervisor.s.strategie", "no such key", 'did you mean "strategy"?'),
    S + "max_restarts = 3": (5, "supervisor.s.max_restarts", "no such key", "is intensity"),
    S + "max_seconds = 3": (5, "supervisor.s.max_seconds", "no such key", "is period"),
    S + "zzz = 3": (5, "supervisor.s.zzz", "no such key", "parallel_start, backoff, restart, shutdown, significant"),
    R + "zzz = 3": (4, "supervisor.zzz", "no such key", "children, parallel_start, backoff"),
    **{
        text + line_of: (line, f"{key}.{line_of.split()[0]}", problem, fix)
        for text, line, key in ((R, 4, "supervisor"), (S, 5, "supervisor.s"))
        for line_of, problem, fix in (
            (
                "strategy = 'unknown'",
                'must be "one_for_one", "one_for_all", "rest_for_one" or "simple',
                '"one_for_one"',
            ),
            ("strategy = 'one_for_al'", 'not "one_for_al"', 'did you mean "one_for_all"?'),
            ("strategy = true", "not true", 'write "one_for_one"'),
            ("intensity = -1", "must be at least 0, not -1", "0 or more"),
            ("intensity = 1.5", "must be a whole number, not 1.5", "digits alone"),
            ("period = 0", "at least 1, not 0", '"10s"'),
            ("period = -5", "must be from 0 to 8760h", "500ms"),
            ("auto_shutdown = 'always'", '"never", "any_significant" or "all_significant"', 'write "never"'),
            ("auto_shutdown = 'any'", 'not "any"', 'write "never"'),
            ("auto_shutdown = false", "not false", 'write "never"'),
            ("parallel_start = 'yes'", 'must be true or false, not "yes"', "without quotes"),
        )
    },
    **{
        text + f"strategy = '{strategy}'\nparallel_start = true": (
            line + 1,
            f"{key}.parallel_start",
            f"a {strategy} starts its children one after the other",
            "remove parallel_start, or write false",
        )
        for text, line, key in ((R, 4, "supervisor"), (S, 5, "supervisor.s"))
        for strategy in ("one_for_all", "rest_for_one")
    },
    R + "restart = 'permanent'": (4, "supervisor.restart", "no supervisor that could restart it", "[supervisor.NAME]"),
    R + "restart = 'unknown'": (4, "supervisor.restart", "no supervisor that could restart it", "[supervisor.NAME]"),
    R + "shutdown = 5": (4, "supervisor.shutdown", "no supervisor that could stop it", "remove it"),
    R + "significant = false": (4, "supervisor.significant", "no supervisor that could end with it", "remove it"),
}


@pytest.mark.parametrize("text", FAULTY_FILES)
def test_a_faulty_spec_in_a_file(tmp_path: Path, text: str) -> None:
    """Guards the same in our own words: the line, the key, the problem and the fix."""
    check(tmp_path, text, *FAULTY_FILES[text])


def check(folder: Path, text: str, line: int, key: str, problem: str, fix: str) -> None:
    file = folder / "mlports.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(file)
    error = caught.value
    assert not isinstance(error, ConfigErrors), error
    assert (error.line, error.key) == (line, key)
    assert problem in error.message
    assert fix in str(error.fix)


# Whole trees.


def supervisors(**children: list[str]) -> str:
    """A service, and supervisors with their children, two lines each."""
    return D + "".join(f"[supervisor.{name}]\nchildren = {its}\n" for name, its in children.items())


FAULTY_TREES = {
    supervisors(a=["a"]): (4, "supervisor.a.children[0]", "a supervisor cannot be its own child", "remove it here"),
    supervisors(a=["digits", "b"], b=["a"]): (
        6,
        "supervisor.b.children[0]",
        "in a circle: a → b → a",
        'take "a" out of the children of [supervisor.b]',
    ),
    supervisors(c=["b"], a=["c", "digits"], b=["a"]): (
        6,
        "supervisor.a.children[0]",
        "in a circle: c → b → a → c",
        'take "c" out of the children of [supervisor.a]',
    ),
    supervisors(a=["digit"]): (4, "supervisor.a.children[0]", '"digit"', 'did you mean "digits"?'),
    supervisors(a=["digits", "aa"]): (4, "supervisor.a.children[1]", '"aa"', 'did you mean "a"?'),
    supervisors(a=["xyz"]): (4, "supervisor.a.children[0]", "no service, program or supervisor", "one of digits, a"),
    supervisors(a=["digits/0"]): (4, "supervisor.a.children[0]", "replicas are not named one by one", '"digits"'),
    supervisors(a=["mlports"]): (4, "supervisor.a.children[0]", "the root, which is nobody's child", "remove it"),
    R + "children = ['digit']": (4, "supervisor.children[0]", '"digit"', 'did you mean "digits"?'),
    R + "children = ['mlports']": (4, "supervisor.children[0]", "nobody's child", "remove it"),
    R + "children = 'digits'": (4, "supervisor.children", 'must be an array, not "digits"', 'children = ["digits"]'),
    R + "children = [1]": (4, "supervisor.children[0]", "must be a string, not 1", '"1"'),
    R + "children = [\n'digits',\n'digits',\n]": (6, "supervisor.children[1]", "is named twice", "remove one"),
    supervisors(a=["digits", "digits"]): (4, "supervisor.a.children[1]", "is named twice", "remove one"),
    supervisors(a=["digits"], b=["digits"]): (
        6,
        "supervisor.b.children[0]",
        '[supervisor.a] has "digits" as its child already, and a child has one supervisor',
        "remove it from one of the two",
    ),
    R + "children = ['digits']\n[supervisor.a]\nchildren = ['digits']": (
        6,
        "supervisor.a.children[0]",
        '[supervisor] has "digits" as its child already',
        "one of the two",
    ),
    supervisors(a=["digits"], b=["a"], c=["a"]): (8, "supervisor.c.children[0]", "[supervisor.b] has", "one of the"),
    D + "[program.digits]\ncommand = 'x'": (3, "program.digits", "a service of this name", "[program.digits-1]"),
    supervisors(digits=["digits"]): (3, "supervisor.digits", "a service of this name", "[supervisor.digits-1]"),
    P + "[supervisor.p]\nchildren = ['digits']": (5, "supervisor.p", "a program of this name", "[supervisor.p-1]"),
    "[service.mlports]\ncommand = 'x'": (1, "service.mlports", "the root supervisor's", "[service.mlports-1]"),
    D + "[program.mlports]\ncommand = 'x'": (3, "program.mlports", "the root supervisor's", "[program.mlports-1]"),
    supervisors(mlports=["digits"]): (3, "supervisor.mlports", "the root supervisor's", "[supervisor.mlports-1]"),
    supervisors(Db=["digits"]): (3, "supervisor.Db", "cannot be a supervisor's name", "[supervisor.db]"),
    D + "[program.9]\ncommand = 'x'": (3, "program.9", "cannot be a program's name", "[program.indexer]"),
    **{
        supervisors(**{key: ["digits"]}): (3, f"supervisor.{key}", f"{key} is a key of [supervisor]", f"{key}-1]")
        for key in SupervisorConfig.model_fields
    },
    D + "[supervisor.backof]\ninitial = '1s'": (3, "supervisor.backof", "no such key", 'did you mean "backoff"?'),
    D + "[supervisor.a.b]\nchildren = ['digits']": (
        3,
        "supervisor.a.b",
        "no such key",
        "write [supervisor.b], and name it in the children of a",
    ),
    D + "[[supervisor.a]]\nchildren = ['digits']": (
        3,
        "supervisor.a",
        "must be a table, not an array",
        "[supervisor.a]",
    ),
    D + "[supervisors.a]\nchildren = ['digits']": (3, "supervisors", "no such key", 'did you mean "supervisor"?'),
    "supervisor = 1\n" + D: (1, "supervisor", "must be a table, not 1", "write [supervisor]"),
    "program = 1\n" + D: (1, "program", "must be a table, not 1", "write [program]"),
    P + "[supervisor.a]\nstrategy = 'simple_one_for_one'\nchildren = ['digits', 'p']": (
        7,
        "supervisor.a.children",
        "a simple_one_for_one has exactly one child, and this one has 2",
        "leave one",
    ),
    P + "[supervisor]\nstrategy = 'simple_one_for_one'": (
        6,
        "supervisor.strategy",
        "all that no other supervisor names: p, digits",
        "give the root another strategy",
    ),
    P + "[supervisor]\nstrategy = 'simple_one_for_one'\nchildren = ['digits']": (
        7,
        "supervisor.children",
        "and this one has 2",
        "give the root another strategy",
    ),
    supervisors(b=["digits"], a=["b"]) + "strategy = 'simple_one_for_one'": (
        6,
        "supervisor.a.children",
        '"b" is a supervisor',
        "name a service or a program",
    ),
}


@pytest.mark.parametrize("text", FAULTY_TREES)
def test_what_is_no_tree(tmp_path: Path, text: str) -> None:
    """Guards against an orchestrator that starts a child twice, never, or for ever."""
    check(tmp_path, text, *FAULTY_TREES[text])


def test_all_that_is_wrong_with_a_tree_is_told(tmp_path: Path) -> None:
    """Guards two circles beside each other, and all other faults beside them."""
    file = tmp_path / "mlports.toml"
    file.write_text(supervisors(a=["b"], b=["a"], c=["d", "digit"], d=["c"]) + "significant = true\n")
    with pytest.raises(ConfigErrors) as caught:
        load_config(file)
    assert [(error.line, error.key) for error in caught.value.errors] == [
        (6, "supervisor.b.children[0]"),
        (8, "supervisor.c.children[1]"),
        (10, "supervisor.d.children[0]"),
        (11, "supervisor.d.significant"),
    ]


def service(**more: Any) -> ServiceConfig:
    return ServiceConfig(command="x", **more)


def below(*children: str, **more: Any) -> SupervisorConfig:
    return SupervisorConfig(children=children, **more)


FAULTY_IN_PYTHON: list[tuple[dict[str, Any], Iterable[object], str]] = [
    ({"supervisors": {"a": below("a")}}, ("supervisors", "a", "children", 0), "its own child"),
    ({"supervisors": {"a": below("b"), "b": below("a")}}, ("supervisors", "b", "children", 0), "a → b → a"),
    ({"supervisors": {"a": below()}}, ("supervisors", "a", "children"), "is empty"),
    ({"supervisors": {"a": SupervisorConfig()}}, ("supervisors", "a", "children"), "is missing"),
    ({"supervisors": {"backoff": below("digits")}}, ("supervisors", "backoff", "[key]"), "is a key of [supervisor]"),
    ({"supervisors": {"mlports": below("digits")}}, ("supervisors", "mlports", "[key]"), "the root supervisor's"),
    ({"supervisor": below("digit")}, ("supervisor", "children", 0), 'did you mean "digits"?'),
    ({"supervisor": SupervisorConfig(restart="permanent")}, ("supervisor", "restart"), "the root has no supervisor"),
    ({"supervisor": SupervisorConfig(significant=False)}, ("supervisor", "significant"), "the root has no supervisor"),
    ({"program": {"digits": ProgramConfig(command="x")}}, ("program", "digits"), "a service of this name"),
    ({"service": {"digits": service(significant=True)}}, ("service", "digits", "significant"), "a permanent child"),
]


@pytest.mark.parametrize(("changes", "where", "told"), FAULTY_IN_PYTHON)
def test_what_is_no_tree_in_python(changes: dict[str, Any], where: Iterable[object], told: str) -> None:
    """Guards library users: the same, where it is in what they wrote."""
    with pytest.raises(ValidationError) as caught:
        Config(**{"service": {"digits": service()}, **changes})
    (error,) = caught.value.errors()
    assert error["loc"] == where
    assert told in error["msg"]


def test_parallel_start_goes_by_the_strategy() -> None:
    """Guards the order of a one_for_all and of a rest_for_one."""
    assert SupervisorConfig().starts_together
    assert SupervisorConfig(strategy="simple_one_for_one").starts_together
    assert not SupervisorConfig(parallel_start=False).starts_together
    for strategy in ("one_for_all", "rest_for_one"):
        assert not SupervisorConfig.model_validate({"strategy": strategy}).starts_together
        assert not SupervisorConfig.model_validate({"strategy": strategy, "parallel_start": False}).starts_together
        with pytest.raises(ValidationError, match="their order is a promise"):
            SupervisorConfig.model_validate({"strategy": strategy, "parallel_start": True})
