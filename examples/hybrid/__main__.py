"""A stream trains a model that clients ask over HTTP, and nobody misses an answer when its worker is killed.

python -m examples.hybrid
python -m examples.hybrid --clients 200 --asked 1000 --kills 3
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

import numpy as np

from ..equipment_monitor.judging import roc_auc
from ..options import positive, whole
from ..pictures import picture
from .clients import quantiles
from .drawing import draw
from .stream import rows
from .trial import Found, hybrid, live, too_much
from .truth import expected, steps_back, wrong

LEAST_AREA = 0.95


async def both(options: argparse.Namespace) -> Found:
    """The live part, and the burst."""
    async with hybrid() as (orch, url):
        print(f"serving {url}/sites/judge")
        found = await live(orch, url, rows(), options.clients, options.asked, options.taught, options.kills)
        await too_much(orch, url, found, options.burst)
        return found


def troubles(found: Found, least_area: float = LEAST_AREA) -> list[str]:
    """What does not hold of all that has to; empty if all does."""
    answers = [*found.answers, *(answer for each in found.burst for answer in each[-1:])]
    unanswered = [answer.status for answer in answers if answer.status != 200]
    told = {
        f"{len(unanswered)} requests were not answered by 200 but by {sorted(set(unanswered))}": unanswered,
        "there were no requests": not found.answers,
        "a score is not that of the model that the answer names": not unanswered and wrong(answers, found.taught),
        "a client was answered by a model that knew less than before": steps_back(found.answers),
        "the model did not learn each case once, in its order": found.expected != expected(found.taught).tolist(),
        f"ROC AUC is below {least_area}": area(found) < least_area,
        "nobody was told to come back": not found.refusals,
        "somebody was refused only after the worker went on": any(
            answers[0].came > found.released_at for answers in found.burst if len(answers) > 1
        ),
        "clients that went away still waited": not found.dropped,
    }
    return [text for text, failed in told.items() if failed]


def area(found: Found) -> float:
    """ROC AUC of what the model took each site for before it learned it."""
    frauds = np.array([case.fraud for case in found.taught[: len(found.expected)]])
    return roc_auc(np.array(found.expected), frauds == 1)


def story(found: Found) -> str:
    """What was seen, in a few lines."""
    seconds = max(answer.came for answer in found.answers) - min(answer.due for answer in found.answers)
    middle, most, last = quantiles(found.answers, 0.5, 0.99, 1.0)
    clients = len({answer.client for answer in found.answers})
    refused = sum(len(answers) > 1 for answers in found.burst)
    lines = [
        f"the stream: {len(found.expected):,} sites, ROC AUC {area(found):.4f}, each judged before it was learned",
        f"over HTTP: {clients} clients, {len(found.answers):,} requests in {seconds:.1f} s, every one answered 200, "
        "every score right to the last bit",
        f"killed: {len(found.killed_at)} times, with {found.retried} calls in its hands that were made again",
        f"latency: median {middle:.1f} ms, 99 of 100 within {most:.1f} ms, the longest {last:.0f} ms",
        f"the burst, the worker held: {refused} of {len(found.burst) + found.dropped} clients told at once to come "
        f"back (429, at most {quantiles(found.refusals, 1.0)[0]:.0f} ms), and all answered in the end",
        f"clients that went away: {found.dropped}, and their calls were dropped from the queue",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.hybrid", description=__doc__)
    parser.add_argument("--clients", type=whole(1), default=30, help="how many ask at the same time")
    parser.add_argument("--asked", type=positive, default=150.0, help="requests a second of all of them")
    parser.add_argument("--taught", type=positive, default=250.0, help="cases a second in the stream")
    parser.add_argument("--kills", type=whole(0), default=1, help="how many times the worker is killed")
    parser.add_argument("--burst", type=whole(100), default=200, help="requests of the burst; 64 may wait")
    parser.add_argument("--out", type=Path, default=Path("pictures"), help="where the picture goes")
    options = parser.parse_args()
    found = asyncio.run(both(options))
    if told := troubles(found):
        sys.exit("this did not hold: " + "; ".join(told))
    print(story(found))
    picture(options.out / "hybrid.png", lambda figure: draw(figure, found), size=(10, 7))


if __name__ == "__main__":
    main()
