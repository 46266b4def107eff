"""The file of verdicts in the state directory: one line of JSON for every death."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from mlports.control.state import remedy
from mlports.telemetry import Event, EventLog

FILE_NAME = "verdicts.jsonl"
OLD_NAME = "verdicts.1.jsonl"
_LONGEST = 4 * 1024 * 1024  # bytes
_READ_SIZE = 64 * 1024


class VerdictFile:
    """Writes the verdicts on all that dies or is stopped to `verdicts.jsonl` in a directory, until `close()`.

    Before the file passes 4 MiB it becomes `verdicts.1.jsonl`, in the place of the one before. When it cannot be
    written that is told once, as an event; each further death tries again, and the first that can be written tells how
    many are missing. There may be one writer at a time: whoever holds the state directory.
    """

    def __init__(self, directory: Path, events: EventLog) -> None:
        self.path = directory / FILE_NAME
        self._old = directory / OLD_NAME
        self._events = events
        self._missing = 0
        self._end = events.listen(self._on_event)

    def close(self) -> None:
        """Writes no more. Once is enough."""
        self._end()

    def _on_event(self, event: Event) -> None:
        if event["event"] in ("died", "stopped") and "verdict" in event:
            try:
                self._write(event["verdict"])
            except OSError as error:
                self._missing += 1
                if self._missing == 1:
                    self._events.emit("log", level="error", text=self._story(error))
                return
            if self._missing:
                missing, self._missing = self._missing, 0
                told = f"{missing} verdicts are" if missing > 1 else "1 verdict is"
                self._events.emit("log", level="info", text=f"{self.path} can be written again; {told} missing")

    def _write(self, verdict: dict[str, Any]) -> None:
        # A lone surrogate, which is not UTF-8, becomes the escape that JSON has for it.
        line = json.dumps(verdict, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        # Opened each time: it may have been moved away, or the file system mounted anew.
        descriptor = self._open()
        try:
            size, missing = _whole(descriptor)
            if size and size + len(line) > _LONGEST:
                os.rename(self.path, self._old)
                os.close(descriptor)
                descriptor = -1
                descriptor, size, missing = self._open(), 0, b""
            _append(descriptor, missing + line, size)
        finally:
            if descriptor >= 0:
                os.close(descriptor)

    def _open(self) -> int:
        return os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _story(self, error: OSError) -> str:
        return (
            f"cannot write the verdict on a death to {self.path}: {error.strerror or error}. {remedy(error)}, or set "
            "state_dir to another directory; it is tried again at the next death"
        )


def _append(descriptor: int, data: bytes, size: int) -> None:
    """Writes to the end of a file of `size` bytes, all or nothing."""
    left = memoryview(data)
    try:
        # One write is enough, unless the file cannot hold it: then the second says why.
        while left:
            left = left[os.write(descriptor, left) :]
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _whole(descriptor: int) -> tuple[int, bytes]:
    """Takes away a last line that was left half written; gives the file's size, and what its last line still lacks."""
    size = end = os.fstat(descriptor).st_size
    tail = b""
    while end and b"\n" not in tail:
        start = max(0, end - _READ_SIZE)
        tail, end = os.pread(descriptor, end - start, start) + tail, start
    half = tail[tail.rfind(b"\n") + 1 :]
    if not half:
        return size, b""
    try:
        json.loads(half)
    except ValueError:
        os.ftruncate(descriptor, size - len(half))
        return size - len(half), b""
    return size, b"\n"
