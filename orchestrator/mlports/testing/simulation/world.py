"""Processes that are not there: supervisors run by the machine of `core.supervision`, and workers that behave as told.

Everything that happens is logged, and happens at a time of `World.now`, in milliseconds. What takes no time happens at
once, in the order in which processes would be woken.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Literal, NamedTuple

from mlports.core import supervision
from mlports.core.supervision import InvalidSpec, Reason, StartCall, Supervisor, flags_from, specs_from
from mlports.core.supervision.api import Instruction
from mlports.testing.simulation.terms import as_erlang

FailMode = Literal["error", "raise", "ignore"]

WORKER, DYNAMIC, SUPERVISOR = "worker", "dynamic", "supervisor"
"""The targets of a `StartCall`. Arguments: id, manners; group, manners, id; id."""


class Manners(NamedTuple):
    """How a worker takes being asked to stop.

    It ignores it (`stubborn`), or ends after `slow` milliseconds with the reason it was given, or with `reply`.
    """

    stubborn: bool = False
    slow: int = 0
    reply: Reason | None = None


class Stuck(Exception):
    """Something is waited for that will never happen."""


class Logged(NamedTuple):
    """A line of the log. Exits in the same group that follow each other have no order among themselves."""

    at: int
    text: str
    group: str | None = None


class Process:
    """One life of a child. It is its own pid."""

    def __init__(self, world: World, id: str, parent: Node | None, group: str | None = None) -> None:
        self.world = world
        self.id = id
        self.parent = parent
        self.group = group
        self.alive = True
        self.doomed = False
        self.reason: Reason = "normal"
        self.name = world.named(self)

    def signal(self, reason: Reason) -> None:
        """Its supervisor asks it to stop, or has ended, with this reason."""
        raise NotImplementedError

    def kill(self) -> None:
        """It will do nothing any more, and ends when it would be woken."""
        self.doomed = True
        self.world.soon(self.die, "killed")

    def die(self, reason: Reason) -> None:
        """It ends."""
        if not self.alive:
            return
        self.alive = False
        self.reason = reason
        self.world.log(f"exit {self.name} {as_erlang(reason)}", self.group)


class Worker(Process):
    """A worker."""

    def __init__(self, world: World, id: str, parent: Node, manners: Manners, group: str | None) -> None:
        super().__init__(world, id, parent, group)
        self.manners = manners
        self.stopping = False

    def signal(self, reason: Reason) -> None:
        if not self.alive or self.doomed or self.stopping or self.manners.stubborn:
            return
        if self.manners.slow:
            self.stopping = True
            self.world.after(self.manners.slow, self.die, reason)
        else:
            self.die(reason if self.manners.reply is None else self.manners.reply)

    def exit(self, reason: Reason) -> None:
        """It ends by itself, unless it is busy with stopping."""
        if not self.stopping:
            self.die(reason)

    def die(self, reason: Reason) -> None:
        if self.alive:
            super().die(reason)
            if self.parent is not None:
                self.parent.exited(self, reason)


class Node(Process):
    """A supervisor. `start` says whether it could be made at all."""

    def __init__(self, world: World, id: str, parent: Node | None) -> None:
        super().__init__(world, id, parent)
        self.children: dict[Process, None] = {}
        self.suspended = False
        self.up = False
        self.machine: Supervisor
        self._inbox: deque[tuple[Callable[..., list[Instruction]], tuple[Any, ...]]] = deque()

    @property
    def settled(self) -> bool:
        """Whether it and every supervisor below it waits for nothing but what may come."""
        if self._inbox or self.machine.phase != "ready":
            return False
        return all(child.settled for child in self.children if isinstance(child, Node) and child.alive)

    @property
    def simple(self) -> bool:
        """Whether it is a simple_one_for_one."""
        return self.machine.flags.strategy == "simple_one_for_one"

    def children_now(self) -> list[supervision.ChildInfo]:
        """What `which_children` would say. Only for one that is settled."""
        (reply,) = self.machine.which_children(None, self.world.now)
        assert isinstance(reply, supervision.Reply)
        assert isinstance(reply.result, supervision.Children)
        return list(reply.result.children)

    def start(self) -> None:
        """Starts it and its children; its parent is told the outcome."""
        self.world.log(f"sup_init {self.name}")
        flags, specs = self.world.families[self.id]
        try:
            checked = flags_from(flags)
        except InvalidSpec as error:
            self.die(("supervisor_data", error.fault))
            return
        try:
            self.machine = Supervisor(checked, specs_from(specs, checked.auto_shutdown))
        except InvalidSpec as error:
            named = isinstance(error.fault, tuple) and error.fault[0] == "bad_start_spec"
            self.die(error.fault if named else ("start_spec", error.fault))
            return
        self._carry_out(self.machine.start(self.world.now))

    def tell(self, method: Callable[..., list[Instruction]], *args: object) -> None:
        """Something for the machine, when its turn comes: a method of it, and the arguments but for the time."""
        if self.alive and not self.doomed:
            self._inbox.append((method, args))
            self.world.soon(self._work)

    def exited(self, child: Process, reason: Reason) -> None:
        """A child has ended."""
        self.children.pop(child, None)
        self.tell(self.machine.exited, child, reason)

    def signal(self, reason: Reason) -> None:
        self.tell(self.machine.stop, reason)

    def resume(self) -> None:
        """It was suspended, and has not looked at anything since."""
        self.suspended = False
        self.world.soon(self._work)

    def release(self) -> None:
        """A start that was held fails."""
        self._carry_out(self.machine.start_failed("gated", self.world.now))

    def die(self, reason: Reason) -> None:
        if not self.alive:
            return
        super().die(reason)
        self._inbox.clear()
        if not self.up:
            self.world.heed_orphans()
            self.world.log(f"sup_fail {self.id} {as_erlang(reason)}")
        elif self.parent is not None:
            self.parent.exited(self, reason)
        # OTP goes through the children in an order of the virtual machine's own; of a few it is mostly this one.
        for child in reversed(self.children):
            self.world.orphan(child, reason)
        if self.parent is not None and not self.up:
            self.parent.children.pop(self, None)
            self.parent.tell(self.parent.machine.start_failed, reason)

    def _work(self) -> None:
        # What comes in meanwhile has its own turn, after those who were woken before.
        for _ in range(len(self._inbox)):
            if self.suspended or self.doomed or not self._inbox:
                return
            method, args = self._inbox.popleft()
            self._carry_out(method(*args, self.world.now))

    def _carry_out(self, instructions: list[Instruction]) -> None:
        todo = deque(instructions)
        while todo:
            instruction = todo.popleft()
            if isinstance(instruction, supervision.Launch | supervision.Report):
                # These take a moment, in which those who lost their supervisor can act.
                self.world.heed_orphans()
            if isinstance(instruction, supervision.Launch):
                todo.extend(self._launch(instruction.start))
            elif isinstance(instruction, supervision.Report):
                offender, reason = as_erlang(instruction.child), as_erlang(instruction.reason)
                self.world.log(f"report {instruction.context} {offender} {reason}")
            elif isinstance(instruction, supervision.Ask):
                self.world.soon(_process(instruction.pid).signal, "shutdown")
            elif isinstance(instruction, supervision.Kill):
                _process(instruction.pid).kill()
            elif isinstance(instruction, supervision.Again):
                self.tell(self.machine.try_again, instruction.child)
            elif isinstance(instruction, supervision.SetTimer):
                self.world.after(instruction.milliseconds, self._timed_out, instruction.timer)
            elif isinstance(instruction, supervision.Reply):
                self.world.replies[instruction.call] = instruction.result
            elif isinstance(instruction, supervision.End):
                self.die(instruction.reason)
            else:
                self.up = True
                self.world.log(f"sup_up {self.name}")
                if self.parent is not None:
                    self.parent.tell(self.parent.machine.started, self)
                for child in self.world.instances.get(self.id, ()):
                    self.tell(self.machine.start_child, None, [child])

    def _timed_out(self, timer: int) -> None:
        if self.alive:
            self._carry_out(self.machine.timed_out(timer, self.world.now))

    def _launch(self, start: StartCall) -> list[Instruction]:
        """Starts a child; what the machine says to the outcome, if that is there already."""
        world, machine, now = self.world, self.machine, self.world.now
        id = str(start.args[2] if start.target == DYNAMIC else start.args[0])
        mode = world.obstacle(id, self)
        if mode == "gate":
            return []
        if mode == "ignore":
            return machine.ignored(now)
        if mode is not None:
            return machine.start_failed("start_failed" if mode == "error" else ("EXIT", "boom"), now)
        if start.target == SUPERVISOR:
            node = Node(world, id, self)
            self.children[node] = None
            node.start()
            return []
        manners = start.args[1]
        assert isinstance(manners, Manners)
        group = str(start.args[0]) if start.target == DYNAMIC else None
        worker = Worker(world, id, self, manners, group)
        self.children[worker] = None
        world.log(f"start {worker.name}")
        return machine.started(worker, now)


class World:
    """All processes of a scenario, their time, and the log."""

    def __init__(self) -> None:
        self.now = 0
        self.logged: list[Logged] = []
        self.families: dict[str, tuple[Mapping[str, object], list[object]]] = {}
        """By a supervisor's id: its flags, and the specifications that it starts with."""
        self.instances: dict[str, list[str]] = {}
        """By a simple_one_for_one's id: the children that it is asked for as soon as it is up."""
        self.latest: dict[str, Process] = {}
        """The last process of each id, dead or alive."""
        self.replies: dict[object, supervision.Result] = {}
        self.failures: dict[str, tuple[int, FailMode]] = {}
        self.gates: set[str] = set()
        self.held: Node | None = None
        """The supervisor that is held at a gate."""
        self._lives: dict[str, int] = {}
        self._orphans: deque[tuple[Process, Reason]] = deque()
        self._events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self._order = count()

    def named(self, process: Process) -> str:
        """A new process's name."""
        self._lives[process.id] = life = self._lives.get(process.id, 0) + 1
        self.latest[process.id] = process
        return f"{process.id}#{life}"

    def running(self, id: str) -> Process | None:
        """The last process of this id, if it is alive."""
        process = self.latest.get(id)
        return process if process is not None and process.alive else None

    def log(self, text: str, group: str | None = None) -> None:
        """Adds a line."""
        self.logged.append(Logged(self.now, text, group))

    def obstacle(self, id: str, supervisor: Node) -> FailMode | Literal["gate"] | None:
        """What stands in the way of a start."""
        if id in self.gates:
            self.gates.remove(id)
            self.held = supervisor
            self.log(f"start_fail {id} gated")
            return "gate"
        times, mode = self.failures.get(id, (0, "error"))
        if times <= 0:
            return None
        self.failures[id] = (times - 1, mode)
        self.log(f"start_fail {id} {mode}")
        return mode

    def orphan(self, child: Process, reason: Reason) -> None:
        """A process's supervisor has ended with this reason."""
        self._orphans.append((child, reason))
        self.soon(self.heed_orphans)

    def heed_orphans(self) -> None:
        """Those who lost their supervisor learn of it."""
        while self._orphans:
            child, reason = self._orphans.popleft()
            child.signal(reason)

    def soon(self, action: Callable[..., None], *args: object) -> None:
        """Does it after all that is to be done now."""
        self.after(0, action, *args)

    def after(self, milliseconds: int, action: Callable[..., None], *args: object) -> None:
        """Does it when this time is over."""
        heapq.heappush(self._events, (self.now + milliseconds, next(self._order), action, args))

    def run(self) -> None:
        """Everything that takes no time."""
        events = self._events
        while events and events[0][0] <= self.now:
            _, _, action, args = heapq.heappop(events)
            action(*args)

    def run_until(self, done: Callable[[], bool], until: int | None = None) -> bool:
        """Lets time pass until it is done, at most `until` a time. Gives whether it is. Raises `Stuck`."""
        self.run()
        while not done():
            if until is not None and (not self._events or self._events[0][0] > until):
                self.now = until
                return False
            if not self._events:
                raise Stuck
            self.now = self._events[0][0]
            self.run()
        return True

    def pass_until(self, time: int) -> None:
        """Lets time pass."""
        while self._events and self._events[0][0] <= time:
            self.now = self._events[0][0]
            self.run()
        self.now = time


def _process(pid: object) -> Process:
    assert isinstance(pid, Process)
    return pid
