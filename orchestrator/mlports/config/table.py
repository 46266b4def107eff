"""What all tables of mlports.toml have in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Table(BaseModel):
    """Frozen; unknown keys are refused, and values are not converted from one type to another."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
