"""The supervision tree as it runs: makes the children that its supervisors start, and sees which services are left.

orchestrator ──▶ tree ──▶ supervisor ──▶ replica ──▶ port ──▶ process
                              ├──▶ program ──▶ process
                              └──▶ supervisor ──▶ …
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlports.core.supervision import ChildSpec
from mlports.core.supervision.specs import StartCall
from mlports.runtime.guard import Guard
from mlports.runtime.life import Life, LifeOwner
from mlports.runtime.program import Program, ProgramLife
from mlports.runtime.replica import Replica
from mlports.runtime.service import Service
from mlports.runtime.supervisor import SupervisorLife, key_of
from mlports.telemetry import EventLog
from mlports.tree import ROOT, program_spec

if TYPE_CHECKING:
    from mlports.config import ProgramConfig
    from mlports.tree import Branch


class SupervisionTree:
    """All supervisors, and what they supervise. `settled` is done when all is up that will be."""

    def __init__(
        self,
        branches: Mapping[str, Branch],
        services: Mapping[str, Service],
        programs: Mapping[str, ProgramConfig],
        events: EventLog,
        directory: Path,
        guard: Guard,
    ) -> None:
        self.branches = branches
        self._services = services
        self.programs = {name: Program(name, config, directory, events, guard) for name, config in programs.items()}
        self._events = events
        self._directory = directory
        self._guard = guard
        self._loop = asyncio.get_running_loop()
        self._parents: dict[str, str] = {}  # of each supervisor but the root
        self._homes: dict[str, str] = {}  # the supervisor of each service's replicas
        for branch in branches.values():
            for spec in branch.specs:
                if spec.start.target in ("supervisor", "service"):
                    self._parents[str(spec.id)] = branch.name
                elif spec.start.target == "replica":
                    self._homes[str(spec.start.args[0])] = branch.name
        self.root = SupervisorLife(branches[ROOT], self, events)
        self.supervisors: dict[str, SupervisorLife] = {ROOT: self.root}
        """The last life of each."""
        self.settled: asyncio.Future[None] = self._loop.create_future()
        self._closing = False

    def start(self) -> None:
        """Starts everything."""
        self.root.start()

    async def stop(self, why: str) -> None:
        """Stops everything, in reverse order; returns when no process is left. Cancelled, it kills them first."""
        self._closing = True
        for service in self._services.values():
            service.close()
        self.root.ask(why)
        try:
            await asyncio.shield(self.root.ended)
            for service in self._services.values():
                await service.left()
        except asyncio.CancelledError:
            self.root.kill("it was killed")
            await self.root.ended
            for service in self._services.values():
                service.kill_leaving()
                await service.left()
            raise
        finally:
            for service in self._services.values():
                service.end()

    # -- what supervisors ask for and tell

    def instances(self, branch: Branch) -> Sequence[tuple[object, ...]]:
        """What a simple_one_for_one starts with: the further arguments of each child."""
        start = branch.specs[0].start
        if start.target != "replica":
            return ()
        config = self._services[str(start.args[0])].config
        return [(number,) for number in range(config.replicas + config.standby)]

    def life(self, start: StartCall, owner: LifeOwner, pause: float) -> Life:
        """A new life of this child, not started yet; it is to wait `pause` seconds before it starts."""
        name = str(start.args[0])
        if start.target == "replica":
            return Replica(self._services[name], int(str(start.args[1])), owner, pause)
        if start.target == "program":
            return ProgramLife(self.programs[name], key_of(start), owner, pause)
        life = SupervisorLife(self.branches[name], self, self._events, owner, pause)
        self.supervisors[name] = life
        return life

    def new_program(self, name: str, config: ProgramConfig) -> ChildSpec:
        """A program that is not in the configuration. Raises `ValueError` when the name is taken."""
        known = self.programs.get(name)
        # Its supervisor has forgotten a temporary one that has ended.
        is_over = known is None or (known.config.restart == "temporary" and known.restarts >= 0 and not known.lives)
        if not is_over or name in self._services or name in self.branches:
            raise ValueError(f"there is a child {name!r} already: choose another name")
        self.programs[name] = Program(name, config, self._directory, self._events, self._guard)
        return program_spec(name, config)

    def forget_program(self, name: str) -> None:
        """A program that could not be added, or was deleted."""
        self.programs.pop(name, None)

    def on_changed(self) -> None:
        """A supervisor has come up, has given up, or will not start some child again."""
        for service in self._services.values():
            if not self._closing and service.state != "down":
                reason = self._why_lost(service)
                if reason is not None:
                    service.give_up(reason)
        if not self.settled.done() and (self.root.is_up or self.root.is_ending):
            self.settled.set_result(None)

    def _why_lost(self, service: Service) -> str | None:
        """Why no replica of this service runs or will be started again; None as long as one does or may."""
        home = self._homes[service.name]
        supervisor = self.supervisors.get(home)
        if supervisor is None or supervisor.is_ending:
            return self._why_ended(home)
        if supervisor.expects_replicas(service.name):
            return None
        ended = f"every replica has ended, and restart is {service.config.restart!r}"
        return f"{ended}; the last: {supervisor.last_replica(service.name)}"

    def _why_ended(self, name: str) -> str | None:
        """Why this supervisor has ended for good; None as long as it runs or may be started again."""
        supervisor = self.supervisors.get(name)
        if supervisor is not None and not supervisor.is_ending:
            return None
        story = (supervisor.epitaph if supervisor is not None else "") or f"supervisor {name} was stopped"
        if name == ROOT:
            return f"the root supervisor gave up: {story}"
        parent = self.supervisors.get(self._parents[name])
        if parent is not None and not parent.is_ending:
            return None if parent.will_restart(name) else story
        return self._why_ended(self._parents[name])
