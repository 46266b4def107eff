"""What a supervisor's machine says: its instructions, and the results of the calls about its children."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mlports.core.supervision.specs import ChildId, ChildSpec, ChildType, Fault, StartCall

Pid: TypeAlias = Hashable
"""Names one life of a child; the driver's choice, and never used twice."""

Reason = str | tuple[object, ...]
"""Why a process ended: `normal`, `shutdown`, `("shutdown", …)`; all else, such as `killed`, is abnormal."""

Context = Literal["child_terminated", "start_error", "shutdown_error", "shutdown"]

# --- Instructions


@dataclass(frozen=True, slots=True)
class Launch:
    """Start this child, and answer `started`, `ignored` or `start_failed`. There is never more than one under way."""

    spec: ChildSpec
    start: StartCall


@dataclass(frozen=True, slots=True)
class Ask:
    """Ask this child to stop. Its end is told with `exited`, as every end is."""

    pid: Pid


@dataclass(frozen=True, slots=True)
class Kill:
    """Kill this child. Its end is told with `exited`."""

    pid: Pid


@dataclass(frozen=True, slots=True)
class SetTimer:
    """Say `timed_out(timer)` in so many milliseconds. One that is not asked for any more may still be said."""

    milliseconds: int
    timer: int


@dataclass(frozen=True, slots=True)
class Again:
    """Say `try_again(child)` behind everything that waits to be told already."""

    child: ChildId | Pid


@dataclass(frozen=True, slots=True)
class Report:
    """Something that people want to know: OTP's supervisor report. `reason` is an exit's or a failed start's."""

    context: Context
    child: ChildId
    reason: object


@dataclass(frozen=True, slots=True)
class Up:
    """Every child is up, and so is the supervisor."""


@dataclass(frozen=True, slots=True)
class End:
    """The supervisor has ended: everything before it is done, and nothing will follow."""

    reason: Reason


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of a call, to whoever made it."""

    call: object
    result: Result


Instruction = Launch | Ask | Kill | SetTimer | Again | Report | Up | End | Reply

# --- Results


@dataclass(frozen=True, slots=True)
class ChildStarted:
    """`{ok, Pid}` and `{ok, Pid, Info}`. The pid is None if the child chose not to run: `{ok, undefined}`."""

    pid: Pid | None
    info: object = None


@dataclass(frozen=True, slots=True)
class Done:
    """`ok`."""


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """A child as `which_children` tells it. The id is None for the children of a simple_one_for_one."""

    id: ChildId | None
    child: Pid | Literal["restarting"] | None
    type: ChildType
    modules: tuple[str, ...] | Literal["dynamic"]


@dataclass(frozen=True, slots=True)
class Children:
    """The children, the last started first; those of a simple_one_for_one in no order that could be relied on."""

    children: tuple[ChildInfo, ...]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many specifications, running children, and children that are supervisors and workers, running or not."""

    specs: int
    active: int
    supervisors: int
    workers: int


@dataclass(frozen=True, slots=True)
class FoundSpec:
    """A child's specification."""

    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class AlreadyStarted:
    """A child of this id is running."""

    pid: Pid


@dataclass(frozen=True, slots=True)
class AlreadyPresent:
    """A child of this id is known, and stopped or about to be restarted: `restart_child`, or `delete_child` first."""


@dataclass(frozen=True, slots=True)
class StartError:
    """The child did not start. `spec` is what was given to `start_child`, which is not kept; else None."""

    reason: object
    spec: ChildSpec | None = None


@dataclass(frozen=True, slots=True)
class BadSpec:
    """What was given is no child's specification, see `InvalidSpec`."""

    fault: Fault


@dataclass(frozen=True, slots=True)
class NotFound:
    """There is no such child."""


@dataclass(frozen=True, slots=True)
class Running:
    """The child is running, so it can be neither restarted nor deleted."""


@dataclass(frozen=True, slots=True)
class Restarting:
    """The child is about to be restarted, so it can be neither restarted nor deleted."""


@dataclass(frozen=True, slots=True)
class SimpleOneForOne:
    """The children of a simple_one_for_one are named by their pids."""


@dataclass(frozen=True, slots=True)
class SupervisorEnded:
    """The supervisor ended before it came to this call."""


Problem = (
    AlreadyStarted
    | AlreadyPresent
    | StartError
    | BadSpec
    | NotFound
    | Running
    | Restarting
    | SimpleOneForOne
    | SupervisorEnded
)
Result = ChildStarted | Done | Children | Counts | FoundSpec | Problem
