"""The scenario language, played: trees, what befalls them, and the trace of what their supervisors do.

One command a line; what follows a # is a comment. A line may hold any number of scenarios, one after the other:

    scenario NAME
    sup    ID PARENT|- STRATEGY INTENSITY PERIOD AUTO_SHUTDOWN [RESTART SHUTDOWN SIGNIFICANT]
    worker ID PARENT RESTART SHUTDOWN SIGNIFICANT [MANNERS]
           in the order in which they start; under a simple_one_for_one: the template of its children
           SHUTDOWN: brutal_kill, infinity, or milliseconds
           MANNERS, when asked to stop: none, stubborn (ignores it), reply:REASON, slow:MILLISECONDS
    go                             start the tree
    exit ID REASON                 it ends: normal, shutdown, shutdown:X, kill, or any word; a supervisor is killed
    burst ID:REASON ...            all end before their supervisor, which they share, sees any of it
    fail ID N MODE                 its next N starts end in error, raise or ignore
    gated ID REASON | CALL | ...   it ends, and its restart is held until the calls are waiting, and then fails
    start_child SUP ID RESTART SHUTDOWN SIGNIFICANT [MANNERS]
    start_dyn SUP ID               start_child of a simple_one_for_one
    terminate SUP ID, terminate_id SUP ID, restart SUP ID, delete SUP ID, which SUP, count SUP
    wait MILLISECONDS
    stop                           the root is asked to stop, as at the end of each scenario
    end

The trace has a line for each start, end and report, `>` and the command before what follows from it, the results of
calls, and the state of the tree after each command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import groupby
from typing import cast, get_args

from mlports.core import supervision
from mlports.core.supervision import Reason, Result, Supervisor, SupervisorEnded
from mlports.core.supervision.api import Instruction
from mlports.errors import ConfigError
from mlports.testing.simulation.terms import as_erlang
from mlports.testing.simulation.world import (
    DYNAMIC,
    SUPERVISOR,
    WORKER,
    FailMode,
    Logged,
    Manners,
    Node,
    Process,
    Stuck,
    Worker,
    World,
)

PROBE_PATIENCE = 300
"""Milliseconds that `gated` waits for the restart."""
CALL_PATIENCE = 20_000
"""Milliseconds that a call is waited for, and half of it for one behind a gate."""

_INTEGER = re.compile(r"[+-]?[0-9]+")
_CALLS = {
    "start_child": "SUP ID RESTART SHUTDOWN SIGNIFICANT [MANNERS]",
    "start_dyn": "SUP ID",
    "terminate": "SUP ID",
    "terminate_id": "SUP ID",
    "restart": "SUP ID",
    "delete": "SUP ID",
    "which": "SUP",
    "count": "SUP",
}
_COMMANDS = {
    "scenario": "[NAME]",
    "sup": "ID PARENT|- STRATEGY INTENSITY PERIOD AUTO_SHUTDOWN [RESTART SHUTDOWN SIGNIFICANT]",
    "worker": "ID PARENT RESTART SHUTDOWN SIGNIFICANT [MANNERS]",
    "go": "",
    "exit": "ID REASON",
    "burst": "ID:REASON ...",
    "fail": "ID N error|raise|ignore",
    "gated": "ID REASON | CALL | ...",
    **_CALLS,
    "wait": "MILLISECONDS",
    "stop": "",
    "end": "",
}
_WORDS = {
    "start_child": (5, 6),
    "sup": (6, 6, 9),
    "worker": (5, 6),
    "go": (0,),
    "exit": (2,),
    "fail": (3,),
    "which": (1,),
    "count": (1,),
    "wait": (1,),
    "stop": (0,),
    "end": (0,),
    **dict.fromkeys(("start_dyn", "terminate", "terminate_id", "restart", "delete"), (2,)),
}
"""How many words may follow a command; for those that are not here, any number."""


class ScenarioError(ConfigError):
    """A line of a scenario that cannot be played: names the file, the line and the fix."""


def play(lines: Iterable[str], file: str | None = None) -> Iterator[str]:
    """The trace of all scenarios, a line at a time. `file` is named in errors. Raises `ScenarioError`."""
    player: _Player | None = None
    for number, line in enumerate(lines, 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        try:
            if words[0] == "scenario":
                yield from player.finish() if player else ()
                player = _Player(" ".join(words[1:]))
            elif words == ["end"] and player:
                yield from player.finish()
                player = None
            else:
                player = player or _Player("-")
                yield from player.command(words)
        except _Wrong as error:
            yield from player.take() if player else ()
            raise ScenarioError(str(error), file=file, line=number, key=words[0], fix=error.fix) from None
        except Stuck:
            yield from player.take() if player else ()
            raise ScenarioError(
                "this would wait for ever: a child that ignores being asked to stop has infinity to do so",
                file=file,
                line=number,
                key=words[0],
                fix="give that child a shutdown in milliseconds, or brutal_kill",
            ) from None
    if player:
        yield from player.finish()


class _Wrong(Exception):
    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.fix = fix


class _Player:
    """One scenario."""

    def __init__(self, name: str) -> None:
        self._world = World()
        self._root_id: str | None = None
        self._root: Node | None = None
        self._out = [f"=== {name}"]

    def take(self) -> list[str]:
        """The lines since the last time."""
        out, self._out = self._out, []
        return out

    def finish(self) -> list[str]:
        """The end of the scenario."""
        self._stop()
        self._out.append("--- end")
        return self.take()

    def command(self, words: list[str]) -> list[str]:
        """Any command but those that begin and end a scenario."""
        _check(words)
        name, *args = words
        if name in ("sup", "worker"):
            self._declare(name, args)
        elif name == "go":
            self._go()
        elif name == "stop":
            self._stop()
        else:
            self._out.append(f"> {' '.join(words)}")
            if self._root is not None:
                self._play(name, args)
            elif name == "fail":
                self._fail(*args)
            else:
                self._out.append("no_root")
        return self.take()

    # --- The tree

    def _declare(self, name: str, args: list[str]) -> None:
        id, parent, *rest = args
        if name == "sup":
            strategy, intensity, period, auto_shutdown, *own = rest
            declared: Mapping[str, object] = {
                "strategy": strategy,
                "intensity": _integer(intensity),
                "period": _integer(period),
                "auto_shutdown": auto_shutdown,
            }
            self._world.families[id] = (declared, [])
            if parent == "-":
                self._root_id = id
                return
            restart, shutdown, significant = own or ("permanent", "infinity", "false")
            self._family(parent)[1].append(
                {
                    "id": id,
                    "start": (SUPERVISOR, [id]),
                    "restart": restart,
                    "shutdown": _shutdown(shutdown),
                    "significant": _atom(significant),
                    "type": "supervisor",
                }
            )
            return
        flags, specs = self._family(parent)
        spec = _worker_spec(id, *rest)
        if flags["strategy"] == "simple_one_for_one":
            spec["start"] = (DYNAMIC, [parent, _manners(*rest[3:])])
        specs.append(spec)

    def _family(self, id: str) -> tuple[Mapping[str, object], list[object]]:
        if id not in self._world.families:
            raise _Wrong(f"there is no supervisor {id} yet", f"declare it first: sup {id} ...")
        return self._world.families[id]

    def _go(self) -> None:
        if self._root_id is None:
            raise _Wrong("there is nothing to start", "declare the root first: sup ID - STRATEGY ...")
        world = self._world
        mode = world.obstacle(self._root_id, cast("Node", None))
        if mode is not None:
            self._dump()
            reason = "start_failed" if mode == "error" else ("EXIT", "boom")
            self._out.append("root_ignore" if mode == "ignore" else f"root_start_error {as_erlang(reason)}")
            return
        root = Node(world, self._root_id, None)
        root.start()
        world.run_until(lambda: root.up or not root.alive)
        self._dump()
        if root.up:
            self._root = root
            self._show_state()
        else:
            self._out.append(f"root_start_error {as_erlang(root.reason)}")

    def _stop(self) -> None:
        root, self._root = self._root, None
        if root is None:
            return
        self._out.append("> stop")
        if root.alive:
            root.signal("shutdown")
            self._world.run_until(lambda: not root.alive)
        self._dump()

    # --- What befalls it

    def _play(self, name: str, args: list[str]) -> None:
        root = self._root
        assert root is not None
        result: str | None = None
        if name == "exit":
            result = self._exit(*args)
        elif name == "burst":
            result = self._burst(args)
        elif name == "fail":
            self._fail(*args)
        elif name == "gated":
            result = self._gated(args)
        elif name == "wait":
            self._world.pass_until(self._world.now + _integer(args[0]))
        else:
            result = self._call(name, args)
        self._world.run_until(lambda: not root.alive or root.settled)
        self._dump()
        if result is not None:
            self._out.append(f"result {result}")
        self._show_state()

    def _exit(self, id: str, reason: str) -> str | None:
        process = self._world.running(id)
        if process is None:
            return "not_running"
        if isinstance(process, Worker) and reason != "kill":
            process.exit(_reason(reason))
        else:
            process.die("killed")
        self._world.run_until(lambda: not process.alive)
        return None

    def _burst(self, args: list[str]) -> str | None:
        pairs = [arg.partition(":") for arg in args]
        if not all(colon for _, colon, _ in pairs):
            raise _Wrong("a burst is of children and their reasons", "write burst a:crash b:normal")
        first = next((process for id, _, _ in pairs if (process := self._world.running(id))), None)
        if first is None:
            return "not_running"
        supervisor = first.parent
        if supervisor is None:
            raise _Wrong(f"{first.id} is the root, and has no supervisor", "name children")
        supervisor.suspended = True
        for id, _, reason in pairs:
            self._exit(id, reason)
        supervisor.resume()
        return None

    def _fail(self, id: str, times: str, mode: str) -> None:
        if mode not in get_args(FailMode):
            raise _Wrong(f"a start cannot {mode}", "write error, raise or ignore")
        self._world.failures[id] = (_integer(times), cast("FailMode", mode))

    def _gated(self, args: list[str]) -> str:
        world, id = self._world, args[0]
        calls = _split(args[2:])
        for words in calls:
            if words[0] not in _CALLS:
                raise _Wrong(f"{words[0]} is no call", f"write one of {', '.join(_CALLS)}")
            _check(words)
        process = world.running(id)
        if process is None:
            return "not_running"
        supervisor = process.parent
        if supervisor is None:
            raise _Wrong(f"{id} is the root, and nobody restarts it", "name a child")
        world.gates.add(id)
        world.held = None
        self._exit(id, args[1])
        world.run_until(
            lambda: world.held is not None or (supervisor.alive and supervisor.settled), world.now + PROBE_PATIENCE
        )
        held = world.held
        if held is None:
            world.gates.discard(id)
            return "no_restart_attempt"
        numbers = [self._send(supervisor, words[0], words[1:]) for words in calls]
        world.run()
        world.held = None
        held.release()
        return "; ".join(
            f"{' '.join(words)} -> {self._behind_gate(supervisor, number)}"
            for words, number in zip(calls, numbers, strict=True)
        )

    def _behind_gate(self, supervisor: Node, call: object) -> str:
        replies = self._world.replies
        arrived = self._world.run_until(
            lambda: call in replies or not supervisor.alive, self._world.now + CALL_PATIENCE // 2
        )
        if not arrived:
            return "timeout"
        return (
            "sup_down" if isinstance(found := replies.get(call, SupervisorEnded()), SupervisorEnded) else _told(found)
        )

    def _call(self, name: str, args: list[str]) -> str:
        supervisor = self._world.running(args[0])
        if not isinstance(supervisor, Node):
            return "no_sup"
        call = self._send(supervisor, name, args)
        replies = self._world.replies
        arrived = self._world.run_until(
            lambda: call in replies or not supervisor.alive, self._world.now + CALL_PATIENCE
        )
        found = replies.get(call, SupervisorEnded())
        if not isinstance(found, SupervisorEnded):
            return _told(found)
        return f"call_exit {as_erlang(supervisor.reason) if arrived else 'timeout'}"

    def _send(self, supervisor: Node, name: str, args: list[str]) -> object:
        """Makes a call; the number under which it will be answered."""
        call = object()
        supervisor.tell(self._request(supervisor.machine, call, name, args))
        return call

    def _request(
        self, machine: Supervisor, call: object, name: str, args: list[str]
    ) -> Callable[[int], list[Instruction]]:
        if name == "which":
            return partial(machine.which_children, call)
        if name == "count":
            return partial(machine.count_children, call)
        if name == "start_child":
            return partial(machine.start_child, call, _worker_spec(*args[1:]))
        if name == "start_dyn":
            return partial(machine.start_child, call, [args[1]])
        if name == "restart":
            return partial(machine.restart_child, call, args[1])
        if name == "delete":
            return partial(machine.delete_child, call, args[1])
        flags, _ = self._world.families.get(args[0], ({}, []))
        if name == "terminate" and flags.get("strategy") == "simple_one_for_one":
            # Those are known by their pids, and a pid may outlive its process.
            process = self._world.latest.get(args[1])
            if process is not None:
                return lambda now: machine.terminate_child(call, process, now, process.alive)
        return partial(machine.terminate_child, call, args[1])

    # --- What is told of it

    def _dump(self) -> None:
        self._world.run()
        logged, self._world.logged = self._world.logged, []
        self._out.extend(in_order(logged))

    def _show_state(self) -> None:
        root = self._root
        if root is not None and root.alive:
            self._out.append(f"state {tree(root)}")
        else:
            self._root = None
            self._out.append("state root_dead")


def in_order(logged: list[Logged]) -> Iterator[str]:
    """The lines of the log; exits that have no order among themselves are sorted."""
    for group, lines in groupby(logged, lambda line: line.group):
        texts = (line.text for line in lines)
        yield from texts if group is None else sorted(texts)


def tree(supervisor: Node) -> str:
    """A supervisor with all that is below it."""
    infos = supervisor.children_now()
    infos = sorted(infos, key=_shown) if supervisor.simple else infos[::-1]
    parts = []
    for info in infos:
        if isinstance(info.child, Node):
            parts.append(tree(info.child))
        elif isinstance(info.child, Process):
            parts.append(info.child.name)
        else:
            parts.append(f"{info.id or 'undefined'}={info.child or 'undefined'}")
    return f"{supervisor.name}[{' '.join(parts)}]"


def _shown(info: supervision.ChildInfo) -> str:
    if isinstance(info.child, Process):
        return f"{info.child.name}/{info.type}"
    return f"{'?' if info.id is None else info.id}={info.child or 'undefined'}/{info.type}"


def _told(result: Result) -> str:
    """A call's result."""
    if isinstance(result, supervision.Children):
        shown = [_shown(info) for info in result.children]
        return " ".join(sorted(shown) if any(info.id is None for info in result.children) else shown)
    if isinstance(result, supervision.Counts):
        return f"specs={result.specs} active={result.active} supervisors={result.supervisors} workers={result.workers}"
    if isinstance(result, supervision.ChildStarted):
        return f"ok {result.pid.name if isinstance(result.pid, Process) else 'undefined'}"
    if isinstance(result, supervision.AlreadyStarted):
        return f"error already_started {result.pid.name if isinstance(result.pid, Process) else 'undefined'}"
    if isinstance(result, supervision.StartError):
        return f"error {as_erlang(result.reason if result.spec is None else (result.reason, 'child'))}"
    if isinstance(result, supervision.BadSpec):
        return f"error {as_erlang(result.fault)}"
    if isinstance(result, supervision.Done):
        return "ok"
    return f"error {_PROBLEMS[type(result)]}"


