"""Data that comes inside packages, so that nothing is downloaded when an example runs."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from .ending import INSTALL


def packaged(package: str, *path: str, what: str, install: str = INSTALL) -> Path:
    """The file, or folder, at `path` in a package's folder. The package is not imported: that may take long.

    Raises `SystemExit`, with a sentence that says what to install in order to read `what`, where it is missing.
    """
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"{what}: to read this, install the package {package}: {install}")
    file = Path(spec.submodule_search_locations[0], *path)
    if not file.exists():
        raise SystemExit(f"{what}: the {package} that is installed has no {'/'.join(path)}; try a newer one: {install}")
    return file
