"""The workers in other languages: their programs, built where this machine can build them."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from mlports.config import Config, load_config

WORKERS = Path(__file__).resolve().parent.parent / "workers"

BUILD_TIME = 600.0
"""Seconds that a build may take: the first one fetches its libraries, a finished one is looked at in a moment."""


def built(language: str, *tools: str) -> Path:
    """The folder of this language's SDK after `make build` there. Skips the test where one of `tools` is missing."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)} not installed here, so the workers in {language} cannot be built")
    folder = WORKERS / language
    # Test files run at the same time, and two builds in one folder would spoil each other.
    lock = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        make = subprocess.run(
            ["make", "--no-print-directory", "build"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=BUILD_TIME,
            check=False,
        )
    finally:
        os.close(lock)
    assert make.returncode == 0, f"make build in workers/{language} failed:\n{make.stdout}{make.stderr}"
    return folder


def configuration(language: str) -> Config:
    """What workers/LANGUAGE/mlports.toml says: `conformance`, and this language's example."""
    return load_config(WORKERS / language / "mlports.toml")


def own_tests(folder: Path) -> None:
    """Runs the SDK's tests in its own language, `make test` there; fails with what they printed."""
    make = subprocess.run(
        ["make", "--no-print-directory", "test"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=BUILD_TIME,
        check=False,
    )
    assert make.returncode == 0, f"make test in {folder.name} failed:\n{make.stdout[-8000:]}{make.stderr[-8000:]}"
