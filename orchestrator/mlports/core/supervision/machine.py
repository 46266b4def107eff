"""OTP's supervisor as a state machine: what happened and the time go in, instructions come out.

The driver carries the instructions out, in order, and tells what came of them; it may tell it later. A supervisor does
one thing at a time, as OTP's does: while it starts or stops a child, all else that it is told waits. `now` is in whole
milliseconds, from any clock that never goes back; restarts are counted in whole seconds, rounded down.

The rules
- The children are started in order, and stopped in reverse. If one does not start at first, the others are stopped and
  the supervisor ends with `("shutdown", ("failed_to_start_child", id, reason))`; nothing is retried or counted then.
- A child that ended is restarted if it is permanent, or transient and its end was abnormal. `normal`, `shutdown` and
  `("shutdown", …)` are normal. Else a temporary child is forgotten, and of any other the specification stays.
- A restart concerns the child alone (one_for_one, simple_one_for_one), all children (one_for_all), or the child and the
  later ones (rest_for_one): these are stopped in reverse, the temporary ones are forgotten, the others are started in
  order, those that had been stopped before too. Their ends that were already waiting are not counted.
- A restart is counted at its beginning. If more than `intensity` are counted within `period`, the child is given up,
  and the supervisor ends with `shutdown`: an end like any other for its own supervisor, which may restart it.
- If a child does not start in a restart, it is `restarting`; those before it stay up. A retry (`Again`) waits behind
  all that the driver has to tell already. It is a restart in full because of that child, and counted; unless the child
  was stopped, or restarted with others, before its turn came.
- To stop a child is to ask, to wait as long as its `shutdown` says, and then to kill. What it ended with is reported
  unless it was to be expected. The children of a simple_one_for_one are all asked first, and have one timer.
- A significant child that ends by itself and is not restarted ends the supervisor: if `auto_shutdown` is
  `any_significant` at once, if it is `all_significant` when no other significant child is running or restarting.
- A child that chooses not to run (`ignored`) has started, and has no pid.
- A call to a busy supervisor waits for its turn. A failed `start_child` leaves nothing behind; a failed
  `restart_child` is neither counted nor retried.

`TRANSITIONS` has the states and all that leads from one to another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from mlports.core.intensity import RestartIntensity
from mlports.core.supervision.api import (
    Again,
    AlreadyPresent,
    AlreadyStarted,
    Ask,
    BadSpec,
    ChildStarted,
    Done,
    End,
    FoundSpec,
    Instruction,
    Kill,
    Launch,
    NotFound,
    Pid,
    Reason,
    Reply,
    Report,
    Result,
    SetTimer,
    SimpleOneForOne,
    StartError,
    SupervisorEnded,
    Up,
)
from mlports.core.supervision.reasons import as_otp_sorts, is_normal, was_expected
from mlports.core.supervision.roster import Child, Roster
from mlports.core.supervision.specs import ChildId, ChildSpec, InvalidSpec, StartCall, SupervisorFlags, spec_from

Phase = Literal["new", "starting", "ready", "stopping", "ended"]


class Transition(NamedTuple):
    """One row: in this phase, this happens; what the supervisor then does, and its phase after that."""

    phase: Phase
    event: str
    does: str
    becomes: Phase


TRANSITIONS = (
    Transition("new", "start", "Launch the first child", "starting"),
    Transition("new", "start, no children or simple_one_for_one", "Up", "ready"),
    Transition("starting", "started or ignored, more to start", "Launch the next", "starting"),
    Transition("starting", "started or ignored, the last", "Up at first, Reply to a call", "ready"),
    Transition("starting", "start_failed at first", "Report, Ask or Kill the last that was started", "stopping"),
    Transition("starting", "start_failed at first, none was started", "Report, End", "ended"),
    Transition("starting", "start_failed in a restart", "Report, Again", "ready"),
    Transition("starting", "start_failed in a call", "Reply StartError", "ready"),
    Transition("ready", "exited, to be restarted", "Report, Launch", "starting"),
    Transition("ready", "exited, to be restarted with others", "Report, Ask or Kill the last of them", "stopping"),
    Transition("ready", "exited, restarted too often or significant", "Report, Ask or Kill the last", "stopping"),
    Transition("ready", "exited, restarted too often or significant, the last child", "Report, End", "ended"),
    Transition("ready", "exited, not restarted, or a stranger", "Report if abnormal", "ready"),
    Transition("ready", "try_again of a restarting child", "as for exited, to be restarted", "starting"),
    Transition("ready", "start_child or restart_child", "Launch", "starting"),
    Transition("ready", "terminate_child of a running child", "Ask or Kill", "stopping"),
    Transition("ready", "any other call", "Reply", "ready"),
    Transition("ready", "stop, a child is running", "Ask or Kill the last", "stopping"),
    Transition("ready", "stop, no child is running", "End", "ended"),
    Transition("stopping", "timed_out", "Kill", "stopping"),
    Transition("stopping", "exited, more to stop", "Report if unexpected, Ask or Kill the next", "stopping"),
    Transition("stopping", "exited, the last, in a restart", "Report if unexpected, Launch the first", "starting"),
    Transition("stopping", "exited, the last, in a call", "Report if unexpected, Reply", "ready"),
    Transition("stopping", "exited, the last, at the end", "Report if unexpected, End", "ended"),
)


class _Message(NamedTuple):
    """What waits for its turn; a call's own name is the first of the arguments."""

    act: Callable[..., None]
    args: tuple[Any, ...]
    is_call: bool = False


