"""What /proc tells of processes; where there is none, as on macOS, it tells of none."""

from __future__ import annotations

from pathlib import Path


def family_of(head: int) -> dict[int, int]:
    """A process and its descendants, each with its parent; that of the first is given as 0."""
    parent_of: dict[int, int] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        if stat := _stat(int(entry.name)):
            parent_of[int(entry.name)] = int(stat[1])
    family = {head: 0}
    grown = True
    while grown:
        found = {pid: parent for pid, parent in parent_of.items() if parent in family and pid not in family}
        family.update(found)
        grown = bool(found)
    return family


def state_of(pid: int) -> str | None:
    """A process's state as the kernel names it: R, S, D, T for one that was stopped, Z; None if it is gone."""
    stat = _stat(pid)
    return stat[0] if stat else None


def start_of(pid: int) -> int | None:
    """When a process was started, in ticks since the system was: with the pid its identity. None if it is gone."""
    stat = _stat(pid)
    return int(stat[19]) if stat else None


def _stat(pid: int) -> list[str]:
    """The fields from the third on; none if there is no such process, or no /proc."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
