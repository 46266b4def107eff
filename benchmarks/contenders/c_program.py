"""C programs, compiled where they are measured."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from benchmarks.contenders.contender import HERE, Unavailable


def compiled(source: str, folder: str) -> str:
    """The path of the program, in `folder`, that a source file beside this package becomes. Raises Unavailable."""
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None:
        raise Unavailable("no C compiler (cc, gcc or clang) on the PATH")
    program = str(Path(folder) / Path(source).stem)
    built = subprocess.run([compiler, "-O2", "-o", program, str(HERE / source)], capture_output=True, text=True)
    if built.returncode != 0:
        raise Unavailable(f"{source} does not compile here: {built.stderr.strip()[-300:]}")
    return program
