"""The state directory of a running orchestrator, and the socket in it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from mlports.errors import ControlError

SOCKET_NAME = "control.sock"
LOCK_NAME = "orchestrator.lock"
FEATURES = frozenset(["ping", "cancel", "stream", "batch", "ndarray"])
MAX_FRAME = 2**31 - 1
READ_SIZE = 256 * 1024
_REMEDIES = {
    errno.ENOSPC: "Make room there",
    errno.EDQUOT: "Make room there",
    errno.EFBIG: "Raise ulimit -f",
    errno.EMFILE: "Raise ulimit -n",
    errno.ENOENT: "Make the directory",
}
_LONGEST_NAME = 103  # bytes of a socket's path: 104 on macOS and 108 on Linux, with the NUL that ends it


class StateDir:
    """The directory of one running orchestrator: locked by it, with its pid inside.

    Raises `ControlError` when another orchestrator holds it, naming its pid, or when it cannot be written. What a dead
    one left behind is taken over.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = os.open(path / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            why = "it is not a directory" if isinstance(error, FileExistsError) else error.strerror
            raise ControlError(
                f"cannot use the state directory {path}: {why}. {remedy(error)}, or set state_dir to another"
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._lock, 32, 0).decode(errors="replace").strip() or "unknown"
            os.close(self._lock)
            raise ControlError(
                f"the state directory {path} is in use by a running orchestrator (pid {pid}). "
                "Stop that one with `mlports stop`, or set state_dir to another directory"
            ) from None
        except OSError as error:
            os.close(self._lock)
            raise ControlError(
                f"cannot lock the state directory {path}: {error.strerror}. Set state_dir to one on a local disk"
            ) from error
        try:
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(self._lock)
            raise ControlError(
                f"cannot write into the state directory {path}: {error.strerror}. {remedy(error)}, or set state_dir to "
                "another"
            ) from error

    def close(self) -> None:
        """Gives the directory free. Once is enough."""
        if self._lock >= 0:
            with contextlib.suppress(OSError):
                os.unlink(self.path / SOCKET_NAME)
            os.close(self._lock)
            self._lock = -1


def remedy(error: OSError) -> str:
    """What to do about a file that cannot be written, as a request."""
    return _REMEDIES.get(error.errno or 0, "Make it writable")


@contextlib.contextmanager
def reachable(path: Path) -> Iterator[str]:
    """A name for a socket that fits into the bytes that there are: by way of the directory's descriptor, if need be."""
    name = str(path)
    if len(os.fsencode(name)) <= _LONGEST_NAME:
        yield name
        return
    if not os.path.isdir("/proc/self/fd"):
        raise OSError(errno.ENAMETOOLONG, "the path of a socket is limited to about 100 bytes: set a shorter state_dir")
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
