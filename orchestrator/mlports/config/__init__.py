"""What mlports.toml says: read, checked, and explained where it is wrong, with file, line, key and fix."""

from __future__ import annotations

from mlports.config.file import ConfigErrors, load_config
from mlports.config.models import (
    BackoffConfig,
    Config,
    HeartbeatConfig,
    Level,
    OrchestratorConfig,
    ProgramConfig,
    Restart,
    ServiceConfig,
    SupervisorConfig,
    Transport,
    WarmUpConfig,
)

__all__ = [
    "BackoffConfig",
    "Config",
    "ConfigErrors",
    "HeartbeatConfig",
    "Level",
    "OrchestratorConfig",
    "ProgramConfig",
    "Restart",
    "ServiceConfig",
    "SupervisorConfig",
    "Transport",
    "WarmUpConfig",
    "load_config",
]
