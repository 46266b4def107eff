"""Who is whose child, and whether that makes a tree.

What `children` names is that supervisor's, in that order. What no supervisor names is the root's, after those that it
names: programs, then services, then supervisors, each in the file's order.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from mlports.config.values import ROOT, nearest, shown
from mlports.toml_lines import Key

if TYPE_CHECKING:
    from mlports.config.models import Config, ProgramConfig, ServiceConfig, SupervisorConfig

OF_A_CHILD = {
    "restart": "restart it",
    "shutdown": "stop it",
    "significant": "end with it",
}
"""Keys of a [supervisor.NAME] that the root cannot have, and what its own supervisor does by them."""


class Problem(NamedTuple):
    """What is wrong with a value, and what to write instead."""

    key: Key
    value: object
    problem: str
    fix: str


def children_of(config: Config) -> dict[str, list[str]]:
    """The children's names of every supervisor by its name, `ROOT` first."""
    families = {name: list(supervisor.children) for name, supervisor in supervisors_of(config).items()}
    named = set(chain.from_iterable(families.values()))
    everything = (*config.program, *config.service, *config.supervisors)
    families[ROOT] += [name for name in everything if name not in named]
    return families


def supervisors_of(config: Config) -> dict[str, SupervisorConfig]:
    """Every supervisor by its name, `ROOT` first."""
    return {ROOT: config.supervisor, **config.supervisors}


def problems(config: Config) -> Iterator[Problem]:
    """Why there is no such tree, or why its supervisors could not be OTP's."""
    checks = (_of_the_root, _names, _children, _circles, _significant, _templates)
    return chain.from_iterable(one(config) for one in checks)


def for_the_root(key: str) -> tuple[str, str]:
    """The problem with a key of `OF_A_CHILD` that the root was given, and the fix."""
    return f"the root has no supervisor that could {OF_A_CHILD[key]}", f"remove it; {key} is for a [supervisor.NAME]"


def _of_the_root(config: Config) -> Iterator[Problem]:
    for key in OF_A_CHILD:
        if key in config.supervisor.model_fields_set:
            yield Problem(("supervisor", key), getattr(config.supervisor, key), *for_the_root(key))


def _names(config: Config) -> Iterator[Problem]:
    """A name means one thing."""
    taken = dict.fromkeys(config.service, "service")
    for table, kind, names in (
        ("program", "program", list(config.program)),
        ("supervisors", "supervisor", list(config.supervisors)),
    ):
        for name in names:
            if name in taken:
                problem = f"there is a {taken[name]} of this name: children are told apart by their names alone"
                yield Problem((table, name), name, problem, f"call one of the two differently: [{kind}.{name}-1]")
        taken |= {name: kind for name in names if name not in taken}


def _children(config: Config) -> Iterator[Problem]:
    """Each child is there, and has one supervisor."""
    known = [*config.service, *config.program, *config.supervisors]
    named_by: dict[str, str] = {}
    for supervisor, its in supervisors_of(config).items():
        if supervisor != ROOT and not its.children:
            yield _childless(config, supervisor)
        for index, child in enumerate(its.children):
            key = (*_key(supervisor), "children", index)
            if child not in known:
                yield Problem(key, child, *_unknown(child, known, config))
            elif child == supervisor and child not in (*config.service, *config.program):
                yield Problem(key, child, "a supervisor cannot be its own child", "remove it here")
            elif named_by.setdefault(child, supervisor) != supervisor:
                other = f"{_table(named_by[child])} has {shown(child)} as its child already"
                yield Problem(key, child, f"{other}, and a child has one supervisor", "remove it from one of the two")
            elif child in its.children[:index]:
                yield Problem(key, child, f"{shown(child)} is named twice", "remove one of the two")


def _childless(config: Config, supervisor: str) -> Problem:
    key = (*_key(supervisor), "children")
    free = next((name for name in children_of(config)[ROOT] if name not in config.supervisors), "digits")
    if "children" not in config.supervisors[supervisor].model_fields_set:
        return Problem(key, [], "is missing", f"add children = [{shown(free)}], or what else it is to supervise")
    return Problem(key, [], "is empty", f"name what it supervises, or remove {_table(supervisor)}")


