"""Whether the answers were right: a model of the same kind, in this process, is taken through the same cases."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from mlports_models.online_logistic import OnlineLogistic

from .clients import Answer
from .stream import Case


def wrong(answers: Iterable[Answer], taught: list[Case]) -> int:
    """How many scores are not, to the last bit, those of a model that has learned as many cases as the answer says."""
    model, known, count = OnlineLogistic({}), 0, 0
    for answer in sorted(answers, key=lambda answer: answer.cases):
        while known < min(answer.cases, len(taught)):
            model.learn(taught[known].site, taught[known].fraud)
            known += 1
        count += answer.cases != known or answer.score != model.predict(answer.site)
    return count


def steps_back(answers: Iterable[Answer]) -> int:
    """How many answers came of a model that knew less than that of an earlier answer to the same client."""
    known: dict[int, int] = {}
    count = 0
    for answer in answers:  # each client's are in their order
        count += answer.cases < known.get(answer.client, 0)
        known[answer.client] = answer.cases
    return count


def expected(taught: list[Case]) -> Any:
    """What the model takes each case for before it learns it."""
    sites, frauds = zip(*taught, strict=True)
    return OnlineLogistic({}).learn(np.array(sites), np.array(frauds))
