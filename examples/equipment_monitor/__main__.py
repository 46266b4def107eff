"""Watches a shuttle's sensors: readings on demand, alerts while they come, and how good the alerts were.

python -m examples.equipment_monitor
python -m examples.equipment_monitor --readings 49097       # the whole file
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from mlports import Orchestrator

from ..options import whole
from ..pictures import picture
from .drawing import draw
from .judging import precision_and_recall, roc_auc
from .monitoring import DEMAND, Monitor
from .shuttle import shuttle

CONFIG = Path(__file__).with_name("mlports.toml")
BEFORE = 1000
"""The first readings are not judged: one window says how far they range, one more what score is high."""
PACE, PACED = 250.0, 500
LEAST_AREA = 0.9


async def watch(readings: Any, paced: Any) -> tuple[Monitor, Monitor, float]:
    """Watches `readings` as fast as it goes, then `paced` at 250 a second; gives both, and the first's seconds."""
    async with Orchestrator.from_config(CONFIG) as orch:
        fast, slow = Monitor(readings), Monitor(paced, PACE)
        began = time.perf_counter()
        await fast.run(orch)
        seconds = time.perf_counter() - began
        await slow.run(orch)
        return fast, slow, seconds


def milliseconds(monitor: Monitor) -> str:
    """How late alerts are: the median, 99 of 100, and the latest."""
    middle, most, last = np.quantile(monitor.delays[monitor.alerts], (0.5, 0.99, 1.0)) * 1000
    return f"{middle:.1f} ms, 99 of 100 within {most:.1f} ms, the last after {last:.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.equipment_monitor", description=__doc__)
    parser.add_argument("--readings", type=whole(2 * BEFORE), default=10_000, help="how many of the file's 49,097")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="where the picture goes")
    options = parser.parse_args()
    readings, odd = (each[: options.readings] for each in shuttle())
    fast, slow, seconds = asyncio.run(watch(readings, readings[-PACED:]))
    precision, recall = precision_and_recall(fast.alerts[BEFORE:], odd[BEFORE:])
    count = len(readings)
    print(f"{count:,} readings in {seconds:.1f} s: {count / seconds:,.0f} a second, {odd.sum():,} of them anomalies")
    print(f"in flight at most: {fast.most_in_flight} of the {DEMAND} that may be")
    area = roc_auc(fast.scores[BEFORE:], odd[BEFORE:])
    print(f"ROC AUC {area:.4f}, without a label seen")
    print(f"{fast.alerts.sum():,} alerts: precision {precision:.3f}, recall {recall:.3f}")
    print(f"alerts came, as fast as it goes: {milliseconds(fast)}")
    print(f"alerts came, at {PACE:.0f} readings a second: {milliseconds(slow)}")
    picture(options.out / "equipment_monitor.png", lambda figure: draw(figure, fast, odd))
    if area < LEAST_AREA:
        sys.exit(f"it does not hold: a ROC AUC below {LEAST_AREA} tells too few anomalies from the rest")


if __name__ == "__main__":
    main()
