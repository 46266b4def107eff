"""The children of one supervisor, by their ids and by their pids, and what can be asked about them."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping

from mlports.core.supervision.api import (
    ChildInfo,
    Children,
    Counts,
    NotFound,
    Pid,
    Restarting,
    Running,
    SimpleOneForOne,
)
from mlports.core.supervision.specs import ChildId, ChildSpec, InvalidSpec, StartCall, SupervisorFlags, spec_from


class Child:
    """A child: undefined (no pid), running, or restarting. A restarting one has the pid of its last life, if any."""

    __slots__ = ("pid", "restarting", "spec", "start")

    def __init__(self, spec: ChildSpec, start: StartCall) -> None:
        self.spec = spec
        self.start = start
        self.pid: Pid | None = None
        self.restarting = False

    @property
    def running(self) -> bool:
        """Whether it is up, as far as has been told."""
        return self.pid is not None and not self.restarting


class Roster:
    """The children, in the order of their start. Raises `InvalidSpec` for specifications that cannot be together.

    Those of a simple_one_for_one have no ids but all one `template`, and are known by their pids, the restarting ones
    by the last; of the others `by_pid` has those that have one.
    """

    def __init__(self, flags: SupervisorFlags, specs: list[ChildSpec]) -> None:
        self._simple = flags.strategy == "simple_one_for_one"
        if self._simple and len(specs) != 1:
            fault = ("bad_start_spec", specs)
            raise InvalidSpec(fault, f"a simple_one_for_one has one specification for all children, not {len(specs)}")
        self.template = specs[0] if self._simple else None
        self.by_id: dict[ChildId, Child] = {}
        self.by_pid: dict[Pid, Child] = {}
        self._known: Mapping[Hashable, Child] = self.by_pid if self._simple else self.by_id
        for spec in specs:
            spec_from(spec, flags.auto_shutdown)
            if spec.id in self.by_id:
                raise InvalidSpec(("duplicate_child_name", spec.id), f"two children have the id {spec.id!r}")
            if not self._simple:
                self.by_id[spec.id] = Child(spec, spec.start)

    # --- Changes

    def set_pid(self, child: Child, pid: Pid | None) -> None:
        """The child runs with this pid, or not at all, and is not restarting."""
        if child.pid is not None:
            self.by_pid.pop(child.pid, None)
        child.pid = pid
        child.restarting = False
        if pid is not None:
            self.by_pid[pid] = child

    def put_down(self, child: Child) -> None:
        """The child does not run any more: a temporary one is forgotten; of another the specification stays."""
        self.set_pid(child, None)
        if child.spec.restart == "temporary":
            self.by_id.pop(child.spec.id, None)

    # --- Questions. A child's name is its id, or in a simple_one_for_one its pid

    def find(self, name: ChildId | Pid) -> Child | None:
        """The child of this name."""
        return self._known.get(name)

    def stopped(self, id: ChildId) -> Child | NotFound | Running | Restarting | SimpleOneForOne:
        """The child of this id if it is stopped; else what a call is told who wanted a stopped one."""
        if self._simple:
            return SimpleOneForOne()
        child = self.by_id.get(id)
        if child is None:
            return NotFound()
        if child.restarting:
            return Restarting()
        return child if child.pid is None else Running()

    def spec(self, name: ChildId | Pid) -> ChildSpec | None:
        """The specification of the child of this name. A template is found by its own id too."""
        if self.template is not None and name == self.template.id:
            return self.template
        child = self._known.get(name)
        return None if child is None else child.spec

    def significant(self) -> bool:
        """Whether a significant child is running or restarting."""
        children = self._known.values()
        return any(one.spec.significant and (one.restarting or one.pid is not None) for one in children)

    def infos(self) -> Children:
        """What `which_children` tells."""
        children: Iterable[Child] = self.by_pid.values() if self._simple else reversed(self.by_id.values())
        return Children(tuple(self._info(child) for child in children))

    def _info(self, child: Child) -> ChildInfo:
        spec = child.spec
        return ChildInfo(
            None if self._simple else spec.id,
            "restarting" if child.restarting else child.pid,
            spec.type,
            spec.modules,
        )

    def counts(self) -> Counts:
        """What `count_children` tells."""
        children = self._known.values()
        active = sum(1 for child in children if child.running)
        supervisors = sum(1 for child in children if child.spec.type == "supervisor")
        specs = 1 if self._simple else len(children)
        return Counts(specs, active, supervisors, len(children) - supervisors)
