"""Control groups of Linux (cgroup v2) that limit the memory of a worker and of all that it starts.

They can be had where the orchestrator's own group, or a group above it that was delegated to it, may be written to and
hands on the memory controller. The kernel lets no group but the root do that as long as it holds processes itself; so
it takes a service of systemd with `Delegate=memory` and `DelegateSubgroup=`, or the like. Nobody is moved to get there.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

MEMORY = ("memory",)
_DELEGATED = ("user.delegate", "trusted.delegate")  # what systemd notes on a group that it leaves to somebody else


class MemoryGroup:
    """A control group below the orchestrator's, with a limit on the memory of all its processes together."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def create(
        cls,
        name: str,
        limit: int,
        *,
        controllers: Sequence[str] = MEMORY,
        refused: Callable[[str], object] = lambda reason: None,
    ) -> MemoryGroup | None:
        """A new, empty group `name`. Past `limit` bytes the kernel kills all that is in it.

        None when the system does not give one; `refused` is told why, in half a sentence. `controllers` are those that
        must be there; without "memory" there is no limit.
        """
        try:
            group = cls(_new_directory(_parent(controllers), name))
        except _Refused as refusal:
            refused(str(refusal))
            return None
        if "memory" not in controllers:
            return group
        try:
            _put(group.path / "memory.max", str(limit))
            _put(group.path / "memory.oom.group", "1")
        except OSError as error:
            refused(f"the group {group.path} takes no limit: {error.strerror}")
            group.remove()
            return None
        return group

    def add(self, pid: int) -> bool:
        """Moves a process into the group; what it starts from then on is in it too. False if that cannot be done.

        What it has allocated before still counts for the group that it came from.
        """
        return self._write("cgroup.procs", str(pid))

    def oom_kills(self) -> int | None:
        """How many of its processes the kernel has killed for want of memory; None when it does not tell."""
        for line in (self._read("memory.events") or "").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
        return None

    def peak(self) -> int | None:
        """The most memory that its processes have had together, in bytes; None when the kernel does not tell."""
        said = self._read("memory.peak")
        return None if said is None else int(said)

    def kill(self) -> bool:
        """Sends SIGKILL to all its processes, those included that left their session. False if some may be left."""
        if self._write("cgroup.kill", "1"):
            return True
        for _ in range(16):  # a kernel before 5.14; each time round there may be new ones
            pids = self._read("cgroup.procs")
            if not pids:
                return pids is not None or not self.path.exists()
            for pid in pids.split():
                with suppress(OSError):
                    os.kill(int(pid), signal.SIGKILL)
        return False

    def remove(self) -> bool:
        """Removes the group. False while a process is in it that has not ended. Once is enough."""
        try:
            self.path.rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def _read(self, name: str) -> str | None:
        try:
            return (self.path / name).read_text()
        except OSError:
            return None

    def _write(self, name: str, text: str) -> bool:
        try:
            _put(self.path / name, text)
        except OSError:
            return False
        return True


def own_group(mountinfo: str, membership: str) -> tuple[Path | None, str]:
    """Where the group of a process is, by its /proc/PID/mountinfo and /proc/PID/cgroup; or None, and why."""
    place = next((line[3:] for line in membership.splitlines() if line.startswith("0::")), None)
    if place is None:
        return None, "this process is in no group of cgroup v2"
    why = "no cgroup v2 is mounted"
    for line in mountinfo.splitlines():
        fields, _, described = line.partition(" - ")
        if described.split(" ", 1)[0] != "cgroup2":
            continue
        _, _, _, root, mounted, options, *_ = fields.split(" ")
        root, mounted = _unescaped(root), _unescaped(mounted)
        below = os.path.relpath(place, root)
        # Seen from within a namespace of groups, what is outside of it has a path that begins with /..
        if ".." in (root + place + "/" + below).split("/"):
            why = f"the group of this process is not below {mounted}"
        elif "ro" in options.split(","):
            why = f"{mounted} is mounted read-only"
        else:
            return Path(mounted) / below, ""
    return None, why


class _Refused(Exception):
    """There can be no group; the text says why."""


def _parent(controllers: Sequence[str]) -> Path:
    """The group to make others in. Raises `_Refused`."""
    try:
        mountinfo = Path("/proc/self/mountinfo").read_text(errors="surrogateescape")
        membership = Path("/proc/self/cgroup").read_text(errors="surrogateescape")
    except OSError as error:
        raise _Refused("this system has no control groups") from error
    own, why = own_group(mountinfo, membership)
    if own is None:
        raise _Refused(why)
    try:
        _hand_on(own, controllers)
    except _Refused:
        if not _is_delegated(own.parent):
            raise
        _hand_on(own.parent, controllers)
        return own.parent
    return own


def _hand_on(group: Path, controllers: Sequence[str]) -> None:
    """Sees to it that groups below this one have these controllers. Raises `_Refused`."""
    try:
        there = (group / "cgroup.controllers").read_text().split()
        handed_on = (group / "cgroup.subtree_control").read_text().split()
    except OSError as error:
        raise _Refused(f"the group {group} cannot be read: {error.strerror}") from error
    for name in controllers:
        if name in handed_on:
            continue
        if name not in there:
            raise _Refused(f"the group {group} has no {name} controller")
        try:
            _put(group / "cgroup.subtree_control", f"+{name}")
        except OSError as error:
            why = "it holds processes itself" if error.errno == errno.EBUSY else error.strerror
            raise _Refused(f"the group {group} cannot hand on its {name} controller: {why}") from error


def _is_delegated(group: Path) -> bool:
    for name in _DELEGATED:
        with suppress(OSError):
            if os.getxattr(group, name) == b"1":
                return True
    return False


def _new_directory(parent: Path, name: str) -> Path:
    """Makes a group; an empty one of that name, which a dead orchestrator left, makes room. Raises `_Refused`."""
    if "/" in name or name in ("", ".", ".."):
        raise _Refused(f"{name!r} cannot be a group's name")
    path = parent / name
    try:
        with suppress(OSError):
            path.rmdir()
        path.mkdir()
    except OSError as error:
        raise _Refused(f"cannot make the group {path}: {error.strerror}") from error
    return path


def _put(path: Path, text: str) -> None:
    """Writes to one of the kernel's files, which is there or not, and may be for writing alone."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _unescaped(field: str) -> str:
    """A field of mountinfo, in which white space and backslashes are octal."""
    for code in (" ", "\t", "\n", "\\"):
        field = field.replace(f"\\{ord(code):03o}", code)
    return field
