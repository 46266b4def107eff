"""Why children end, and which of the reasons are as they should be."""

from __future__ import annotations

from mlports.core.supervision.api import Reason
from mlports.core.supervision.specs import ChildSpec


def is_normal(reason: object) -> bool:
    """Whether an exit is one after which only a permanent child is restarted."""
    return reason in ("normal", "shutdown") or _is_shutdown_with_detail(reason)


def _is_shutdown_with_detail(reason: object) -> bool:
    return isinstance(reason, tuple) and len(reason) == 2 and reason[0] == "shutdown"


def was_expected(spec: ChildSpec, reason: Reason) -> bool:
    """Whether a child that was stopped ended as such a child should."""
    if reason == "killed":
        return spec.shutdown == "brutal_kill"
    if spec.restart != "permanent":
        return is_normal(reason)
    return reason == "shutdown" and spec.shutdown != "brutal_kill"


def as_otp_sorts(reason: Reason) -> tuple[bool, int, str]:
    """Words before tuples, short tuples before long ones."""
    if isinstance(reason, tuple):
        return True, len(reason), repr(reason)
    return False, 0, reason
