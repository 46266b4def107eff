"""Faults put into the machine on purpose, to see that the traces show them."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import NamedTuple

from mlports.core.supervision import machine, roster
from mlports.core.supervision.machine import Supervisor


class Mutant(NamedTuple):
    """A text that stands in the sources once, and what is put in its place."""

    name: str
    right: str
    wrong: str


MUTANTS = (
    Mutant(
        "a transient child is restarted after a normal end",
        'kind == "transient" and not normal',
        'kind == "transient"',
    ),
    Mutant(
        "a permanent child is not restarted after a normal end",
        'if kind == "permanent" or (kind == "transient" and not normal):',
        'if kind in ("permanent", "transient") and not normal:',
    ),
    Mutant(
        "a shutdown with a detail is abnormal",
        "normal = is_normal(reason)",
        'normal = reason in ("normal", "shutdown")',
    ),
    Mutant("restarts are counted in milliseconds", "self._now // 1000", "self._now"),
    Mutant("restarts are not counted", "if not self._intensity.allow(self._now // 1000):", "if False:"),
    Mutant("rest_for_one restarts all", 'if strategy == "rest_for_one":', "if False:"),
    Mutant(
        "one_for_all restarts one", 'in ("one_for_one", "simple_one_for_one"):', 'in ("one_for_one", "one_for_all"):'
    ),
    Mutant(
        "rest_for_one leaves the child itself out", "group[group.index(child) :]", "group[group.index(child) + 1 :]"
    ),
    Mutant(
        "temporary children are started again with a group",
        'for one in reversed(group) if one.spec.restart != "temporary"]',
        "for one in reversed(group)]",
    ),
    Mutant("a group is started in reverse", "for one in reversed(group) if", "for one in group if"),
    Mutant(
        "children are stopped in the order of their start",
        "self._to_stop = list(self._children.by_id.values())",
        "self._to_stop = list(reversed(self._children.by_id.values()))",
    ),
    Mutant(
        "waiting ends of stopped children are asked for again",
        "            elif pid in self._deaths:\n                self._stopped(child, self._deaths.pop(pid))\n"
        "            else:\n                self.phase",
        "            else:\n                self.phase",
    ),
    Mutant("a failed restart is not tried again", "self._out.append(Again(", "(("),
    Mutant(
        "a failed restart leaves the child undefined",
        "            child.restarting = True\n",
        "            child.pid = None\n",
    ),
    Mutant("brutal_kill asks first", 'if shutdown == "brutal_kill":', 'if shutdown == "kill":'),
    Mutant("a shutdown of 0 waits", "if shutdown == 0:", 'if shutdown == "never":'),
    Mutant("nobody is killed when the time is over", "self._out.extend(Kill(pid) for", "self._out.extend(Ask(pid) for"),
    Mutant("permanent children may end as they like", "if was_expected(child.spec, reason):", "if is_normal(reason):"),
    Mutant(
        "any_significant waits for all",
        'return auto == "any_significant"',
        "return False",
    ),
    Mutant(
        "all_significant does not see who is restarting",
        "(one.restarting or one.pid is not None)",
        "(one.pid is not None and not one.restarting)",
    ),
    Mutant("every child is significant", "if child.spec.significant and self._shuts_down():", "if self._shuts_down():"),
    Mutant(
        "a failed start_child is kept",
        "self._reply(StartError(reason, None if self._simple else child.spec))",
        "self._children.by_id[child.spec.id] = child; self._reply(StartError(reason, child.spec))",
    ),
    Mutant(
        "a restarting child may be deleted",
        "if child.restarting:\n            return Restarting()",
        "if False:\n            return Restarting()",
    ),
    Mutant(
        "which_children is in the order of the start",
        "else reversed(self.by_id.values())",
        "else self.by_id.values()",
    ),
    Mutant(
        "restarting children count as active",
        "if child.running)",
        "if child.pid is not None)",
    ),
    Mutant(
        "an ignored temporary child is kept",
        "self._children.put_down(child)\n        self._after_start",
        "self._children.set_pid(child, None)\n        self._after_start",
    ),
    Mutant("a temporary child that ended is kept", 'if child.spec.restart == "temporary":', "if False:"),
    Mutant("a child is known by the pid of an earlier life", "self.by_pid.pop(child.pid, None)", "pass"),
)


SOURCES = (roster, machine)
"""In the order in which they import each other."""


def supervisor_with(mutant: Mutant) -> type[Supervisor]:
    """The machine with this fault."""
    texts = [_source(module) for module in SOURCES]
    found = sum(text.count(mutant.right) for text in texts)
    assert found == 1, f"{mutant.name}: what it replaces stands {found} times"
    copies = {module.__name__: ModuleType(module.__name__) for module in SOURCES}
    # They import each other, and look up their annotations, by their names.
    sys.modules.update(copies)
    try:
        for (name, copy), text in zip(copies.items(), texts, strict=True):
            exec(compile(text.replace(mutant.right, mutant.wrong), f"{name} with a fault", "exec"), vars(copy))
    finally:
        sys.modules.update({module.__name__: module for module in SOURCES})
    supervisor: type[Supervisor] = copies[machine.__name__].Supervisor
    return supervisor


def _source(module: ModuleType) -> str:
    assert module.__file__ is not None
    with open(module.__file__, encoding="utf-8") as file:
        return file.read()
