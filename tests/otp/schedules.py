"""Random schedules for supervision trees: what a seed stands for, and how one that shows a fault is made smaller.

A schedule is the lines of a scenario, see `mlports.testing.simulation.scenario`. Only what OTP does in one way is
asked for. So: nothing hangs on which of two timers fires first; a supervisor is killed only if it has few children or
none, since these then end in an order of the virtual machine's own; and two faults of OTP 25 are kept clear of: a child
of a simple_one_for_one that ignores its restart, and `active` in count_children after one was terminated while it was
restarting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

REASONS = ("normal", "shutdown", "shutdown:moved", "crash", "crash", "crash", "kill")
RESTARTS = ("permanent", "permanent", "transient", "temporary")
STRATEGIES = ("one_for_one", "one_for_one", "one_for_all", "rest_for_one", "simple_one_for_one")
MANNERS = ("none", "none", "none", "none", "stubborn", "reply:normal", "reply:shutdown:later", "reply:bad", "slow:3")


@dataclass
class _Family:
    """A supervisor of the schedule. A fragile one may be killed."""

    id: str
    parent: str
    strategy: str
    auto_shutdown: str
    fragile: bool
    counted: bool
    children: list[str] = field(default_factory=list)
    supervisors: list[str] = field(default_factory=list)


class _Author:
    def __init__(self, seed: int, timed: bool) -> None:
        self.random = Random(seed)
        self.timed = timed
        self.families: list[_Family] = []
        self.lines: list[str] = []
        self._serial = 0

    def write(self) -> list[str]:
        random = self.random
        self._supervisor("-", 0)
        ids = [child for family in self.families for child in family.children]
        if ids and random.random() < 0.08:
            self.lines.append(self._failure(random.choice(ids)))
        self.lines.append("go")
        for _ in range(random.randint(3, 14)):
            self._command()
        return self.lines

    # --- The tree

    def _supervisor(self, parent: str, depth: int, fragile: bool = False) -> str:
        random = self.random
        strategy = random.choice(STRATEGIES)
        auto = random.choice(("never", "never", "any_significant", "all_significant"))
        family = _Family(self._name("s"), parent, strategy, auto, fragile, random.random() < 0.5)
        size = random.choice((0, 1, 1, 2)) if fragile else random.randint(1, 4)
        if strategy == "simple_one_for_one":
            size = 1
        period = 1 if self.timed else 3600
        intensity = random.choice((0, 1, 1, 2, 3, 5, 9))
        line = f"sup {family.id} {parent} {strategy} {intensity} {period} {auto}"
        if parent != "-":
            above = next(one for one in self.families if one.id == parent)
            restart = random.choice(RESTARTS)
            shutdown = random.choice(("brutal_kill", "0") if size == 0 else ("infinity", "5000"))
            line += f" {restart} {shutdown} {self._significant(restart, above)}"
        self.lines.append(line)
        self.families.append(family)
        if strategy == "simple_one_for_one":
            self.lines.append(f"worker {family.id}t {family.id} {self._worker(family)}")
            return family.id
        for _ in range(size):
            if depth < 2 and not fragile and random.random() < 0.3:
                # The line of a child that is a supervisor stands where that child starts.
                family.supervisors.append(self._supervisor(family.id, depth + 1, random.random() < 0.4))
            else:
                child = self._name("w")
                family.children.append(child)
                self.lines.append(f"worker {child} {family.id} {self._worker(family)}")
        return family.id

    def _name(self, kind: str) -> str:
        self._serial += 1
        return f"{kind}{self._serial}"

    def _significant(self, restart: str, family: _Family) -> str:
        fits = restart != "permanent" and family.auto_shutdown != "never"
        return "true" if fits and self.random.random() < 0.6 else "false"

    def _worker(self, family: _Family) -> str:
        """The rest of a worker's line, behind its id and supervisor."""
        random = self.random
        restart = random.choice(RESTARTS)
        significant = self._significant(restart, family)
        manners = "none" if family.fragile else random.choice(MANNERS)
        if manners == "stubborn":
            shutdown = random.choice(("brutal_kill", "0", "10"))
        elif manners == "slow:3":
            shutdown = random.choice(("brutal_kill", "infinity", "5000"))
        else:
            shutdown = random.choice(("brutal_kill", "infinity", "5000", "5000", "0"))
        if shutdown == "0" and family.strategy == "simple_one_for_one":
            shutdown = "10"
        return f"{restart} {shutdown} {significant} {manners}"

    # --- What befalls it

    def _command(self) -> None:
        random = self.random
        family = random.choice(self.families)
        choices: list[tuple[int, Callable[[_Family], None]]] = [
            (30, self._exit),
            (8, self._burst),
            (10, self._fail),
            (9, self._gated),
            (24, self._call),
            (6 if self.timed else 0, self._wait),
            (3, self._kill),
        ]
        weights, acts = zip(*choices, strict=True)
        random.choices(acts, weights)[0](family)

    def _child(self, family: _Family) -> str:
        if family.strategy == "simple_one_for_one":
            if not family.children or self.random.random() < 0.3:
                name = self._name("d")
                family.children.append(name)
                self.lines.append(f"start_dyn {family.id} {name}")
                return name
        elif not family.children or self.random.random() < 0.02:
            return "stranger"
        return self.random.choice(family.children)

    def _exit(self, family: _Family) -> None:
        self.lines.append(f"exit {self._child(family)} {self.random.choice(REASONS)}")

    def _kill(self, _: _Family) -> None:
        fragile = [family.id for family in self.families if family.fragile and family.strategy != "simple_one_for_one"]
        if fragile:
            self.lines.append(f"exit {self.random.choice(fragile)} kill")

    def _burst(self, family: _Family) -> None:
        random = self.random
        children = {self._child(family) for _ in range(random.randint(2, 4))}
        order = sorted(children - {"stranger"})
        random.shuffle(order)
        if order:
            self.lines.append(f"burst {' '.join(f'{child}:{random.choice(REASONS)}' for child in order)}")

    def _failure(self, child: str, modes: tuple[str, ...] = ("error", "error", "raise", "ignore")) -> str:
        return f"fail {child} {self.random.choice((1, 1, 2, 3))} {self.random.choice(modes)}"

    def _fail(self, family: _Family) -> None:
        if family.strategy == "simple_one_for_one":
            if self.random.random() < 0.2:
                name = self._name("i")
                self.lines += [f"fail {name} 1 ignore", f"start_dyn {family.id} {name}"]
                return
            self.lines.append(self._failure(self._child(family), ("error", "raise")))
            return
        self.lines.append(self._failure(self.random.choice([*family.children, *family.supervisors, "stranger"])))

    def _gated(self, family: _Family) -> None:
        random = self.random
        child = self._child(family)
        if child == "stranger":
            return
        calls = [self._request(family, child, gated=True) for _ in range(random.randint(1, 4))]
        reason = random.choice(("crash", "crash", "kill", "normal"))
        self.lines.append(f"gated {child} {reason} | {' | '.join(calls)}")

    def _call(self, family: _Family) -> None:
        self.lines.append(self._request(family, self._child(family), gated=False))

    def _wait(self, _: _Family) -> None:
        self.lines.append("wait 2200")

    def _request(self, family: _Family, child: str, gated: bool) -> str:
        random, id = self.random, family.id
        simple = family.strategy == "simple_one_for_one"
        names = ["which", "restart", "delete", "terminate", "terminate", "start", "start"]
        if not simple or family.counted:
            names.append("count")
        if simple and family.counted and gated:
            names = [name for name in names if name != "terminate"]
        name = random.choice(names)
        if name in ("which", "count"):
            return f"{name} {id}"
        if simple and name == "start":
            started = self._name("d")
            family.children.append(started)
            return f"start_dyn {id} {started}"
        if name == "start":
            if family.fragile:
                return f"which {id}"
            if random.random() < 0.5:
                child = self._name("n")
                family.children.append(child)
            elif random.random() < 0.1:
                # Not a specification that could be.
                return f"start_child {id} {child} {random.choice(FAULTY)}"
            return f"start_child {id} {child} {self._worker(family)}"
        if simple and name == "terminate" and random.random() < 0.2:
            return f"terminate_id {id} {id}t"
        if not simple and family.supervisors and random.random() < 0.2:
            child = random.choice(family.supervisors)
        return f"{name} {id} {child}"


FAULTY = (
    "forever 5000 false",
    "permanent -1 false",
    "transient 5000 perhaps",
    "permanent 5000 true",
)
"""Faulty ends of a `start_child`, but for those that the language itself refuses."""


def schedule(seed: int, timed: bool = False) -> list[str]:
    """The lines that a seed stands for. A timed one lets restarts fall out of their period, and takes seconds."""
    return _Author(seed, timed).write()


def scenario(name: str, lines: list[str]) -> str:
    """The lines as a scenario."""
    return "\n".join([f"scenario {name}", *lines, "end", ""])


def shrunk(lines: list[str], fails: Callable[[list[str]], bool], attempts: int = 200) -> list[str]:
    """A smaller schedule that fails too: one that needs every command and every worker that it has."""
    left = attempts
    size = len(lines)
    while size >= 1 and left:
        start = 0
        while start < len(lines) and left:
            shorter = [*lines[:start], *lines[start + size :]]
            gone = lines[start : start + size]
            # A tree without its root or its start is no schedule.
            if not any(line.startswith(("sup ", "go")) for line in gone):
                left -= 1
                if fails(shorter):
                    lines = shorter
                    continue
            start += size
        size //= 2
    return lines
