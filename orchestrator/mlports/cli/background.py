"""Lines on stdout that never hold up the one who writes them, however slowly they are read."""

from __future__ import annotations

import errno
import os
import sys
import threading
from collections import deque
from collections.abc import Callable

from mlports.cli.output import say

_MOST = 10_000  # lines that may wait
_LAST_WORDS = 2.0  # seconds for them at the end


class BackgroundLines:
    """Writes lines in a thread of its own.

    An orchestrator must not stand still because somebody stopped a terminal or pages through its output: of more lines
    than may wait the oldest are left out. When there is no room on the disk, it says so once and goes on without;
    `on_reader_gone` is called, in that thread, when nobody will read any more.
    """

    def __init__(self, on_reader_gone: Callable[[], object]) -> None:
        self._on_reader_gone = on_reader_gone
        self._lines: deque[str] = deque()
        self._left_out = 0
        self._changed = threading.Condition()
        self._ended = sys.stdout is None
        self._complained = False
        self._encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        self._thread = threading.Thread(target=self._run, name="mlports-output", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Adds a line."""
        with self._changed:
            self._lines.append(line)
            if len(self._lines) > _MOST:
                self._lines.popleft()
                self._left_out += 1
            self._changed.notify()

    def close(self) -> None:
        """Returns when all is written, or it takes too long."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join(_LAST_WORDS)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._lines and not self._ended:
                    self._changed.wait()
                if not self._lines:
                    return
                lines = list(self._lines)
                self._lines.clear()
                left_out, self._left_out = self._left_out, 0
            if left_out:
                say(f"{left_out} lines left out: they were not read as fast as they came")
            self._write("".join(f"{line}\n" for line in lines).encode(self._encoding, "backslashreplace"))

    def _write(self, data: bytes) -> None:
        # Not through sys.stdout, whose lock a write that never ends would hold for ever.
        try:
            while data:
                data = data[os.write(1, data) :]
        except OSError as error:
            if error.errno == errno.EPIPE:
                self._on_reader_gone()
            elif not self._complained:
                self._complained = True
                say(f"cannot write on standard output: {error.strerror}; the services go on, their lines are lost")
