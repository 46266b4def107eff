"""The example from_scratch, run as a reader runs it."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.examples.running import findings
from tests.extras import need, need_movies

need("numpy", "sklearn")
need_movies()


def test_one_film_is_found_step_by_step_and_many_end_where_scikit_learn_does(tmp_path: Path) -> None:
    found = findings("from_scratch", tmp_path)
    weights, errors = found["film"]["weights"], found["film"]["errors"]
    assert weights[:3] == [1.0, 200.1, 319.56]
    assert weights[-2:] == [498.74999999999994, 498.75]
    assert (errors[0], errors[-1]) == ((200_000.0 - 99_750_000) ** 2, 0.0)
    assert found["film"]["run(100_000, 2.5)"] == 250_000
    assert found["film"]["learned"] == 99_750_000
    many = found["films"]
    assert (many["learned from"], many["new"], many["left out"]) == (966, 241, 1994)
    assert many["settled"]
    assert many["away"] < 1e-9
    assert many["explained"] == pytest.approx([0.404, 0.458], abs=0.001)
    assert many["explained of new ones"] == pytest.approx([0.276, 0.417], abs=0.001)
    if find_spec("matplotlib"):
        assert (tmp_path / "from_scratch.png").read_bytes().startswith(b"\x89PNG")
