"""The same tree as mlports.toml's, in Python."""

from __future__ import annotations

from pathlib import Path

from mlports import Config, ServiceConfig, SupervisorConfig


def config() -> Config:
    """What mlports.toml says."""
    return Config(
        supervisor=SupervisorConfig(strategy="one_for_one", intensity=5, period=10, children=["model"]),
        service={"model": ServiceConfig(command=["python", "model.py"], restart="permanent", shutdown="5s")},
        directory=Path(__file__).parent,
    )
