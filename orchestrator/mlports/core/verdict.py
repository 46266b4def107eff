"""Why a worker died: one record for every death."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from mlports.core.stacks import innermost

Cause = Literal[
    "exit",
    "signal",
    "out_of_memory",
    "hang",
    "protocol",
    "start_timeout",
    "warm_up",
    "memory_limit",
    "spawn",
    "closed",
    "stopped",
]


@dataclass(frozen=True)
class Verdict:
    """One worker's or program's death; a program has no `replica`, and its name is `service`.

    `status` is its exit status, or minus the signal that ended it, as `subprocess` has it; None when it never ran.
    `uptime` is in seconds, `in_flight` the ids of the requests it took along, `stderr` its last lines. `stacks` are the
    lines of its threads' stacks, taken before it was killed. `peak_memory` is the most that it had resident, in bytes,
    without the processes that it started. `time` is when it was found dead, in seconds since the epoch. `recording` is
    the file of its last frames, where the service has `record`.
    """

    service: str
    replica: int | None
    pid: int | None
    cause: Cause
    detail: str
    status: int | None = None
    uptime: float = 0.0
    ready: bool = False  # it had come up
    restarts: int = 0
    in_flight: tuple[int, ...] = ()
    stderr: tuple[str, ...] = ()
    offending: bytes = field(default=b"", repr=False)
    stacks: tuple[str, ...] = ()
    peak_memory: int | None = None
    time: float = 0.0
    recording: str | None = None

    @property
    def normal(self) -> bool:
        """Whether this is `normal` or `shutdown` in OTP's sense: status 0, or stopped by us."""
        return self.cause == "stopped" or (self.cause == "exit" and self.status == 0)

    @property
    def name(self) -> str:
        """The cause as a word: `exit 1`, `SIGKILL`, `protocol`, …"""
        if self.cause == "exit":
            return f"exit {'unknown' if self.status is None else self.status}"
        if self.cause == "signal" and self.status is not None:
            return signal_name(-self.status)
        return self.cause

    def __str__(self) -> str:
        who = f"program {self.service}" if self.replica is None else f"worker {self.service}/{self.replica}"
        if self.pid is not None:
            who += f" (pid {self.pid})"
        when = f" after {self.uptime:.1f} s" if self.pid is not None else ""
        count = len(self.in_flight)
        lost = f", with {count} {'request' if count == 1 else 'requests'} in flight" if count else ""
        said = "".join(f"\n  | {line}" for line in self.stderr[-8:])
        kept = f"; recorded in {self.recording}" if self.recording else ""
        text = f"{who} {self.detail}{when}{lost}{kept}" + (f"; its last words on stderr:{said}" if said else "")
        at = "".join(f"\n  | {line}" for line in innermost(self.stacks))
        return text + (f"\n  where its threads were, innermost first:{at}" if at else "")

    def as_dict(self) -> dict[str, Any]:
        """The record as plain values, for JSON."""
        return {
            "service": self.service,
            "replica": self.replica,
            "pid": self.pid,
            "cause": self.cause,
            "name": self.name,
            "detail": self.detail,
            "status": self.status,
            "uptime": round(self.uptime, 3),
            "ready": self.ready,
            "restarts": self.restarts,
            "in_flight": list(self.in_flight),
            "stderr": list(self.stderr),
            "offending": self.offending.hex(" "),
            "stacks": list(self.stacks),
            "peak_memory": self.peak_memory,
            "time": round(self.time, 3),
            "recording": self.recording,
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Verdict:
        """The verdict that `as_dict` gave, also that of an older version, or of a newer one as far as it is known."""
        known = {each.name for each in fields(cls)}
        values = {key: value for key, value in record.items() if key in known}
        for name in ("in_flight", "stderr", "stacks"):
            values[name] = tuple(values.get(name, ()))
        values["offending"] = bytes.fromhex(values.get("offending", ""))
        return cls(**values)


def signal_name(number: int) -> str:
    """`SIGKILL` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def describe_status(status: int | None, out_of_memory: bool | None = None) -> str:
    """What an exit status says, as a verb: `exited with status 1`, `was killed by SIGKILL`.

    None: nobody knows, because the template that it was forked from, who would, had died before it.

    `out_of_memory` is whether the kernel ended it for want of memory; None: nobody knows, and a SIGKILL may mean that.
    """
    if status is None:
        return "ended, by its own exit or by a signal: nobody knows, its template process having died before it"
    if status >= 0:
        return f"exited with status {status}"
    name = signal_name(-status)
    if out_of_memory:
        return f"ran out of memory: the kernel killed it by {name}"
    hint = " (out of memory? the kernel's log says)" if name == "SIGKILL" and out_of_memory is None else ""
    return f"was killed by {name}{hint}"
