"""The example from_scratch, run as a reader runs it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.examples.running import findings


def test_the_film_s_weight_is_found_step_by_step_and_tables_end_at_least_squares(tmp_path: Path) -> None:
    found = findings("from_scratch", tmp_path)
    weights, errors = found["film"]["weights"], found["film"]["errors"]
    assert weights[:3] == [1.0, 200.1, 319.56]
    assert weights[-2:] == [498.74999999999994, 498.75]
    assert (errors[0], errors[-1]) == ((200_000.0 - 99_750_000) ** 2, 0.0)
    assert found["film"]["run(100_000, 2.5)"] == 250_000
    assert found["film"]["learned"] == 99_750_000
    assert (found["patients"]["inputs"], found["athletes"]["outputs"]) == (10, 3)
    for name in ("patients", "athletes"):
        assert found[name]["settled"]
        assert found[name]["away from least squares"] < 1e-9
    assert found["patients"]["explained"] == pytest.approx(0.518, abs=0.001)  # scikit-learn's own score of its fit
    if find_spec("matplotlib"):
        assert (tmp_path / "descent.png").read_bytes().startswith(b"\x89PNG")
