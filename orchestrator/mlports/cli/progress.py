"""A progress bar on stderr, once there is something to be shown."""

from __future__ import annotations

from typing import Any


class ProgressBar:
    """Appears with the first report; `total` may be unknown, and may change."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._progress: Any = None
        self._task: Any = None

    def show(self, done: float, total: float | None, text: str) -> None:
        """Shows how far the work has come."""
        if self._progress is None:
            self._begin()
        description = f"{self._title} {text}".strip()
        self._progress.update(self._task, completed=done, total=total, description=description)

    def print(self, text: str) -> None:
        """A line above the bar, on stdout."""
        from mlports.cli.output import put

        if self._progress is None:
            put(text)
            return
        self._progress.stop()
        put(text)
        self._progress.start()

    def close(self) -> None:
        """Takes it away."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _begin(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._progress.add_task(self._title, total=None)
        self._progress.start()
