"""Real web sites, judged one after the other: better than what is simple, and no case is lost with a worker."""

from __future__ import annotations

import numpy as np
import pytest

from tests.extras import need

need("numpy", "river")

from examples.equipment_monitor.judging import roc_auc  # noqa: E402
from examples.fraud.__main__ import best_feature, stream  # noqa: E402
from examples.fraud.phishing import phishing  # noqa: E402
from mlports_models.online_logistic import OnlineLogistic  # noqa: E402


async def test_three_kills_change_no_judgement() -> None:
    cases, frauds = phishing()
    found = await stream(cases[:300], frauds[:300], kills=3)
    np.testing.assert_array_equal(found, OnlineLogistic({}).learn(cases[:300], frauds[:300]))


def test_it_is_better_than_the_best_feature_and_than_scikit_learn_s_steps() -> None:
    linear_model = pytest.importorskip("sklearn.linear_model", reason="the reference is scikit-learn's")
    cases, frauds = phishing()
    assert (cases.shape, frauds.sum()) == ((1250, 9), 548)
    area = roc_auc(OnlineLogistic({}).learn(cases, frauds), frauds == 1)
    reference, judged = linear_model.SGDClassifier(loss="log_loss", random_state=0), np.zeros(len(cases))
    for place, (case, fraud) in enumerate(zip(cases, frauds, strict=True)):
        judged[place] = reference.decision_function([case])[0] if place else 0.0
        reference.partial_fit([case], [fraud], classes=[0, 1])
    assert area > 0.95
    assert area > roc_auc(judged, frauds == 1)
    assert area > best_feature(cases, frauds) > 0.8
