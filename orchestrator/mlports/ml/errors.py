"""What `mlports.ml` raises before any worker is asked: definitions and tables that cannot be used."""

from __future__ import annotations

from mlports import MlportsError


class ModelError(MlportsError):
    """A model that is defined wrongly, or a table that does not fit it: says which part, why, and what to do."""


class FormulaError(ModelError):
    """A formula that cannot be read: `position`, from 0, is where in `formula`, and the message points at it."""

    def __init__(self, message: str, formula: str, position: int) -> None:
        line = " ".join(formula.splitlines())
        pointer = " " * position + "^"
        super().__init__(f"formula, position {position + 1}: {message}\n  {line}\n  {pointer}")
        self.formula = formula
        self.position = position


class LeakageError(FormulaError):
    """A formula whose inputs hold its own target: it would score perfectly, and predict nothing."""
