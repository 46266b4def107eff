"""Why a worker died: one record for every death."""

from __future__ import annotations

import signal
from dataclasses import dataclass, field
from typing import Any, Literal

Cause = Literal["exit", "signal", "protocol", "start_timeout", "spawn", "closed", "stopped"]


@dataclass(frozen=True)
class Verdict:
    """One worker's death.

    `status` is its exit status, or minus the signal that ended it, as `subprocess` has it; None when it never ran.
    `uptime` is in seconds, `in_flight` the ids of the requests it took along, `stderr` its last lines.
    """

    service: str
    replica: int
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

    @property
    def normal(self) -> bool:
        """Whether this is `normal` or `shutdown` in OTP's sense: status 0, or stopped by us."""
        return self.cause == "stopped" or (self.cause == "exit" and self.status == 0)

    @property
    def name(self) -> str:
        """The cause as a word: `exit 1`, `SIGKILL`, `protocol`, …"""
        if self.cause == "exit":
            return f"exit {self.status}"
        if self.cause == "signal" and self.status is not None:
            return signal_name(-self.status)
        return self.cause

    def __str__(self) -> str:
        who = f"worker {self.service}/{self.replica}"
        if self.pid is not None:
            who += f" (pid {self.pid})"
        when = f" after {self.uptime:.1f} s" if self.pid is not None else ""
        lost = f", with {len(self.in_flight)} requests in flight" if self.in_flight else ""
        said = "".join(f"\n  | {line}" for line in self.stderr[-8:])
        return f"{who} {self.detail}{when}{lost}" + (f"; its last words on stderr:{said}" if said else "")

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
        }

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> Verdict:
        """The verdict that `as_dict` gave."""
        fields = {key: value for key, value in record.items() if key != "name"}
        fields["in_flight"] = tuple(record["in_flight"])
        fields["stderr"] = tuple(record["stderr"])
        fields["offending"] = bytes.fromhex(record["offending"])
        return cls(**fields)


def signal_name(number: int) -> str:
    """`SIGKILL` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def describe_status(status: int) -> str:
    """What an exit status says, as a verb: `exited with status 1`, `was killed by SIGKILL`."""
    if status >= 0:
        return f"exited with status {status}"
    name = signal_name(-status)
    hint = " (out of memory? the kernel's log says)" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"
