"""The supervision tree that a configuration asks for: each supervisor's flags, and its children's specifications.

The rules
- What `children` names is that supervisor's, in that order. What no supervisor names is the root's, after those that it
  names: programs, then services, then supervisors, each in the file's order.
- A service is as many children as it has replicas, standby ones included, numbered from 0. They are direct children of
  the supervisor that names the service, and of a root that is no one_for_one.
- A service that nobody names, under a one_for_one root, has a supervisor of its own, called like it: a one_for_one with
  the limits of the root. The root does not restart it, so that a service which keeps crashing goes down alone. It ends
  also when none of its replicas runs or will be started again, which can only be if `restart` is not permanent.
- The one child of a simple_one_for_one is a template, started any number of times with further arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlports.core.supervision import ChildId, ChildSpec, StartCall, SupervisorFlags
from mlports.core.supervision.specs import Shutdown

if TYPE_CHECKING:
    from mlports.config import BackoffConfig, Config, ProgramConfig, ServiceConfig, SupervisorConfig

ROOT = "mlports"
"""The root's name."""


@dataclass(frozen=True, slots=True)
class Branch:
    """A supervisor and its children, which start in this order.

    What a `StartCall` names: ("replica", (service, number)), ("program", (name,)), ("supervisor", (name,)), or
    ("service", (name,)) for the supervisor of a service's own; of a template without the number. parallel: whether
    nobody waits for one child to be up before the next is started. backoff: of those children that have one.
    """

    name: str
    flags: SupervisorFlags
    specs: tuple[ChildSpec, ...]
    parallel: bool
    backoff: Mapping[ChildId, BackoffConfig]


Tree = Mapping[str, Branch]
"""All supervisors by their names, `ROOT` first."""


def plan(config: Config) -> dict[str, Branch]:
    """The whole tree."""
    from mlports.config.family import children_of, supervisors_of

    families, supervisors = children_of(config), supervisors_of(config)
    branches = {name: _branch(config, name, supervisors[name], families[name]) for name in families}
    apart = [name for name in families[ROOT] if _is_apart(config, ROOT, name)]
    return branches | {name: _own_branch(config, name) for name in apart}


def program_spec(name: str, program: ProgramConfig) -> ChildSpec:
    """A program as its supervisor knows it."""
    start = StartCall("program", (name,))
    return ChildSpec(name, start, program.restart, _milliseconds(program.shutdown), program.significant)


def replica_spec(name: str, number: int, service: ServiceConfig, significant: bool) -> ChildSpec:
    """A service's replica as its supervisor knows it."""
    start = StartCall("replica", (name, number))
    return ChildSpec(f"{name}/{number}", start, service.restart, _milliseconds(service.shutdown), significant)


def _branch(config: Config, name: str, supervisor: SupervisorConfig, children: list[str]) -> Branch:
    """A supervisor of the configuration."""
    flags = SupervisorFlags(supervisor.strategy, supervisor.intensity, supervisor.period, supervisor.auto_shutdown)
    specs: list[ChildSpec] = []
    backoff: dict[ChildId, BackoffConfig] = {}
    for child in children:
        its, own = _child(config, name, supervisor, child)
        specs += its
        limits = own or supervisor.backoff
        if limits is not None:
            # The supervisor of a service's own is never restarted.
            backoff |= {spec.id: limits for spec in its if spec.start.target != "service"}
    return Branch(name, flags, tuple(specs), supervisor.starts_together, backoff)


def _child(
    config: Config, parent: str, supervisor: SupervisorConfig, child: str
) -> tuple[list[ChildSpec], BackoffConfig | None]:
    """What a supervisor's child of this name is to it, several children if it is a service; and its own backoff."""
    if child in config.supervisors:
        return [_supervisor_spec(child, config.supervisors[child])], None
    if child in config.program:
        return [program_spec(child, config.program[child])], config.program[child].backoff
    service = config.service[child]
    if _is_apart(config, parent, child):
        return [_apart_spec(child, service)], None
    if supervisor.strategy == "simple_one_for_one":
        return [_template(child, service)], service.backoff
    return _replicas(child, service, service.significant), service.backoff


def _template(name: str, service: ServiceConfig) -> ChildSpec:
    start = StartCall("replica", (name,))
    return ChildSpec(name, start, service.restart, _milliseconds(service.shutdown), service.significant)


def _apart_spec(name: str, service: ServiceConfig) -> ChildSpec:
    """A service's own supervisor as the root knows it."""
    start = StartCall("service", (name,))
    return ChildSpec(name, start, "temporary", "infinity", service.significant, "supervisor")


def _supervisor_spec(name: str, supervisor: SupervisorConfig) -> ChildSpec:
    start, shutdown = StartCall("supervisor", (name,)), _milliseconds(supervisor.shutdown)
    return ChildSpec(name, start, supervisor.restart, shutdown, supervisor.significant, "supervisor")


def _own_branch(config: Config, name: str) -> Branch:
    """The supervisor of a service that nobody names."""
    service, root = config.service[name], config.supervisor
    may_end = service.restart != "permanent"
    flags = SupervisorFlags("one_for_one", root.intensity, root.period, "all_significant" if may_end else "never")
    specs = tuple(_replicas(name, service, may_end))
    limits = service.backoff or root.backoff
    return Branch(name, flags, specs, root.starts_together, {spec.id: limits for spec in specs} if limits else {})


def _replicas(name: str, service: ServiceConfig, significant: bool) -> list[ChildSpec]:
    numbers = range(service.replicas + service.standby)
    return [replica_spec(name, number, service, significant) for number in numbers]


def _is_apart(config: Config, parent: str, child: str) -> bool:
    """Whether a child is a service with a supervisor of its own."""
    root = config.supervisor
    return child in config.service and parent == ROOT and root.strategy == "one_for_one" and child not in root.children


def _milliseconds(shutdown: float | str) -> Shutdown:
    if shutdown == "brutal_kill" or shutdown == "infinity":
        return "brutal_kill" if shutdown == "brutal_kill" else "infinity"
    return round(float(shutdown) * 1000)
