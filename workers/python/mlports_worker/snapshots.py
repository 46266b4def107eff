"""Snapshots: a worker's state in a file, from which the next life of the same replica goes on after a crash.

A file is `_MAGIC`, the CRC-32 of what follows in 4 bytes (big-endian), and a frame as on the wire, of the notification
`$/snapshot` whose one param is the state. It is written beside the old one, and takes its place when it is on the disk.
"""

from __future__ import annotations

import os
import re
import threading
import time
import zlib
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, Callable, NamedTuple, Union
from urllib.parse import quote

from mlports_protocol import Codec, Notification, ProtocolError

from .failures import Failure, error_of

_MAGIC = b"mlports snapshot 1\n"
_HEAD = len(_MAGIC) + 4 + 4
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

Every = Union[int, float]
"""How often: an int is a number of calls, a float a number of seconds."""


class Damaged(Exception):
    """A file is no snapshot, or not all of one."""


class Hooks(NamedTuple):
    """What a worker's author gives: `take` gives the state, `restore` takes it."""

    take: Callable[[], Any]
    restore: Callable[[Any], Any]


class Snapshots:
    """Keeps one replica's state in the file `path`, and takes it from there.

    Where calls count, a snapshot is on the disk when `after_call` returns. Where time does, a thread brings it there,
    so that no call waits for the disk, and what came of it is seen at the next step. `log(level, text)` takes what the
    operator should know: a snapshot that fails is told, and fails no call.
    """

    def __init__(self, path: str, every: Every, hooks: Hooks, log: Callable[[str, str], None]) -> None:
        self.path = path
        self._every = every
        self._hooks = hooks
        self._log = log
        self._calls = 0  # since the last snapshot
        self._last = time.monotonic()
        self._written: int | None = None  # the checksum of what is in the file
        self._failed = 0  # times in succession
        self._writing: _Writing | None = None

    @property
    def pause(self) -> float | None:
        """Seconds after which to look again when nothing is called; None if only calls count."""
        return self._every if isinstance(self._every, float) else None

    def restore(self) -> str | None:
        """Gives the worker what the file holds, if there is one. Raises what the worker's hook raises.

        A damaged file is put aside; what is given then is what the operator should know of it.
        """
        try:
            state = read(self.path)
        except FileNotFoundError:
            return None
        except Damaged as damage:
            aside = f"{self.path}.damaged"
            try:
                os.replace(self.path, aside)
            except OSError as error:
                text = f"the snapshot {self.path} cannot be used ({damage}), nor put aside: {error.strerror}"
                raise Failure("failed_precondition", text) from error
            return f"the snapshot {self.path} was not used: {damage}. It is now {aside}, and the worker began afresh"
        except OSError as error:
            raise Failure("failed_precondition", f"the snapshot {self.path} cannot be read: {error}") from error
        self._hooks.restore(state)
        return None

    def after_call(self) -> None:
        """A call, or a cast, has been worked on, and is not answered yet. Takes a snapshot if one is due."""
        self._calls += 1
        if isinstance(self._every, int):
            if self._calls >= self._every:
                self.take()
        else:
            self.after_pause()

    def after_pause(self) -> None:
        """Takes a snapshot if there have been calls, and it is time."""
        if self._writing is not None:
            if self._writing.is_alive():
                return  # the disk is slower than that: the next one waits
            self._settle()
        if self._calls and isinstance(self._every, float) and time.monotonic() - self._last >= self._every:
            self._begin()

    def finish(self) -> None:
        """Nothing more will be called. Returns when the last snapshot is on the disk."""
        self._settle()
        if self._calls:
            self.take()

    def wait(self) -> None:
        """Returns when nothing is being written any more, well or not."""
        if self._writing is not None:
            self._writing.result()

    def take(self) -> None:
        """Takes a snapshot, and returns when it is on the disk. One that fails leaves the file as it was."""
        self._settle()
        self._begin()
        self._settle()

    def _begin(self) -> None:
        """Asks for the state, and has it written."""
        self._calls, self._last = 0, time.monotonic()
        later = isinstance(self._every, float)
        try:
            buffers = _encoded(self._hooks.take())
            if later:  # arrays come as views of what the handlers go on to change
                buffers = [bytes(buffer) for buffer in buffers]
            writing = _Writing(self.path, buffers, self._written)
            if later:
                writing.start()
            else:
                writing.run()
        except Exception as error:
            self._tell_failed(error_of(error)["message"])
        else:
            self._writing = writing

    def _settle(self) -> None:
        """Waits for what is being written, if anything is, and tells what came of it."""
        if self._writing is None:
            return
        writing, self._writing = self._writing, None
        error = writing.result()
        if isinstance(error, OSError):
            self._tell_failed(f"{self.path} was not written: {error.strerror}")
        elif error is not None:
            self._tell_failed(error_of(error)["message"])
        else:
            self._written = writing.checksum
            if self._failed:
                self._log("info", f"snapshots are taken again: {self._failed} had failed")
            self._failed = 0

    def _tell_failed(self, why: str) -> None:
        self._failed += 1
        self._calls = max(self._calls, 1)  # what they did is still to be kept, also if nothing more is called
        if self._failed == 1:
            old = "the one before it stays" if os.path.exists(self.path) else "there is none yet"
            self._log("error", f"a snapshot failed, and {old}: {why}. The worker goes on; a crash would lose its state")


