"""Judges web sites one after the other, is told of each what it was, and goes on when its worker is killed.

python -m examples.fraud
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from mlports import Orchestrator, WorkerCrashed, load_config

from ..equipment_monitor.judging import roc_auc
from ..options import whole
from .phishing import phishing

CONFIG = Path(__file__).with_name("mlports.toml")


async def stream(cases: Any, frauds: Any, kills: int = 0) -> Any:
    """How likely each case was taken to be a fraud before that was told. The worker is killed so many times meanwhile.

    A call that a kill has cut off may have been learned or not: how many were, the worker knows.
    """
    found = np.zeros(len(cases))
    config = load_config(CONFIG)
    with tempfile.TemporaryDirectory() as folder:
        service = config.service["fraud"]
        service.config["snapshot"]["dir"] = folder  # each run begins with the first case
        async with Orchestrator({"fraud": service}) as orch:
            deaths = {len(cases) * (kill + 1) // (kills + 1) for kill in range(kills)}
            place = 0
            while place < len(cases):
                if place in deaths:
                    deaths.remove(place)
                    os.kill(orch.status()["services"]["fraud"]["replicas"][0]["pid"], signal.SIGKILL)
                try:
                    found[place] = await orch.call("fraud.predict", cases[place])
                    await orch.call("fraud.learn", cases[place], int(frauds[place]))
                    place += 1
                except WorkerCrashed:
                    place = (await orch.call("fraud.info"))["cases"]
    return found


def best_feature(cases: Any, frauds: Any) -> float:
    """The best ROC AUC that one feature has alone, in whichever direction: found with all labels known."""
    areas = [roc_auc(feature, frauds == 1) for feature in cases.T]
    return max(max(area, 1 - area) for area in areas)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.fraud", description=__doc__)
    parser.add_argument("--kills", type=whole(0, 1000), default=3, help="how many times the worker is killed")
    options = parser.parse_args()
    cases, frauds = phishing()
    found = asyncio.run(stream(cases, frauds, options.kills))
    print(f"{len(cases):,} sites, {frauds.sum()} of them phishing; the worker was killed {options.kills} times")
    area, alone = roc_auc(found, frauds == 1), best_feature(cases, frauds)
    print(f"ROC AUC {area:.4f}, each judged before it was learned")
    print(f"right at 0.5: {((found > 0.5) == frauds).mean():.1%}; always saying no: {(frauds == 0).mean():.1%}")
    print(f"the best single feature, all labels known: ROC AUC {alone:.4f}")
    if area <= alone:
        sys.exit("it does not hold: the best single feature does as well")


if __name__ == "__main__":
    main()
