"""Packages of the extra `examples`, which a test module needs or is skipped without."""

from __future__ import annotations

from importlib.util import find_spec

import pytest

from examples.movies import movies_file


def need(*packages: str, how: str = "pip install 'mlports[examples]'") -> None:
    """Skips the whole module that calls it, with the reason, unless all these packages are there."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        pytest.skip(f"needs {', '.join(missing)}: {how}", allow_module_level=True)


def need_movies() -> None:
    """Skips the test, or the module, that calls it, with the reason, unless the table of films is there."""
    try:
        movies_file()
    except SystemExit as missing:
        pytest.skip(f"needs {missing}", allow_module_level=True)
