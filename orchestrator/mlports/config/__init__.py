"""What mlports.toml says: read, checked, and explained where it is wrong, with file, line, key and fix."""

from __future__ import annotations

from mlports.config.calls import BatchConfig, BreakerConfig, HedgeConfig, PipelineConfig, ShadowConfig
from mlports.config.file import ConfigErrors, load_config
from mlports.config.models import (
    BackoffConfig,
    Config,
    HeartbeatConfig,
    Level,
    OrchestratorConfig,
    ProgramConfig,
    RecordConfig,
    Restart,
    Route,
    ServiceConfig,
    SupervisorConfig,
    Transport,
    WarmUpConfig,
)

__all__ = [
    "BackoffConfig",
    "BatchConfig",
    "BreakerConfig",
    "Config",
    "ConfigErrors",
    "HeartbeatConfig",
    "HedgeConfig",
    "Level",
    "OrchestratorConfig",
    "PipelineConfig",
    "ProgramConfig",
    "RecordConfig",
    "Restart",
    "Route",
    "ServiceConfig",
    "ShadowConfig",
    "SupervisorConfig",
    "Transport",
    "WarmUpConfig",
    "load_config",
]