class _Writing(threading.Thread):
    """Brings what was encoded to the disk, unless it is what the file holds already, whose checksum is `written`.

    `start()` does it on a thread, `run()` at once.
    """

    def __init__(self, path: str, buffers: list[Any], written: int | None) -> None:
        super().__init__(name="mlports-snapshot", daemon=True)
        self.checksum: int | None = None
        self._path, self._buffers, self._written = path, buffers, written
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self.checksum = checksum = _checksum(self._buffers)
            if checksum != self._written or not os.path.exists(self._path):
                _write_whole(self._path, [_MAGIC, checksum.to_bytes(4, "big"), *self._buffers])
        except Exception as error:
            self._error = error

    def result(self) -> Exception | None:
        """Waits until it is done; gives what went wrong."""
        if self.ident is not None:
            self.join()
        return self._error


def from_config(
    config: dict[str, Any], owner: str, replica: int, hooks: Hooks, log: Callable[[str, str], None]
) -> Snapshots | None:
    """What `snapshot = {dir, every}` in a service's config asks for; None without it.

    Makes the folder. Raises `Failure` for a config that is wrong, and when the folder cannot be made.
    """
    given = config.get("snapshot")
    if given is None:
        return None
    if not isinstance(given, dict) or not given.keys() <= {"dir", "every"} or not isinstance(given.get("dir"), str):
        example = 'such as {dir = "state", every = "5s"}'
        raise Failure(
            "invalid_argument", f"config: snapshot is a table of dir and every, {example}, not {given!r:.200}"
        )
    every = parse_every(given.get("every", "1s"))
    folder = os.path.abspath(given["dir"])
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        text = f"config: snapshot.dir {folder} is no folder, and cannot be made: {error.strerror}"
        raise Failure("failed_precondition", text) from error
    return Snapshots(os.path.join(folder, f"{quote(owner, safe='')}-{replica}.snapshot"), every, hooks, log)


def parse_every(given: Any) -> Every:
    """A number of calls as it is, a text such as "500ms" or "5s" as seconds. Raises `Failure` for anything else."""
    if isinstance(given, int) and not isinstance(given, bool) and given >= 1:
        return given
    found = _DURATION.fullmatch(given) if isinstance(given, str) else None
    seconds = float(found[1]) * _SECONDS[found[2]] if found else 0.0
    if not seconds:
        text = f'config: snapshot.every is a number of calls, or a text such as "500ms" or "5s", not {given!r:.80}'
        raise Failure("invalid_argument", text)
    return seconds


def read(path: str) -> Any:
    """The state in a snapshot. Raises `Damaged`, or `OSError` when there is none to read."""
    with open(path, "rb") as file:
        content = file.read()
    if content[: len(_MAGIC)] != _MAGIC:
        raise Damaged("it does not begin as one" if content else "it is empty")
    frame = memoryview(content)[_HEAD - 4 :]
    if len(content) < _HEAD or int.from_bytes(frame[:4], "big") != len(frame) - 4:
        raise Damaged(f"it is not whole: {len(content)} bytes are there")
    if zlib.crc32(frame) != int.from_bytes(content[len(_MAGIC) : _HEAD - 4], "big"):
        raise Damaged("its bytes are not those that were written")
    try:
        message = Codec().decode(frame[4:])
    except (ProtocolError, ImportError) as error:
        raise Damaged(f"it cannot be decoded: {error}") from error
    if not isinstance(message, Notification) or len(message.params) != 1:
        raise Damaged("it holds something else")
    return message.params[0]


def _encoded(state: Any) -> list[Any]:
    return Codec().encode(Notification("$/snapshot", [state]))


def _checksum(buffers: Iterable[Any]) -> int:
    checksum = 0
    for buffer in buffers:
        checksum = zlib.crc32(buffer, checksum)
    return checksum


def _write_whole(path: str, buffers: Iterable[Any]) -> None:
    """Puts a file in its place when all of it is on the disk, not before."""
    folder, name = os.path.split(path)
    unfinished = os.path.join(folder, f".{name}.unfinished")
    try:
        with open(unfinished, "wb") as file:
            for buffer in buffers:
                file.write(buffer)
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished)
        raise
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
