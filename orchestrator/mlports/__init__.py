"""mlports: machine-learning programs in any language as supervised external workers.

async with Orchestrator.from_config("mlports.toml") as orch:
    y = await orch.call("digits.predict", x)

with mlports.open("mlports.toml") as orch:      # the same, blocking
    y = orch.call("digits.predict", x)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from mlports.config import (
        BackoffConfig,
        BatchConfig,
        BreakerConfig,
        Config,
        HeartbeatConfig,
        HedgeConfig,
        PipelineConfig,
        ProgramConfig,
        RecordConfig,
        ServiceConfig,
        ShadowConfig,
        SupervisorConfig,
        WarmUpConfig,
        load_config,
    )
    from mlports.control import Client, connect
    from mlports.core.verdict import Verdict
    from mlports.errors import (
        CallCancelled,
        CallCycle,
        CallError,
        CircuitOpen,
        ConfigError,
        ControlError,
        DeadlineExceeded,
        InvalidArgument,
        MlportsError,
        NoOrchestrator,
        NotRunning,
        Overloaded,
        PoisonRequest,
        ProtocolViolation,
        RecordingError,
        ScriptFailed,
        ScriptTimedOut,
        ServiceDown,
        StartFailed,
        UnknownMethod,
        UnknownService,
        WorkerCrashed,
        WorkerError,
    )
    from mlports.runtime.blocking import BlockingOrchestrator, open
    from mlports.runtime.call import CallOptions, InputOptions
    from mlports.runtime.orchestrator import Orchestrator
    from mlports.runtime.script import ScriptResult, run_script

# Where each public name lives. They are imported when first used, so that `import mlports` costs next to nothing.
_HOMES = {
    "mlports.config": [
        "BackoffConfig",
        "BatchConfig",
        "BreakerConfig",
        "Config",
        "HeartbeatConfig",
        "HedgeConfig",
        "PipelineConfig",
        "ProgramConfig",
        "RecordConfig",
        "ServiceConfig",
        "ShadowConfig",
        "SupervisorConfig",
        "WarmUpConfig",
        "load_config",
    ],
    "mlports.control": ["Client", "connect"],
    "mlports.core.verdict": ["Verdict"],
    "mlports.errors": [
        "CallCancelled",
        "CallCycle",
        "CallError",
        "CircuitOpen",
        "ConfigError",
        "ControlError",
        "DeadlineExceeded",
        "InvalidArgument",
        "MlportsError",
        "NoOrchestrator",
        "NotRunning",
        "Overloaded",
        "PoisonRequest",
        "ProtocolViolation",
        "RecordingError",
        "ScriptFailed",
        "ScriptTimedOut",
        "ServiceDown",
        "StartFailed",
        "UnknownMethod",
        "UnknownService",
        "WorkerCrashed",
        "WorkerError",
    ],
    "mlports.runtime.blocking": ["BlockingOrchestrator", "open"],
    "mlports.runtime.call": ["CallOptions", "InputOptions"],
    "mlports.runtime.orchestrator": ["Orchestrator"],
    "mlports.runtime.script": ["ScriptResult", "run_script"],
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = [
    "BackoffConfig",
    "BatchConfig",
    "BlockingOrchestrator",
    "BreakerConfig",
    "CallCancelled",
    "CallCycle",
    "CallError",
    "CallOptions",
    "CircuitOpen",
    "Client",
    "Config",
    "ConfigError",
    "ControlError",
    "DeadlineExceeded",
    "HeartbeatConfig",
    "HedgeConfig",
    "InputOptions",
    "InvalidArgument",
    "MlportsError",
    "NoOrchestrator",
    "NotRunning",
    "Orchestrator",
    "Overloaded",
    "PipelineConfig",
    "PoisonRequest",
    "ProgramConfig",
    "ProtocolViolation",
    "RecordConfig",
    "RecordingError",
    "ScriptFailed",
    "ScriptResult",
    "ScriptTimedOut",
    "ServiceConfig",
    "ServiceDown",
    "ShadowConfig",
    "StartFailed",
    "SupervisorConfig",
    "UnknownMethod",
    "UnknownService",
    "Verdict",
    "WarmUpConfig",
    "WorkerCrashed",
    "WorkerError",
    "connect",
    "load_config",
    "open",
    "run_script",
]


def __getattr__(name: str) -> Any:
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module 'mlports' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
