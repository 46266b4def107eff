"""The library in C, compiled, and the services that use it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from mlports import Config, load_config

HERE = Path(__file__).resolve().parent


class NoCompiler(Exception):
    """There is nothing here to compile C with."""


def compiled(folder: Path) -> Path:
    """The library, made in `folder`. Raises `NoCompiler`, and `CalledProcessError` when the compiler refuses."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise NoCompiler("a C compiler is needed, and no cc, gcc or clang is installed here")
    library = folder / "kernel.so"
    command = [compiler, "-O2", "-shared", "-fPIC", str(HERE / "kernel.c"), "-o", str(library)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return library


def configured(library: Path, *services: str) -> Config:
    """Those services of mlports.toml, with this library."""
    there = load_config(HERE / "mlports.toml")
    chosen = {name: there.service[name].model_copy(update={"config": {"library": str(library)}}) for name in services}
    return Config(service=chosen, directory=there.directory)
