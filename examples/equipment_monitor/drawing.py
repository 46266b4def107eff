"""The score of each reading, and which of them were anomalies and raised an alert."""

from __future__ import annotations

from typing import Any

import numpy as np

from .monitoring import Monitor

_SHOWN = 2000


def draw(figure: Any, monitor: Monitor, odd: Any) -> None:
    """Draws the last 2,000 readings. `odd` says which were anomalies."""
    axes = figure.subplots()
    number = np.arange(monitor.received)[-_SHOWN:]
    scores, alerts, odd = (values[-_SHOWN:] for values in (monitor.scores, monitor.alerts, odd))
    for which, colour, label in (
        (~odd & ~alerts, "0.8", "nothing, and no alert"),
        (odd & alerts, "tab:green", "an anomaly, found"),
        (odd & ~alerts, "tab:red", "an anomaly, missed"),
        (~odd & alerts, "tab:orange", "nothing, but an alert"),
    ):
        axes.scatter(number[which], scores[which], s=8, color=colour, label=f"{label} ({which.sum():,})")
    axes.set_yscale("log")
    axes.set_title("Sensors of a shuttle: how odd each reading was when it came")
    axes.set_xlabel("reading")
    axes.set_ylabel("score of the half-space trees")
    axes.legend(loc="upper right")
