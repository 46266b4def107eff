"""What the supervision tree of an mlports.toml would do if replicas and programs crashed at given times.

Crashes are listed one a line, what follows a # is a comment, and the order of the lines does not matter:

    TIME SERVICE/REPLICA REASON
    TIME PROGRAM REASON

TIME is since the start: 250ms, 1.5s, 2m, 1h, or a number of seconds. REASON is `normal` (it exits with status 0),
`shutdown` (it was stopped on purpose), `kill`, or any other word for an abnormal end. What is not running then cannot
crash, which is told.

The tree is the one that would run, see `mlports.tree`. Of a simple_one_for_one as many are started as its service has
replicas, standby ones included; if its template is a program, none are.

Children start and stop in no time here. So these are not played: backoff, parallel starts, what a child is given time
for, and the calls' side of standby replicas: which ones are in use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from mlports.core.supervision import ChildSpec, Reason, StartCall
from mlports.testing.simulation.scenario import ScenarioError, in_order, tree
from mlports.testing.simulation.world import DYNAMIC, SUPERVISOR, WORKER, Manners, Node, Worker, World
from mlports.tree import ROOT, Branch, plan

if TYPE_CHECKING:
    from mlports.config import Config

_LINE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?\s+([^\s/]+)(?:/([0-9]+))?\s+([a-z][A-Za-z0-9_:@-]*)")
_MILLISECONDS = {"ms": 1, "s": 1000, None: 1000, "m": 60_000, "h": 3_600_000}
_WRITE = "write TIME SERVICE/REPLICA REASON, or TIME PROGRAM REASON: 1.5s digits/0 kill"


class Crash(NamedTuple):
    """The end of a replica, `digits/0`, or of a program, `indexer`, `at` so many milliseconds after the start."""

    at: int
    child: str
    reason: Reason


class Moment(NamedTuple):
    """A line of what happens, and when, in milliseconds."""

    at: int
    text: str


def read_crashes(lines: Iterable[str], config: Config, file: str | None = None) -> list[Crash]:
    """The crashes, in the order of their times. `file` is named in errors. Raises `ScenarioError`."""
    crashes = []
    for number, line in enumerate(lines, 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        found = _LINE.fullmatch(text)
        if found is None:
            raise ScenarioError(f"{text!r} is no crash", file=file, line=number, fix=_WRITE)
        amount, unit, name, replica, reason = found.groups()
        wrong = _no_such_child(config, name, replica)
        if wrong:
            raise ScenarioError(wrong[0], file=file, line=number, fix=wrong[1])
        child = name if replica is None else f"{name}/{int(replica)}"
        crashes.append(Crash(int(Fraction(amount) * _MILLISECONDS[unit]), child, reason))
    return sorted(crashes, key=lambda crash: crash.at)


def _no_such_child(config: Config, name: str, replica: str | None) -> tuple[str, str] | None:
    """What is wrong with a child's name, and the fix."""
    if name in config.program:
        return (f"{name} is a program, which has no replicas", f"write {name} alone") if replica is not None else None
    if name not in config.service:
        return f"there is no service or program {name}", f"name one of {', '.join([*config.service, *config.program])}"
    service = config.service[name]
    last = service.replicas + service.standby - 1
    if replica is not None and int(replica) <= last:
        return None
    problem = f"{name} is a service" if replica is None else f"{name} has no replica {replica}"
    return problem, f"name one from {name}/0 to {name}/{last}"


def play_crashes(config: Config, crashes: Iterable[Crash]) -> Iterator[Moment]:
    """What happens, from the start to the state after the last crash; `crashes` in the order of their times."""
    world = _world_of(config)
    root = Node(world, ROOT, None)
    root.start()
    world.run()
    yield from _moments(world, root, "started")
    for crash in crashes:
        world.pass_until(crash.at)
        # Those of the same time follow each other: each finds what the one before has left.
        process = world.running(crash.child)
        yield Moment(crash.at, f"> {crash.child} {crash.reason}")
        if not isinstance(process, Worker):
            yield Moment(crash.at, f"{crash.child} is not running")
            continue
        process.die("killed" if crash.reason == "kill" else crash.reason)
        world.run_until(lambda: not root.alive or root.settled)
        yield from _moments(world, root, "state")


def _moments(world: World, root: Node, word: str) -> Iterator[Moment]:
    logged, world.logged = world.logged, []
    times = iter([line.at for line in logged])
    yield from (Moment(next(times), text) for text in in_order(logged))
    yield Moment(world.now, f"{word} {tree(root)}" if root.alive else f"{word} root_dead")


def _world_of(config: Config) -> World:
    world = World()
    for branch in plan(config).values():
        world.families[branch.name] = (asdict(branch.flags), [_played(spec, branch) for spec in branch.specs])
        service = config.service.get(str(branch.specs[0].id)) if branch.specs else None
        if branch.flags.strategy == "simple_one_for_one" and service is not None:
            numbers = range(service.replicas + service.standby)
            world.instances[branch.name] = [f"{branch.specs[0].id}/{number}" for number in numbers]
    return world


def _played(spec: ChildSpec, branch: Branch) -> ChildSpec:
    """The child as one of the world."""
    id = str(spec.id)
    if spec.type == "supervisor":
        return replace(spec, start=StartCall(SUPERVISOR, (id,)))
    if branch.flags.strategy == "simple_one_for_one":
        return replace(spec, start=StartCall(DYNAMIC, (branch.name, Manners())))
    return replace(spec, start=StartCall(WORKER, (id, Manners())))
