"""What the services of an mlports.toml would do if their replicas crashed at given times.

Crashes are listed one a line, what follows a # is a comment, and the order of the lines does not matter:

    TIME SERVICE/REPLICA REASON

TIME is since the start: 250ms, 1.5s, 2m, 1h, or a number of seconds. REASON is `normal` (it exits with status 0),
`shutdown` (it was stopped on purpose), `kill`, or any other word for an abnormal end. A replica that is not running
then cannot crash, which is told.

Each service has a supervisor of its own, with the limits of [supervisor]; one that gives up is not started again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

from mlports.core.supervision import Reason
from mlports.testing.simulation.scenario import ScenarioError, in_order, tree
from mlports.testing.simulation.world import SUPERVISOR, WORKER, Manners, Node, Worker, World

if TYPE_CHECKING:
    from mlports.config import Config

ROOT = "mlports"
"""The id of the supervisor of all services' supervisors."""

_LINE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?\s+([^\s/]+)/([0-9]+)\s+([a-z][A-Za-z0-9_:@-]*)")
_MILLISECONDS = {"ms": 1, "s": 1000, None: 1000, "m": 60_000, "h": 3_600_000}


class Crash(NamedTuple):
    """A replica's end, `at` so many milliseconds after the start."""

    at: int
    service: str
    replica: int
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
            raise ScenarioError(
                f"{text!r} is no crash",
                file=file,
                line=number,
                fix="write TIME SERVICE/REPLICA REASON: 1.5s digits/0 kill",
            )
        amount, unit, service, replica, reason = found.groups()
        if service not in config.service:
            known = ", ".join(config.service)
            raise ScenarioError(f"there is no service {service}", file=file, line=number, fix=f"name one of {known}")
        replicas = config.service[service].replicas
        if int(replica) >= replicas:
            raise ScenarioError(
                f"{service} has no replica {replica}",
                file=file,
                line=number,
                fix=f"name one from {service}/0 to {service}/{replicas - 1}",
            )
        crashes.append(Crash(int(Fraction(amount) * _MILLISECONDS[unit]), service, int(replica), reason))
    return sorted(crashes, key=lambda crash: crash.at)


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
        id = f"{crash.service}/{crash.replica}"
        process = world.running(id)
        yield Moment(crash.at, f"> {id} {crash.reason}")
        if not isinstance(process, Worker):
            yield Moment(crash.at, f"{id} is not running")
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
    limits = {"intensity": config.supervisor.intensity, "period": config.supervisor.period}
    supervisors: list[dict[str, object]] = []
    for name, service in config.service.items():
        shutdown = service.shutdown if isinstance(service.shutdown, str) else int(service.shutdown * 1000)
        replicas: list[dict[str, object]] = [
            {
                "id": (id := f"{name}/{replica}"),
                "start": (WORKER, [id, Manners()]),
                "restart": service.restart,
                "shutdown": shutdown,
            }
            for replica in range(service.replicas)
        ]
        world.families[name] = ({"strategy": config.supervisor.strategy, **limits}, replicas)
        start = (SUPERVISOR, [name])
        supervisors.append({"id": name, "start": start, "restart": "temporary", "type": "supervisor"})
    world.families[ROOT] = (limits, supervisors)
    return world
