"""The example's findings on real tables: equal to scikit-learn, refused where defined, and what scaling is worth."""

from __future__ import annotations

from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[2] / "examples" / "model_language" / "main.py"

pytestmark = [
    pytest.mark.skipif(find_spec("formulaic") is None, reason="formulaic is not installed: it is in the extra `ml`"),
]


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The example, imported."""
    spec = spec_from_file_location("model_language_example", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    # A dataclass looks for its module there.
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(__import__("sys").modules, spec.name, module)
        spec.loader.exec_module(module)
    return module


@pytest.mark.soak
def test_the_findings(example: ModuleType, tmp_path: Path) -> None:
    """Guards what the README says of the example."""
    found: Any = example.run(tmp_path)
    assert found.difference < 1e-9
    assert found.served[0] == found.served[1]
    assert "unknown: 's6'" in found.served[2]
    assert example.mean(found.wine_unscaled, "accuracy") < 0.75
    assert example.mean(found.wine, "accuracy") > 0.95
    assert 0.40 < example.mean(found.progression, "r2") < 0.52
    assert {path.suffix for path in tmp_path.iterdir()} == {".skops", ".md", ".json"}
    if find_spec("vega_datasets") is not None:
        assert example.mean(found.economy, "r2") > 0.85
        assert found.economy.card["notes"] == [
            "8 rows without log(Miles_per_Gallon) were left out",
            "6 rows that miss an input were left out",
        ]
        assert -0.9 < found.economy.coefficients["log(Weight_in_lbs)"] < -0.5
    assert "0.972" in example.report(found)


def test_wrong_models_are_refused_where_they_are_defined(example: ModuleType) -> None:
    """Guards the article's idea, an expressive language, against its price, a misread one."""
    told = example.refusals()
    assert set(told) == set(example.WRONG)
    assert "position 24: this bracket is never closed" in told["a typo"]
    assert "did you mean 'bp'?" in told["an unknown column"]
    assert "cannot be an input too" in told["the target among the inputs"]
    assert "did you mean 'ridge'?" in told["an estimator that there is not"]
