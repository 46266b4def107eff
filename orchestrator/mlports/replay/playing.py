"""A recording played to a worker once, and what is to be said about it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

from mlports.core.verdict import Verdict
from mlports.errors import RecordingError
from mlports.replay.comparing import Deviation, deviations, is_same_end, kind_of
from mlports.replay.feeding import Outcome, Pace, feed
from mlports.replay.fitting import misfit
from mlports.replay.script import Script
from mlports_protocol import Response

End = Literal["same", "no_crash", "differs"]


class Report(NamedTuple):
    """How a replay went. `verdict` is None for a worker that ended in order; `recorded` is the recording's verdict.

    `end` is "same" when the worker died in the same way, whatever it had answered before, or ended in order with the
    same answers, as recorded; "no_crash" when it ended in order where a crash was recorded.
    """

    end: End
    recorded: dict[str, Any]
    verdict: Verdict | None
    deviations: list[Deviation]
    notes: list[str]
    written: int
    answered: int
    seconds: float

    def as_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return {
            **self._asdict(),
            "verdict": self.verdict.as_dict() if self.verdict is not None else None,
            "deviations": [each._asdict() for each in self.deviations],
            "seconds": round(self.seconds, 3),
        }


async def play(
    script: Script,
    command: Sequence[str],
    *,
    pace: Pace | None = None,
    transport: str = "stdio",
    tolerance: float = 0.0,
    force: bool = False,
    on_line: Callable[[str], None] = lambda _: None,
) -> Report:
    """Plays it. `on_line` is given the worker's stderr. Raises `SpawnFailed`.

    Raises `RecordingError` when the worker lacks methods or features that the recording uses, unless `force`.
    """
    notes: list[str] = []
    if script.lost:
        notes.append(f"{script.lost} frames to the worker are missing: they were too long to be kept")

    def on_greeting(greeting: Response) -> str | None:
        found = misfit(script, greeting)
        notes.extend(found.notes)
        if found.missing and not force:
            return f"this worker lacks {', '.join(found.missing)}, which the recording uses"
        notes.extend(f"this worker lacks {each}" for each in found.missing)
        return None

    outcome = await feed(script, command, pace=pace, transport=transport, on_line=on_line, on_greeting=on_greeting)
    if outcome.refused is not None:
        raise RecordingError("; ".join([*notes, f"{outcome.refused}. Play it to another program, or --force it"]))
    notes += [f"no answer was recorded to its call of {method}" for method in outcome.unheard]
    found = deviations(script, outcome, tolerance)
    recorded = dict(script.recording.header["verdict"])
    end = _end(recorded, outcome, bool(found))
    answered = len(outcome.answers)
    return Report(end, recorded, outcome.verdict, found, notes, outcome.written, answered, outcome.seconds)


def _end(recorded: dict[str, Any], outcome: Outcome, differs: bool) -> End:
    now = kind_of(outcome.verdict)
    in_order = now == ("end", None)
    if not is_same_end(kind_of(recorded), now):
        return "no_crash" if in_order else "differs"
    return "differs" if differs and in_order else "same"
