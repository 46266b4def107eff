"""The JSON values on stdin, a line each, in chunks of what is there."""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Iterator
from typing import Any

from mlports.cli.command import WrongUsage

_CHUNK = 1024
_AHEAD = 4 * _CHUNK  # lines that are read before they are needed


class StdinValues:
    """Reads ahead in a thread, so that a line that comes alone is not kept waiting for others.

    `total` is the number of values once stdin has ended, None before. Blank lines are left out.
    """

    def __init__(self) -> None:
        self.total: int | None = None
        self._lines: queue.Queue[tuple[int, bytes] | OSError | None] = queue.Queue(_AHEAD)
        threading.Thread(target=self._read, name="mlports-stdin", daemon=True).start()

    def chunks(self) -> Iterator[list[tuple[int, Any]]]:
        """Lists of line numbers and values. Raises `WrongUsage` for a line that is no JSON, after those before it."""
        wrong: WrongUsage | None = None
        ended = False
        while not ended and wrong is None:
            chunk: list[tuple[int, Any]] = []
            line = self._lines.get()
            try:
                while True:
                    if line is None:
                        ended = True
                        break
                    chunk.append(_value(line))
                    if len(chunk) == _CHUNK:
                        break
                    line = self._lines.get_nowait()
            except queue.Empty:
                pass
            except WrongUsage as error:
                wrong = error
            if chunk:
                yield chunk
        if wrong is not None:
            raise wrong

    def _read(self) -> None:
        count = 0
        try:
            for number, line in enumerate(sys.stdin.buffer if sys.stdin is not None else (), 1):
                if line.strip():
                    count += 1
                    self._lines.put((number, line))
        except OSError as error:
            self._lines.put(error)
        self.total = count
        self._lines.put(None)


def _value(line: tuple[int, bytes] | OSError) -> tuple[int, Any]:
    from mlports.cli.values import read

    if isinstance(line, OSError):
        raise WrongUsage(f"stdin cannot be read: {line.strerror}")
    number, data = line
    try:
        text = data.decode().strip()
    except UnicodeDecodeError:
        raise WrongUsage(f"line {number} of stdin is not UTF-8 text") from None
    return number, read(text, f"line {number} of stdin")
