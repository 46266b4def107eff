"""How long each request took, when it was asked: while the stream trains and a worker dies, and in the burst."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .trial import Found


def draw(figure: Any, found: Found) -> None:
    """The stream above, the burst below."""
    live, burst = figure.subplots(2, 1)
    began = min(answer.due for answer in found.answers)
    live.scatter(
        [answer.due - began for answer in found.answers],
        [answer.seconds * 1000 for answer in found.answers],
        s=6,
        color="tab:blue",
        label=f"answered 200 ({len(found.answers):,})",
    )
    for number, at in enumerate(found.killed_at):
        label = None if number else "the worker is killed"
        live.axvline(at - began, color="tab:red", linestyle=":", linewidth=1, label=label)
    live.set_title("A crowd asks while the stream trains the model")
    live.set_xlabel("asked, s")
    live.set_yscale("log")
    first = min(answer.due for answers in found.burst for answer in answers)
    last = [answers[-1] for answers in found.burst]
    for answers, colour, label in (
        (found.refusals, "tab:orange", "told to come back: 429"),
        (last, "tab:blue", "answered 200"),
    ):
        burst.scatter(
            [answer.came - first for answer in answers],
            [answer.seconds * 1000 for answer in answers],
            s=6,
            color=colour,
            label=f"{label} ({len(answers):,})",
        )
    burst.axvline(found.released_at - first, color="tab:green", linestyle=":", linewidth=1, label="the worker goes on")
    burst.set_title("A burst, while the worker is held")
    burst.set_xlabel("answered, s")
    for axes in (live, burst):
        axes.set_ylabel("took, ms")
        axes.legend(loc="upper right")
