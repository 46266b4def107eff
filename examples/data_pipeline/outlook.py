"""What a customer's purchases say of the next ones, by the model BG/NBD.

A customer buys at a rate of their own, and after each purchase may be gone for good, with a chance of their own. Among
all customers the rates are gamma distributed, and the chances beta. Peter S. Fader, Bruce G. S. Hardie and Ka Lok Lee,
"Counting Your Customers" the Easy Way: An Alternative to the Pareto/NBD Model, Marketing Science 24 (2005), 275-284.
The four parameters are those that they found with a tenth of these customers, in weeks.
"""

from __future__ import annotations

from random import Random
from typing import Any

from .purchases import Purchase

RATE_SHAPE, RATE_SCALE, GONE_A, GONE_B = 0.243, 4.414, 0.793, 2.426
SPLIT = 39 * 7
"""Days: what was bought before is known, what comes after is to be guessed."""

AHEAD = 39.0
"""Weeks that are looked ahead."""

History = list[Any]
"""[first day, last day, days with a purchase after the first one, dollars]; empty before the first one."""


def bought(history: History, purchase: Purchase) -> History:
    """The history with one purchase more, which is no earlier than those in it."""
    if not history:
        return [purchase.day, purchase.day, 0, purchase.dollars]
    first, last, again, dollars = history
    return [first, purchase.day, again + (purchase.day > last), dollars + purchase.dollars]


def chance(history: History) -> float:
    """That the customer has not gone for good."""
    first, last, again, _ = history
    if not again:  # in this model one can only go after having come again
        return 1.0
    longer = (RATE_SCALE + (SPLIT - first) / 7) / (RATE_SCALE + (last - first) / 7)
    odds: float = GONE_A / (GONE_B + again - 1) * longer ** (RATE_SHAPE + again)
    return 1 / (1 + odds)


def outlook(item: list[Any]) -> list[Any]:
    """Of [customer, history, futures]: [customer, chance to be still there, expected purchases, their dollars].

    So many futures are played, each with a rate and a chance drawn from what the history leaves possible; they are the
    same for the same customer wherever this runs. With 0 of them the last two are 0.
    """
    customer, history, futures = item
    first, _, again, dollars = history
    there = chance(history)
    if not futures:
        return [customer, there, 0.0, 0.0]
    random = Random(customer)
    purchases = 0
    for _ in range(futures):
        if random.random() >= there:
            continue
        rate = random.gammavariate(RATE_SHAPE + again, 1 / (RATE_SCALE + (SPLIT - first) / 7))
        gone = random.betavariate(GONE_A, GONE_B + again)
        time = random.expovariate(rate)
        while time < AHEAD:
            purchases += 1
            if random.random() < gone:
                break
            time += random.expovariate(rate)
    expected = purchases / futures
    return [customer, there, expected, expected * dollars / (again + 1)]


def offer(there: float, expected: float, dollars: float) -> str:
    """What to write to such a customer."""
    if expected >= 2:
        return "new releases first"
    if there < 0.5:
        return "we miss you: a fifth off"
    return "more of what you liked" if dollars >= 10 else "the weekly letter"
