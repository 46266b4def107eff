"""A supervisor as its users see it: OTP's calls about children, and their results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mlports.core.supervision import ChildId, Children, ChildStarted, Counts, Result
from mlports.core.supervision.api import AlreadyStarted, Done, Instruction, NotFound, SupervisorEnded
from mlports.errors import NotRunning
from mlports.runtime.life import Life
from mlports.runtime.supervisor import SupervisorLife

if TYPE_CHECKING:
    from mlports.config import ProgramConfig
    from mlports.runtime.tree import SupervisionTree


class SupervisorHandle:
    """One supervisor of a running orchestrator, by name, also after it was restarted.

    Every method waits for its turn, as the supervisor does one thing at a time, and gives OTP's result under a Python
    name: see `mlports.core.supervision`. Children are named by their ids ("digits/0" for a replica, else the name),
    those of a simple_one_for_one too. Where OTP has a pid, this is the operating system's, or a supervisor's name.
    With `parallel_start` a child counts as started when its process runs; what else becomes of it is told by events.
    Raises `NotRunning` when the supervisor does not run.
    """

    def __init__(self, tree: SupervisionTree, name: str) -> None:
        self._tree = tree
        self._name = name

    @property
    def ended(self) -> bool:
        """Whether it does not run: it has given up, and was not started again."""
        life = self._tree.supervisors.get(self._name)
        return life is None or life.ended.done()

    async def which_children(self) -> Children:
        """The children, the last started first."""
        life = self._life()
        result = await self._ask(life, life.machine.which_children)
        assert isinstance(result, Children)
        return Children(tuple(replace(info, child=_pid(info.child)) for info in result.children))

    async def count_children(self) -> Counts:
        """How many specifications, running children, supervisors and workers there are."""
        life = self._life()
        result = await self._ask(life, life.machine.count_children)
        assert isinstance(result, Counts)
        return result

    async def start_child(self, name: str | None = None, program: ProgramConfig | None = None) -> Result:
        """Adds a program and starts it; of a simple_one_for_one, without arguments, one child more like the others.

        `ChildStarted`, `AlreadyStarted`, `AlreadyPresent`, `StartError` (it is not kept then), `BadSpec`.
        """
        life = self._life()
        if name is None or program is None:
            if life.branch.flags.strategy != "simple_one_for_one" or name is not None or program is not None:
                raise TypeError("start_child takes a name and a ProgramConfig, and nothing for a simple_one_for_one")
            return _told(await self._ask(life, life.machine.start_child, (life.next_instance(),)))
        spec = self._tree.new_program(name, program)
        started = False
        try:
            result = await self._ask(life, life.machine.start_child, spec)
            started = isinstance(result, ChildStarted | AlreadyStarted)
        except asyncio.CancelledError:  # it is started when its turn comes
            started = True
            raise
        finally:
            if not started:
                self._tree.forget_program(name)
        return _told(result)

    async def restart_child(self, child: ChildId) -> Result:
        """Starts a child again that is stopped: `ChildStarted`, `Running`, `Restarting`, `NotFound`, `StartError`."""
        life = self._life()
        return _told(await self._ask(life, life.machine.restart_child, child))

    async def terminate_child(self, child: ChildId) -> Result:
        """Stops a child, until it is restarted by a call or with others: `Done`, or `NotFound`."""
        life = self._life()
        if life.branch.flags.strategy != "simple_one_for_one":
            return await self._ask(life, life.machine.terminate_child, child)
        running = life.running(child)
        if running is None:
            return NotFound()
        return await self._ask(life, life.machine.terminate_child, running, True)

    async def delete_child(self, child: ChildId) -> Result:
        """Forgets a child that is stopped: `Done`, `Running`, `Restarting`, `NotFound`."""
        life = self._life()
        result = await self._ask(life, life.machine.delete_child, child)
        if isinstance(result, Done):
            self._tree.forget_program(str(child))
        return result

    def _life(self) -> SupervisorLife:
        life = self._tree.supervisors.get(self._name)
        if life is None or life.ended.done():
            raise self._not_running()
        return life

    async def _ask(self, life: SupervisorLife, method: Callable[..., list[Instruction]], *args: object) -> Result:
        result = await life.ask_about(method, *args)
        if isinstance(result, SupervisorEnded):
            raise self._not_running()
        return result

    def _not_running(self) -> NotRunning:
        return NotRunning(f"supervisor {self._name} does not run: its own supervisor may start it again")


def _told(result: Result) -> Result:
    if isinstance(result, ChildStarted | AlreadyStarted):
        return replace(result, pid=_pid(result.pid))
    return result


def _pid(child: Any) -> Any:
    """A life as its users know it."""
    if child is None or isinstance(child, str):
        return child
    life: Life = child
    return life.pid if life.pid is not None else life.key
