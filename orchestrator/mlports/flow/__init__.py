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

from mlports.core.flow import Progress, Window
from mlports.flow.checkpoints import Checkpoint
from mlports.flow.errors import CheckpointError, FlowError, FlowFailed, SourceError
from mlports.flow.failures import DeadLetter
from mlports.flow.flow import Flow
from mlports.flow.running import Report

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
