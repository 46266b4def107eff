"""Requests to five services by their names, at once, while one of them is slow and another is killed.

python -m examples.service_manager
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from statistics import median

from ..options import whole
from .clients import Client
from .managing import AT_ARCHIVE, QUIET, TROUBLED, Found, manage
from .services import BAYES, Data, data


def milliseconds(client: Client, when: str) -> tuple[float, float]:
    """The median of the calls made then, and what 99 of 100 did not exceed."""
    took = sorted(1000 * seconds for seconds in client.took[when])
    return median(took), took[int(0.99 * (len(took) - 1))]


def say(found: Found, known: Data) -> None:
    clients = [*found.neighbours, found.market]
    sent, failed = sum(client.sent for client in clients), sum(len(client.errors) for client in clients)
    print(
        f"{sent:,} requests to {len(clients)} services at once, {failed} failed; in times of trouble, while there were"
    )
    print(f"{AT_ARCHIVE} calls to archive, which answers none, and market was killed:")
    print(f"{'':14}{'quiet':>22}{'in trouble':>22}")
    for client in clients:
        quiet, troubled = milliseconds(client, QUIET), milliseconds(client, TROUBLED)
        cells = [f"{middle:.1f} ms, p99 {most:.1f}" for middle, most in (quiet, troubled)]
        print(f"{client.service:14}{cells[0]:>22}{cells[1]:>22}")
    for death, answers in zip(found.deaths, found.meanwhile, strict=False):
        print(f"{death}; until its next answer the others gave {answers:,}")
    print(f"market knows {found.position:,} bars, of {found.market.sent:,} that were sent")
    newer, older = found.accuracy("digits", known), found.accuracy(BAYES, known)
    print(f"right by `digits`, which is digits-svc: {newer:.1%}", end="")
    print(
        " (no digits-bayes: it needs Ruby, and a clone of the project)"
        if older is None
        else f"; by the version before it: {older:.1%}"
    )
    for refusal in found.refusals:
        print(refusal)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.service_manager", description=__doc__)
    parser.add_argument("--rounds", type=whole(1, 5), default=2, help="of quiet and trouble, by turns; 1 to 5")
    parser.add_argument("--calls", type=whole(2, 300), default=60, help="to each service in a round")
    options = parser.parse_args()
    known = data()
    found = asyncio.run(manage(known, options.rounds, options.calls))
    say(found, known)
    if told := found.problems():
        sys.exit("it did not hold: " + "; ".join(told))


if __name__ == "__main__":
    main()
