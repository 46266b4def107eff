"""What a template imports for the ready-made estimator worker."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("sklearn")

# In an interpreter of its own, because other tests have imported most of it.
CODE = """
import sys
import mlports_models.preloaded
before = set(sys.modules)
from mlports_models import estimator
estimator.start({"estimator": "LogisticRegression"})
print(sorted(set(sys.modules) - before))
"""


def test_the_estimator_worker_has_nothing_left_to_import() -> None:
    """Guards its start from a template against seconds of imports that are left to the worker."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    assert done.stdout == "['mlports_models.estimator']\n"
