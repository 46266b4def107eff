"""What happens to an item that a stage fails on: the flow stops, or it is left out, or kept aside with the reason."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

from mlports import CircuitOpen, NotRunning, ServiceDown, UnknownMethod, UnknownService
from mlports.flow.errors import FlowError, FlowFailed, reason_of, shown, written_to

# These say nothing about the item: every other one would fail in the same way.
_NOT_THE_ITEMS_FAULT = (CircuitOpen, NotRunning, ServiceDown, UnknownMethod, UnknownService)


class DeadLetter(NamedTuple):
    """An item that was left out: which stage failed on it, and how."""

    stage: str
    item: Any
    error: Exception

    def as_json(self) -> str:
        """One line: {"stage", "reason", "item"}, or "repr" in the item's place where JSON cannot hold it."""
        told: dict[str, Any] = {"stage": self.stage, "reason": reason_of(self.error)}
        try:
            return json.dumps({**told, "item": self.item}, ensure_ascii=False)
        except (TypeError, ValueError, RecursionError):
            return json.dumps({**told, "repr": shown(self.item, 10_000)}, ensure_ascii=False)


Errors = Literal["stop", "skip"] | Path | Callable[[DeadLetter], object]


class Failures:
    """Takes the items that failed. Raises `FlowFailed` where the flow is to stop."""

    def __init__(self, errors: Errors) -> None:
        if isinstance(errors, str) and errors not in ("stop", "skip"):
            raise FlowError(
                f'errors={errors!r} means nothing: it is "stop", "skip", a function, or Path({errors!r}) for a file'
            )
        self._errors = errors
        self._file: IO[bytes] | None = None
        self.count = 0

    @property
    def file(self) -> Path | None:
        """Where they are written to, if that is a file."""
        return self._errors if isinstance(self._errors, Path) else None

    def failed(self, stage: str, item: Any, error: Exception) -> None:
        """An item that a stage failed on; called in an `except` block, or with an error that was handed over."""
        of_the_item = not isinstance(error, _NOT_THE_ITEMS_FAULT)
        if self._errors == "stop" or not of_the_item:
            raise FlowFailed(stage, item, error, of_the_item=of_the_item) from error
        self.count += 1
        letter = DeadLetter(stage, item, error)
        if isinstance(self._errors, Path):
            self._write(self._errors, letter)
        elif callable(self._errors):
            self._errors(letter)

    def _write(self, path: Path, letter: DeadLetter) -> None:
        line = (letter.as_json() + "\n").encode("utf-8", "backslashreplace")
        with written_to(path):
            if self._file is None:
                # Appended to: those of the run that was killed are still wanted.
                self._file = path.open("ab")
            self._file.write(line)

    def flush(self) -> None:
        """What was written is on the disk."""
        if self._file is not None:
            with written_to(Path(self._file.name)):
                self._file.flush()
                os.fsync(self._file.fileno())

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with written_to(Path(file.name)):
                file.close()