def _unknown(child: str, known: list[str], config: Config) -> tuple[str, str]:
    problem = f"there is no service, program or supervisor {shown(child)}"
    if child == ROOT:
        return f"{shown(child)} is the root, which is nobody's child", "remove it"
    if child.partition("/")[0] in config.service:
        return (
            f"{problem}: replicas are not named one by one",
            f"write {shown(child.partition('/')[0])} for all of them",
        )
    near = nearest(child, known)
    return problem, f"did you mean {shown(near)}?" if near else f"name one of {', '.join(known)}"


def _circles(config: Config) -> Iterator[Problem]:
    """No supervisor is below itself."""
    parents: dict[str, str] = {}
    for name, supervisor in config.supervisors.items():
        for child in supervisor.children:
            if child in config.supervisors and child != name:
                parents.setdefault(child, name)
    seen: set[str] = set()
    for name in config.supervisors:
        # Upwards from each, as far as nobody has been.
        way: list[str] = []
        at: str | None = name
        while at is not None and at not in seen:
            seen.add(at)
            way.append(at)
            at = parents.get(at)
        if at in way:
            circle = [*way[way.index(at) :], at][::-1]
            below, above = circle[0], circle[-2]
            key = (*_key(above), "children", config.supervisors[above].children.index(below))
            problem = f"supervisors go round in a circle: {' → '.join(circle)}"
            yield Problem(key, below, problem, f"take {shown(below)} out of the children of {_table(above)}")


def _significant(config: Config) -> Iterator[Problem]:
    """A significant child's end means something to its supervisor."""
    parents = {child: name for name, children in children_of(config).items() for child in children}
    everything: dict[Key, ServiceConfig | ProgramConfig | SupervisorConfig] = {
        **{("service", name): one for name, one in config.service.items()},
        **{("program", name): one for name, one in config.program.items()},
        **{("supervisors", name): one for name, one in config.supervisors.items()},
    }
    for key, child in everything.items():
        parent = parents[str(key[1])]
        if not child.significant:
            continue
        if child.restart == "permanent":
            problem = "a permanent child is always restarted, so it cannot be significant"
            fix = 'write restart = "transient" or "temporary", or remove significant'
            yield Problem((*key, "significant"), True, problem, fix)
        elif supervisors_of(config)[parent].auto_shutdown == "never":
            problem = f'is of no use: its supervisor, {_table(parent)}, has auto_shutdown = "never"'
            fix = f'write auto_shutdown = "any_significant" or "all_significant" in {_table(parent)}'
            yield Problem((*key, "significant"), True, problem, fix)


def _templates(config: Config) -> Iterator[Problem]:
    """A simple_one_for_one has one child, of which it starts any number."""
    families = children_of(config)
    for name, supervisor in supervisors_of(config).items():
        children = families[name]
        if supervisor.strategy != "simple_one_for_one" or not children:
            continue
        key = (*_key(name), "children" if supervisor.children else "strategy")
        if len(children) > 1:
            problem = f"a simple_one_for_one has exactly one child, and this one has {len(children)}"
            if name == ROOT:
                problem += f", all that no other supervisor names: {', '.join(children)}"
                fix = "give the root another strategy, and this one to a [supervisor.NAME] with one child"
            else:
                fix = 'leave one, or write strategy = "one_for_one"'
            yield Problem(key, children, problem, fix)
        elif children[0] in config.supervisors:
            problem = f"{shown(children[0])} is a supervisor, of which a simple_one_for_one could start only one"
            yield Problem(key, children, problem, "name a service or a program")


def _key(supervisor: str) -> Key:
    return ("supervisor",) if supervisor == ROOT else ("supervisors", supervisor)


def _table(supervisor: str) -> str:
    """A supervisor as the file names it."""
    return "[supervisor]" if supervisor == ROOT else f"[supervisor.{supervisor}]"
