"""What a flow raises."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mlports import MlportsError


class FlowError(MlportsError):
    """A flow that cannot be run as it was written, or not on what it was given: says which part, why, and the fix."""


class SourceError(FlowError):
    """A source that cannot be read: says which file, which line, what is wrong with it, and what to do."""


class FlowFailed(FlowError):
    """A stage failed on an item, and the flow's errors are to stop it. The stage's own exception is the cause.

    stage: its name as `explain()` has it. item: what it failed on. reason: the exception's type and text.
    """

    def __init__(self, stage: str, item: Any, error: BaseException, *, of_the_item: bool = True) -> None:
        self.stage, self.item, self.reason = stage, item, reason_of(error)
        fix = 'To go on without such items, run with errors="skip", or errors=Path("…") to keep them with the reason'
        if not of_the_item:
            fix = "It is not the item's fault, and would be so with the next: mend it, and run the flow again"
        super().__init__(f"{stage} failed on {shown(item)}: {self.reason}. What was written so far stays. {fix}")


class CheckpointError(FlowError):
    """A journal that cannot be used: another flow's, another process's, or one that holds what cannot be restored."""


def reason_of(error: BaseException) -> str:
    """The exception's type and text, as one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def shown(item: Any, most: int = 200) -> str:
    """The item's repr, cut to `most` characters; an item that has none is named by its type."""
    try:
        text = repr(item)
    except Exception:
        text = f"<{type(item).__name__} without a repr>"
    return text if len(text) <= most else f"{text[:most]}… ({len(text):,} characters)"


def needs_extra(package: str, extra: str, what: str) -> FlowError:
    """The error for a missing optional package."""
    return FlowError(f"{what} needs {package}, which is not installed. Fix: pip install 'mlports[{extra}]'")


@contextmanager
def written_to(path: Path) -> Iterator[None]:
    """Says which file it is that cannot be written."""
    try:
        yield
    except OSError as error:
        raise FlowError(f"{path} cannot be written: {error.strerror or error}") from error