_Job = Literal["init", "restart", "start_child", "restart_child", "terminate_child", "end"]


class Supervisor:
    """One supervisor. Its children may be supervisors, which to it are children like any other.

    Every method gives the instructions that follow from what it tells. Raises `InvalidSpec` for what cannot be
    supervised together.
    """

    def __init__(self, flags: SupervisorFlags, specs: Iterable[ChildSpec]) -> None:
        self.flags = flags
        self._simple = flags.strategy == "simple_one_for_one"
        self._children = Roster(flags, list(specs))
        self._intensity = RestartIntensity(flags.intensity, flags.period)
        self.phase: Phase = "new"
        self._out: list[Instruction] = []
        self._now = 0
        self._waiting: deque[_Message] = deque()
        self._deaths: dict[Pid, Reason] = {}  # those told while busy
        self._job: _Job = "init"
        self._call: object = None
        self._current: Child | None = None
        self._to_start: list[Child] = []  # the next at the end, as in _to_stop
        self._to_stop: list[Child] = []
        self._asked: dict[Pid, Child] = {}  # what is being stopped
        self._last_words: list[Reason] = []  # the unexpected ends of a simple_one_for_one's children
        self._end_reason: Reason = "shutdown"
        self._timer = 0

    @property
    def ending(self) -> bool:
        """Whether it is on its way to its end, or there: nothing will be started any more."""
        return self._job == "end"

    # --- What the driver tells

    def start(self, now: int) -> list[Instruction]:
        """The supervisor's start, once."""
        if self.phase != "new":
            raise ValueError(f"a supervisor is started once, and this one is {self.phase}")
        self._now = now
        self._to_start = list(reversed(self._children.by_id.values()))
        self._start_next()
        return self._turn()

    def started(self, pid: Pid, now: int, info: object = None) -> list[Instruction]:
        """The child of the last `Launch` is up. `info` is for whoever called `start_child` or `restart_child`."""
        child = self._launched()
        self._now = now
        self._children.set_pid(child, pid)
        self._after_start(child, pid, info)
        return self._turn()

    def ignored(self, now: int) -> list[Instruction]:
        """The child of the last `Launch` chose not to run, which is no fault."""
        child = self._launched()
        self._now = now
        self._children.put_down(child)
        self._after_start(child, None, None)
        return self._turn()

    def start_failed(self, reason: object, now: int) -> list[Instruction]:
        """The child of the last `Launch` did not come up."""
        child = self._launched()
        self._now = now
        if self._job == "init":
            self._out.append(Report("start_error", child.spec.id, reason))
            self._end(("shutdown", ("failed_to_start_child", child.spec.id, reason)))
        elif self._job == "restart":
            child.restarting = True
            self._to_start.clear()
            self._out.append(Report("start_error", child.spec.id, reason))
            self._out.append(Again(child.pid if self._simple else child.spec.id))
            self.phase = "ready"
        elif self._job == "restart_child":
            self._reply(StartError(reason))
        elif isinstance(reason, tuple) and len(reason) == 2 and reason[0] == "already_started":
            self._reply(AlreadyStarted(reason[1]))
        else:
            self._reply(StartError(reason, None if self._simple else child.spec))
        return self._turn()

    def exited(self, pid: Pid, reason: Reason, now: int) -> list[Instruction]:
        """A child has ended. The pid of a stranger, or of a child's earlier life, is ignored."""
        self._now = now
        phase = self.phase
        if phase == "ready":
            self._on_exit(pid, reason)
        elif phase == "stopping" and pid in self._asked:
            self._on_stopped(pid, reason)
        elif phase != "ended":
            if pid in self._children.by_pid:
                self._deaths[pid] = reason
            self._waiting.append(_Message(self._on_exit, (pid, reason)))
            return []
        return self._turn()

    def timed_out(self, timer: int, now: int) -> list[Instruction]:
        """The time of a `SetTimer` is over."""
        self._now = now
        if self.phase == "stopping" and timer == self._timer:
            self._out.extend(Kill(pid) for pid in self._asked)
        return self._turn()

    def try_again(self, child: ChildId | Pid, now: int) -> list[Instruction]:
        """What an `Again` asked for."""
        return self._tell(_Message(self._retry, (child,)), now)

    def stop(self, reason: Reason, now: int) -> list[Instruction]:
        """The supervisor's own supervisor asks it to stop, or has ended with this reason."""
        return self._tell(_Message(self._end, (reason,)), now)

    # --- Calls, answered by a `Reply` with the same `call`

    def start_child(self, call: object, given: object, now: int) -> list[Instruction]:
        """Adds a child and starts it. `given` is its specification, or the arguments that a template's start gets."""
        return self._ask(self._start_child, now, call, given)

    def restart_child(self, call: object, child: ChildId, now: int) -> list[Instruction]:
        """Starts a child again that is stopped."""
        return self._ask(self._restart_child, now, call, child)

    def terminate_child(
        self, call: object, child: ChildId | Pid, now: int, alive: bool | None = None
    ) -> list[Instruction]:
        """Stops a child, for good unless it is restarted by a call or with others; `Done` too if it was stopped.

        Those of a simple_one_for_one are named by pid. `alive` says of one that is no child's whether it runs, since
        OTP answers `NotFound` then, and `Done` if it does not; None says that it is no pid at all.
        """
        return self._ask(self._terminate_child, now, call, child, alive)

    def delete_child(self, call: object, child: ChildId, now: int) -> list[Instruction]:
        """Forgets a child that is stopped."""
        return self._ask(self._delete_child, now, call, child)

    def which_children(self, call: object, now: int) -> list[Instruction]:
        """The children, as `Children`."""
        return self._ask(self._which_children, now, call)

    def count_children(self, call: object, now: int) -> list[Instruction]:
        """Their numbers, as `Counts`."""
        return self._ask(self._count_children, now, call)

    def get_childspec(self, call: object, child: ChildId | Pid, now: int) -> list[Instruction]:
        """A child's specification, as `FoundSpec`."""
        return self._ask(self._get_childspec, now, call, child)

    # --- Turns

    def _tell(self, message: _Message, now: int) -> list[Instruction]:
        self._now = now
        if self.phase == "ended":
            return []
        self._waiting.append(message)
        return self._turn()

    def _ask(self, act: Callable[..., None], now: int, call: object, *args: object) -> list[Instruction]:
        if self.phase == "ended":
            return [Reply(call, SupervisorEnded())]
        return self._tell(_Message(act, (call, *args), True), now)

    def _turn(self) -> list[Instruction]:
        """What is waiting has its turn for as long as there is nothing under way."""
        waiting = self._waiting
        while waiting and self.phase == "ready":
            message = waiting.popleft()
            message.act(*message.args)
        out, self._out = self._out, []
        return out

    def _reply(self, result: Result) -> None:
        call, self._call = self._call, None
        self._out.append(Reply(call, result))
        self.phase = "ready"

    def _launched(self) -> Child:
        if self.phase != "starting" or self._current is None:
            raise ValueError(f"no start is under way: the supervisor is {self.phase}")
        return self._current

    # --- Starts

    def _launch(self, child: Child) -> None:
        self.phase = "starting"
        self._current = child
        self._out.append(Launch(child.spec, child.start))

    def _start_next(self) -> None:
        if self._to_start:
            self._launch(self._to_start.pop())
            return
        self.phase = "ready"
        if self._job == "init":
            self._out.append(Up())

    def _after_start(self, child: Child, pid: Pid | None, info: object) -> None:
        if self._job in ("init", "restart"):
            self._start_next()
            return
        if self._job == "start_child" and not self._simple and (pid is not None or child.spec.restart != "temporary"):
            self._children.by_id[child.spec.id] = child
        self._reply(ChildStarted(pid, info))

    # --- Ends of children, and restarts

    def _on_exit(self, pid: Pid, reason: Reason) -> None:
        self._deaths.pop(pid, None)
        child = self._children.by_pid.get(pid)
        if child is None or child.restarting:
            return
        kind = child.spec.restart
        normal = is_normal(reason)
        if kind == "permanent" or not normal:
            self._out.append(Report("child_terminated", child.spec.id, reason))
        if kind == "permanent" or (kind == "transient" and not normal):
            self._restart(child)
            return
        self._children.put_down(child)
        if child.spec.significant and self._shuts_down():
            self._end("shutdown")

    def _retry(self, name: ChildId | Pid) -> None:
        child = self._children.find(name)
        if child is not None and child.restarting:
            self._restart(child)

    def _restart(self, child: Child) -> None:
        if not self._intensity.allow(self._now // 1000):
            self._out.append(Report("shutdown", child.spec.id, "reached_max_restart_intensity"))
            self._children.put_down(child)
            self._end("shutdown")
            return
        self._job = "restart"
        strategy = self.flags.strategy
        if strategy in ("one_for_one", "simple_one_for_one"):
            self._launch(child)
            return
        group = list(self._children.by_id.values())
        if strategy == "rest_for_one":
            group = group[group.index(child) :]
        self._children.set_pid(child, None)
        self._to_start = [one for one in reversed(group) if one.spec.restart != "temporary"]
        self._to_stop = group
        self._stop_next()

    def _shuts_down(self) -> bool:
        """Whether the end of a significant child ends the supervisor."""
        auto = self.flags.auto_shutdown
        if auto != "all_significant":
            return auto == "any_significant"
        return not self._children.significant()

    # --- Stops

    def _end(self, reason: Reason) -> None:
        self._end_reason = reason
        self._job = "end"
        self._to_start.clear()
        if self._simple:
            self._stop_together()
        else:
            self._to_stop = list(self._children.by_id.values())
            self._stop_next()

    def _stop_next(self) -> None:
        """Stops what is to be stopped, up to the first that has to be waited for; then goes on with the job."""
        while self._to_stop:
            child = self._to_stop.pop()
            pid = child.pid
            if pid is None or child.restarting:
                self._children.put_down(child)
            elif pid in self._deaths:
                self._stopped(child, self._deaths.pop(pid))
            else:
                self.phase = "stopping"
                self._asked = {pid: child}
                self._ask_or_kill(pid, child.spec.shutdown)
                return
        if self._job == "restart":
            self._start_next()
        elif self._job == "terminate_child":
            self._reply(Done())
        else:
            self._ended()

    def _ask_or_kill(self, pid: Pid, shutdown: object) -> None:
        if shutdown == "brutal_kill":
            self._out.append(Kill(pid))
            return
        self._out.append(Ask(pid))
        if shutdown == 0:
            self._out.append(Kill(pid))
        elif isinstance(shutdown, int):
            self._timer += 1
            self._out.append(SetTimer(shutdown, self._timer))

    def _stop_together(self) -> None:
        self.phase = "stopping"
        for pid, child in list(self._children.by_pid.items()):
            if child.restarting:
                self._children.by_pid.pop(pid)
            elif pid in self._deaths:
                self._stopped(child, self._deaths.pop(pid))
            else:
                self._asked[pid] = child
        template = self._children.template
        shutdown = template.shutdown if template else "infinity"
        for pid in self._asked:
            self._out.append(Kill(pid) if shutdown == "brutal_kill" else Ask(pid))
        if self._asked and isinstance(shutdown, int):
            self._timer += 1
            self._out.append(SetTimer(shutdown, self._timer))
        if not self._asked:
            self._ended()

    def _on_stopped(self, pid: Pid, reason: Reason) -> None:
        self._stopped(self._asked.pop(pid), reason)
        if not self._asked:
            self._timer += 1  # the one that was set is over
            self._stop_next()

    def _stopped(self, child: Child, reason: Reason) -> None:
        self._children.put_down(child)
        if was_expected(child.spec, reason):
            return
        if self._simple and self._job == "end":
            self._last_words.append(reason)
        else:
            self._out.append(Report("shutdown_error", child.spec.id, reason))

    def _ended(self) -> None:
        template = self._children.template
        if template is not None:
            for reason in sorted(set(self._last_words), key=as_otp_sorts):
                self._out.append(Report("shutdown_error", template.id, reason))
        self.phase = "ended"
        self._out.append(End(self._end_reason))
        self._out.extend(Reply(message.args[0], SupervisorEnded()) for message in self._waiting if message.is_call)
        self._waiting.clear()

    # --- Calls, when their turn has come

    def _start_child(self, call: object, given: object) -> None:
        self._call = call
        template = self._children.template
        if template is not None:
            if not isinstance(given, list | tuple):
                self._reply(BadSpec(("badarg", given)))
                return
            child = Child(template, StartCall(template.start.target, (*template.start.args, *given)))
        else:
            try:
                spec = spec_from(given, self.flags.auto_shutdown)
            except InvalidSpec as error:
                self._reply(BadSpec(error.fault))
                return
            known = self._children.find(spec.id)
            if known is not None:
                self._reply(AlreadyStarted(known.pid) if known.running else AlreadyPresent())
                return
            child = Child(spec, spec.start)
        self._job = "start_child"
        self._launch(child)

    def _restart_child(self, call: object, id: ChildId) -> None:
        self._call = call
        child = self._children.stopped(id)
        if isinstance(child, Child):
            self._job = "restart_child"
            self._launch(child)
        else:
            self._reply(child)

    def _terminate_child(self, call: object, name: ChildId | Pid, alive: bool | None) -> None:
        self._call = call
        child = self._children.find(name)
        if child is not None:
            self._job = "terminate_child"
            self._to_stop = [child]
            self._stop_next()
        elif not self._simple or alive:
            self._reply(NotFound())
        else:
            self._reply(SimpleOneForOne() if alive is None else Done())

    def _delete_child(self, call: object, id: ChildId) -> None:
        self._call = call
        child = self._children.stopped(id)
        if isinstance(child, Child):
            del self._children.by_id[id]
            self._reply(Done())
        else:
            self._reply(child)

    def _which_children(self, call: object) -> None:
        self._call = call
        self._reply(self._children.infos())

    def _count_children(self, call: object) -> None:
        self._call = call
        self._reply(self._children.counts())

    def _get_childspec(self, call: object, name: ChildId | Pid) -> None:
        self._call = call
        spec = self._children.spec(name)
        self._reply(NotFound() if spec is None else FoundSpec(spec))
