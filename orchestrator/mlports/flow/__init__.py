"""Lazy pipelines over anything that yields, driven by demand: nothing is produced that was not asked for.

from mlports.flow import Flow

report = (
    Flow.from_file("visits.csv", converters={"amount": float})
    .filter(lambda visit: visit["amount"] > 0)
    .map(features)
    .batch(100)
    .call("digits.predict")
    .to_jsonl("out.jsonl")
    .run(orchestrator, checkpoint="out.journal")
)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlports.core.flow import Progress, Window
    from mlports.flow.checkpoints import Checkpoint
    from mlports.flow.errors import CheckpointError, FlowError, FlowFailed, SourceError
    from mlports.flow.failures import DeadLetter
    from mlports.flow.flow import Flow
    from mlports.flow.running import Report

# Imported when first used: the worker program of a stage is in this package, and starts sooner without all of it.
_HOMES = {
    "mlports.core.flow": ["Progress", "Window"],
    "mlports.flow.checkpoints": ["Checkpoint"],
    "mlports.flow.errors": ["CheckpointError", "FlowError", "FlowFailed", "SourceError"],
    "mlports.flow.failures": ["DeadLetter"],
    "mlports.flow.flow": ["Flow"],
    "mlports.flow.running": ["Report"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "DeadLetter",
    "Flow",
    "FlowError",
    "FlowFailed",
    "Progress",
    "Report",
    "SourceError",
    "Window",
]


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module 'mlports.flow' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