_PROBLEMS: dict[type, str] = {
    supervision.AlreadyPresent: "already_present",
    supervision.NotFound: "not_found",
    supervision.Running: "running",
    supervision.Restarting: "restarting",
    supervision.SimpleOneForOne: "simple_one_for_one",
}


def _check(words: list[str]) -> None:
    name, count = words[0], len(words) - 1
    if name not in _COMMANDS:
        import difflib

        near = difflib.get_close_matches(name, _COMMANDS, n=1)
        raise _Wrong(
            f"there is no command {name}", f"did you mean {near[0]}?" if near else f"there are {', '.join(_COMMANDS)}"
        )
    if (name in _WORDS and count not in _WORDS[name]) or (name == "gated" and count < 2):
        raise _Wrong("has too few or too many words", f"write {name} {_COMMANDS[name]}".rstrip())


def _split(words: list[str]) -> list[list[str]]:
    """The calls between the bars."""
    return [list(part) for bar, part in groupby(words, lambda word: word == "|") if not bar]


def _worker_spec(id: str, restart: str, shutdown: str, significant: str, *manners: str) -> dict[str, object]:
    return {
        "id": id,
        "start": (WORKER, [id, _manners(*manners)]),
        "restart": restart,
        "shutdown": _shutdown(shutdown),
        "significant": _atom(significant),
    }


def _manners(text: str = "none") -> Manners:
    name, _, value = text.partition(":")
    if name == "slow":
        return Manners(slow=_integer(value))
    if name == "reply" and value:
        return Manners(reply=_reason(value))
    if text not in ("none", "stubborn"):
        raise _Wrong(f"a worker cannot be {text}", "write none, stubborn, reply:REASON or slow:MILLISECONDS")
    return Manners(stubborn=text == "stubborn")


def _integer(text: str) -> int:
    if not _INTEGER.fullmatch(text):
        raise _Wrong(f"{text} is no whole number", "write digits alone")
    return int(text)


def _shutdown(text: str) -> str | int:
    return text if text in ("brutal_kill", "infinity") else _integer(text)


def _atom(text: str) -> str | bool:
    return {"true": True, "false": False}.get(text, text)


def _reason(text: str) -> Reason:
    name, colon, detail = text.partition(":")
    return ("shutdown", detail) if colon and name == "shutdown" else text
