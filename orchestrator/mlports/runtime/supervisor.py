"""A running supervisor: carries out on real children what `core.supervision.Supervisor` decides.

What happens is told to the machine one thing after the other, in the order in which it happened; its instructions are
carried out at once. To its own supervisor, if it has one, it is a child like any other.

With `parallel` its children are started together. The machine is then told that a child has started as soon as it was
set off, so that it can go on; what else becomes of it is an end like any other. Only as long as the children come up
for the first time, one that does not ends the supervisor, as with OTP. They are asked to stop together as well.
"""

from __future__ import annotations

import asyncio
import gc
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from mlports.core import supervision
from mlports.core.backoff import Backoff, BackoffLimits
from mlports.core.supervision import ChildId, Reason, Result, Supervisor
from mlports.core.supervision.api import Instruction
from mlports.core.supervision.specs import Shutdown, StartCall
from mlports.runtime.life import Ending, Life, LifeOwner
from mlports.runtime.process import SpawnFailed
from mlports.telemetry import EventLog

if TYPE_CHECKING:
    from mlports.runtime.tree import SupervisionTree
    from mlports.tree import Branch

_IN_A_ROW = 32  # processes that are started before the event loop has a turn: that many take some 20 ms


class SupervisorLife:
    """One life of a supervisor, with the children of `branch`. `owner` is its own supervisor; the root has none."""

    def __init__(
        self,
        branch: Branch,
        tree: SupervisionTree,
        events: EventLog,
        owner: LifeOwner | None = None,
        pause: float = 0.0,
    ) -> None:
        self.branch = branch
        self.key = branch.name
        self.label: Mapping[str, Any] = {"supervisor": branch.name}
        self.pid = None
        self.ended: asyncio.Future[Reason] = asyncio.get_running_loop().create_future()
        self.epitaph = ""  # why it ended, for people
        self._tree = tree
        self._events = events
        self._owner = owner
        self._pause = pause
        self._loop = asyncio.get_running_loop()
        self._machine = Supervisor(branch.flags, branch.specs)
        self._is_simple = branch.flags.strategy == "simple_one_for_one"
        self._shutdowns: dict[ChildId, Shutdown] = {}
        self._began = time.monotonic()
        self._inbox: deque[tuple[Callable[..., list[Instruction]], tuple[Any, ...]]] = deque()
        self._working = False
        self._lives: dict[Life, ChildId] = {}
        self._running: dict[ChildId, Life] = {}  # the last life of each child that has one
        self._launching: Life | None = None
        self._first: set[Life] = set()  # set off at first, and not up yet
        self._wanted: set[ChildId] = set()  # those of a simple_one_for_one that are still to be set off
        self._apart: set[Life] = set()  # those whose failure to start is their own affair
        self._waits_again: set[ChildId] = set()
        self._lost: set[ChildId] = set()  # have ended, and it is not known yet whether for good
        self._backoffs: dict[ChildId, Backoff] = {}
        self._crashed: dict[ChildId, float] = {}  # how long those had run that ended by themselves
        self._in_a_row = 0
        self._answers: set[asyncio.Future[Result]] = set()  # those that are waited for
        self._culprit: ChildId | None = None  # the last that ended by itself
        self._up = False  # all its children were started, and perhaps only set off
        self._was_up = False  # all of them had come up
        self._start_failed = False
        self._seen_ending = False
        self._killed = False
        self._why_asked: str | None = None
        self._last: dict[ChildId, str] = {}  # the last end of each child, for people
        self._timer: asyncio.TimerHandle | None = None
        self._pause_timer: asyncio.TimerHandle | None = None
        self._kill_timer: asyncio.TimerHandle | None = None

    # -- what its own supervisor asks for, or the orchestrator of the root

    def start(self) -> None:
        if self._pause:
            self._pause_timer = self._loop.call_later(self._pause, self._start)
        else:
            self._start()

    def _start(self) -> None:
        self._pause_timer = None
        self._began = time.monotonic()
        self.tell(self._machine.start)

    def ask(self, why: str, within: Shutdown | None = None) -> None:
        if self._why_asked is not None or self.ended.done():
            return
        self._why_asked = why
        if self._machine.phase == "new":  # it pauses, or never was started
            if self._pause_timer is not None:
                self._pause_timer.cancel()
            self._loop.call_soon(self._end, "shutdown")
            return
        if self._launching is not None:
            # OTP would wait until it is up; nobody wants that of a model that takes minutes to load.
            self._ask_to_end(self._launching)
        self.tell(self._machine.stop, "shutdown")
        if isinstance(within, int):
            self._kill_timer = self._loop.call_later(within / 1000, self.kill, why)

    def _ask_to_end(self, life: Life) -> None:
        child = self._lives.get(life)
        if child is not None:  # else it has ended, which the machine is told next
            life.ask(self._why(), self._shutdowns[child])

    def _why(self) -> str:
        if self._why_asked or self.epitaph:
            return self._why_asked or self.epitaph
        strategy = self.branch.flags.strategy
        if self._culprit is not None and strategy in ("one_for_all", "rest_for_one"):
            return f"it is started again together with {self._culprit}, as {strategy} has it"
        return "its supervisor was asked for it"

    def kill(self, why: str) -> None:
        """Kills all that is below it. It has ended when all of that is gone."""
        if self._killed or self.ended.done():
            return
        self._killed = True
        if self._pause_timer is not None:
            self._pause_timer.cancel()
        for life in list(self._lives):
            life.kill(why)
        if not self._lives:
            self._loop.call_soon(self._end, "killed")

    # -- what is asked about its children

    async def ask_about(self, method: Callable[..., list[Instruction]], *args: object) -> Result:
        """The machine's answer to one of its calls, see `core.supervision.api`."""
        answer: asyncio.Future[Result] = self._loop.create_future()
        self._answers.add(answer)
        self.tell(method, answer, *args)
        try:
            return await answer
        finally:
            self._answers.discard(answer)

    def running(self, child: ChildId) -> Life | None:
        """The life of this child, if it runs or is being started."""
        return self._running.get(child)

    def next_instance(self) -> int:
        """The number of one child more of a simple_one_for_one, which is taken from now on."""
        name, number = self.branch.specs[0].id, 0
        taken = {*self._running, *self._waits_again, *self._lost, *self._wanted}
        while f"{name}/{number}" in taken:
            number += 1
        self._wanted.add(f"{name}/{number}")
        return number

    @property
    def machine(self) -> Supervisor:
        """What decides."""
        return self._machine

    @property
    def is_up(self) -> bool:
        """Whether all its children have come up, or will not."""
        return self._up and not self._first and not self._wanted

    @property
    def is_ending(self) -> bool:
        """Whether it has given up, was asked to stop or was killed, and stops what it has; or is through with that."""
        return self._killed or self._machine.ending or self.ended.done()

    def expects(self, child: ChildId) -> bool:
        """Whether this child runs, or may be started again without a further event."""
        if self.is_ending:
            return False
        undecided = self._machine.phase != "ready" or bool(self._inbox)
        return undecided or child in self._running or child in self._waits_again

    def will_restart(self, child: ChildId) -> bool:
        """Whether this child, a supervisor that ends or has ended, may be started again without a further event."""
        life = self._running.get(child)
        is_first = life is not None and life is self._launching and life not in self._apart
        if life is None or is_first or self._machine.phase == "stopping":
            return self.expects(child)
        # It gives up by itself.
        return any(spec.id == child and spec.restart == "permanent" for spec in self.branch.specs)

    def expects_replicas(self, service: str) -> bool:
        """Whether a replica of this service runs, or may be started again without a further event."""
        if self.is_ending:
            return False
        if self._machine.phase != "ready" or self._inbox:
            return True
        return any(_is_replica(child, service) for child in (*self._running, *self._waits_again))

    def last_replica(self, service: str) -> str:
        """The last end of a replica of this service, for people."""
        ends = [story for child, story in self._last.items() if _is_replica(child, service)]
        return ends[-1] if ends else "none was started"

    # -- what its children tell

    def on_up(self, life: Life) -> None:
        first = life in self._first
        self._first.discard(life)
        if life is self._launching:
            self._launching = None
            self.tell(self._machine.started, life)
        elif first:
            self._come_up()

    def on_gone(self, life: Life, ending: Ending) -> None:
        child = self._lives.pop(life)
        if self._running.get(child) is life:
            del self._running[child]
        self._last.pop(child, None)
        self._last[child] = ending.story  # the newest at the end
        if not ending.asked:
            self._crashed[child] = ending.uptime if ending.was_up else 0.0
        apart = life in self._apart
        failed_first = life in self._first and not apart and not self._is_simple and not ending.was_up
        self._first.discard(life)
        self._apart.discard(life)
        if self._killed:
            if not self._lives:
                self._end("killed")
            return
        self._lost.add(child)
        self._culprit = None if ending.asked else child
        if life is self._launching:
            self._launching = None
            if not apart:
                self.tell(self._machine.start_failed, ending.reason)
                return
            self.tell(self._machine.started, life)
        if failed_first and self._why_asked is None and not self._machine.ending:
            self.epitaph = f"failed to start child {child}: {ending.story}"
            self._start_failed = True
            self.tell(self._machine.stop, ("shutdown", ("failed_to_start_child", child, ending.reason)))
        reason = ending.reason
        if not ending.was_up and supervision.is_normal(reason) and self._why_asked is None:
            reason = ("start_failed", reason)
        self.tell(self._machine.exited, life, reason)
        self._come_up()

    # -- the machine

    def tell(self, event: Callable[..., list[Instruction]], *args: object) -> None:
        """Tells the machine something, behind all that it is to be told already."""
        self._inbox.append((event, args))
        if self._working:
            return
        self._working = True
        # Of a thousand children that are started in a row nothing is garbage: the collector would look in vain.
        collecting = gc.isenabled()
        gc.disable()
        try:
            while self._inbox:
                event, args = self._inbox.popleft()
                for instruction in event(*args, int(time.monotonic() * 1000)):
                    self._carry_out(instruction)
        finally:
            self._working = False
            if collecting:
                gc.enable()
        if self._machine.ending and not self._seen_ending:
            self._seen_ending = True
            self._tell_its_end()
            if self.branch.parallel:
                for life in list(self._lives):
                    self._ask_to_end(life)
            self._tree.on_changed()
        elif self._lost and self._machine.phase == "ready":
            gone = [child for child in self._lost if not self.expects(child)]
            self._lost.clear()
            if gone:
                self._tree.on_changed()

    def _carry_out(self, instruction: Instruction) -> None:
        if self._killed:
            return
        if isinstance(instruction, supervision.Launch):
            self._launch(instruction)
        elif isinstance(instruction, supervision.Ask):
            self._ask_to_end(_life(instruction.pid))
        elif isinstance(instruction, supervision.Kill):
            _life(instruction.pid).kill(self._why())
        elif isinstance(instruction, supervision.SetTimer):
            self._cancel_timer()
            seconds = instruction.milliseconds / 1000
            self._timer = self._loop.call_later(seconds, self.tell, self._machine.timed_out, instruction.timer)
        elif isinstance(instruction, supervision.Again):
            child = _life(instruction.child).key if self._is_simple else instruction.child
            self._waits_again.add(child)
            self._loop.call_soon(self._try_again, child, instruction.child)
        elif isinstance(instruction, supervision.Report):
            self._report(instruction)
        elif isinstance(instruction, supervision.Reply):
            self._answer(instruction)
        elif isinstance(instruction, supervision.End):
            self._end(instruction.reason)
        else:
            self._up = True
            if self._is_simple:
                for args in self._tree.instances(self.branch):
                    self._wanted.add(key_of(StartCall("", (self.branch.specs[0].id, *args))))
                    self.tell(self._machine.start_child, None, args)
            self._come_up()

    def _launch(self, launch: supervision.Launch) -> None:
        child = key_of(launch.start) if self._is_simple else launch.spec.id
        if self._why_asked is not None:  # while it was busy: it stops as soon as this start has failed
            self._wanted.discard(child)
            self.tell(self._machine.start_failed, "shutdown")
            return
        pause = self._pause_before(launch.spec.id, child)
        apart = launch.start.target == "service"
        life = self._tree.life(launch.start, self, pause)
        self._shutdowns[child] = launch.spec.shutdown
        if child in self._last:
            self._events.emit("restarting", **life.label, text=f"in {pause:.3g} s" if pause else None)
        self._lives[life] = child
        self._running[child] = life
        if apart:
            self._apart.add(life)
        if not self.branch.parallel:
            self._launching = life
        if child in self._wanted or (self.branch.parallel and not self._up):
            self._wanted.discard(child)
            self._first.add(life)
        try:
            life.start()
        except SpawnFailed as error:
            self._never_began(life, error)
            return
        if self.branch.parallel:
            self._in_a_row += 1
            if not self._up or self._in_a_row % _IN_A_ROW:
                self.tell(self._machine.started, life)
            else:  # others have their turn in between, once there are any
                self._loop.call_soon(self.tell, self._machine.started, life)

    def _never_began(self, life: Life, error: SpawnFailed) -> None:
        child = self._lives.pop(life)
        del self._running[child]
        self._first.discard(life)
        self._launching = None
        self._last[child] = str(error)
        self._crashed[child] = 0.0
        self._lost.add(child)
        self.tell(self._machine.start_failed, ("spawn",))

    def _pause_before(self, spec: ChildId, child: ChildId) -> float:
        limits = self.branch.backoff.get(spec)
        uptime = self._crashed.pop(child, None)
        if limits is None or uptime is None:
            return 0.0
        backoff = self._backoffs.get(child)
        if backoff is None:
            bounds = BackoffLimits(limits.initial, limits.factor, limits.max, limits.jitter, limits.reset)
            backoff = self._backoffs[child] = Backoff(bounds, random.random)
        return backoff.delay(uptime)

    def _try_again(self, child: ChildId, name: Any) -> None:
        self._waits_again.discard(child)
        self._lost.add(child)
        self.tell(self._machine.try_again, name)

    def _report(self, report: supervision.Report) -> None:
        # Those of a simple_one_for_one are reported under their template's name.
        last = self._last.get(report.child) or next(reversed(self._last.values()), "")
        if report.context == "shutdown":
            flags = self.branch.flags
            limit = f"more than {flags.intensity} restarts within {flags.period} s"
            self.epitaph = f"{limit} (reached_max_restart_intensity); the last: {last}"
        elif report.context == "start_error" and not self._up and self._why_asked is None:
            self.epitaph = f"failed to start child {report.child}: {last}"
            self._start_failed = True

    def _answer(self, reply: supervision.Reply) -> None:
        answer: Any = reply.call
        if answer is None:  # an instance that a simple_one_for_one begins with
            self._come_up()
        elif not answer.done():
            answer.set_result(reply.result)

    def _come_up(self) -> None:
        if self.is_up and not self._was_up and not self.is_ending:
            self._was_up = True
            if self._owner is not None:
                self._owner.on_up(self)
            self._tree.on_changed()

    def _end(self, reason: Reason) -> None:
        if self.ended.done():  # it was killed in the moment after it was asked
            return
        self._cancel_timers()
        for answer in self._answers:  # of one that was killed, which answers nothing any more
            if not answer.done():
                answer.set_result(supervision.SupervisorEnded())
        self.ended.set_result(reason)
        if self._owner is not None:
            story = f"supervisor {self.branch.name} gave up: {self.epitaph}" if self.epitaph else "it was stopped"
            uptime = time.monotonic() - self._began
            # Later, because its own supervisor may be about to tell it something.
            self._loop.call_soon(
                self._owner.on_gone,
                self,
                Ending(reason, story, not self._start_failed, uptime, self._why_asked is not None),
            )
        else:
            self._tree.on_changed()

    def _tell_its_end(self) -> None:
        """Says why it ends, if it was not asked to."""
        if self._why_asked is not None or self._killed:
            return
        spec = self.branch.specs[0]
        is_services_own = spec.start == StartCall("replica", (self.branch.name, 0))
        if not self.epitaph:
            last = next(reversed(self._last.values()), "none")
            if is_services_own:
                ended = f"every replica has ended, and restart is {spec.restart!r}"
            else:
                ended = f"its significant children have ended (auto_shutdown is {self.branch.flags.auto_shutdown!r})"
            self.epitaph = f"{ended}; the last: {last}"
        if not is_services_own:  # that one's end is the service's, and told as such
            self._events.emit("gave_up", **self.label, text=self.epitaph)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _cancel_timers(self) -> None:
        self._cancel_timer()
        if self._kill_timer is not None:
            self._kill_timer.cancel()


def key_of(start: StartCall) -> str:
    """Which child it is that is started so: `digits/0`."""
    return "/".join(map(str, start.args))


def _is_replica(child: ChildId, service: str) -> bool:
    return str(child).startswith(f"{service}/")


def _life(pid: Any) -> Life:
    """What the machine knows as a pid."""
    life: Life = pid
    return life
