"""The workers in other languages: their programs, built where this machine can build them."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import mlports
from mlports import BlockingOrchestrator, Config
from mlports.config import load_config
from tests.integration.command_line import mlports as command

WORKERS = Path(__file__).resolve().parent.parent / "workers"

BUILD_TIME = 600.0
"""Seconds that a build may take: the first one fetches its libraries, a finished one is looked at in a moment."""


def built(language: str) -> Path:
    """The folder of this language's SDK after `make build` there. Skips the test where the machine lacks a tool."""
    folder = WORKERS / language
    # Test files run at the same time, and two builds in one folder would spoil each other.
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = made(folder, "missing").split()
        if missing:
            pytest.skip(f"the workers in {language} need what is not installed here: {', '.join(missing)}")
        made(folder, "build")
    finally:
        os.close(lock)
    return folder


def configuration(language: str) -> Config:
    """What workers/LANGUAGE/mlports.toml says: `conformance`, and this language's example."""
    return load_config(WORKERS / language / "mlports.toml")


def own_tests(folder: Path) -> None:
    """Runs the SDK's tests in its own language, `make test` there; fails with what they printed."""
    made(folder, "test")


@contextmanager
def running(language: str, service: str) -> Iterator[BlockingOrchestrator]:
    """One of the services of workers/LANGUAGE/mlports.toml, which is built, by itself."""
    whole = configuration(language)
    config = Config(service={service: whole.service[service]}, directory=whole.directory)
    with mlports.open(config) as orch:
        yield orch


@contextmanager
def new_project(language: str, folder: Path) -> Iterator[BlockingOrchestrator]:
    """What `mlports init --language` makes, in its newcomer's hands: made, built and started. Its service is `line`."""
    init = command("init", "project", "--name", "line", "--language", language, cwd=folder)
    assert init.returncode == 0, init.stderr
    made(folder / "project", "build")
    with mlports.open(folder / "project" / "mlports.toml") as orch:
        yield orch


def made(folder: Path, target: str) -> str:
    """What `make TARGET` printed there; fails with it where that did not work."""
    make = subprocess.run(
        ["make", "--no-print-directory", target],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=BUILD_TIME,
        check=False,
    )
    printed = f"{make.stdout[-8000:]}{make.stderr[-8000:]}"
    assert make.returncode == 0, f"make {target} in {folder} failed:\n{printed}"
    return make.stdout
