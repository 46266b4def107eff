"""Where what comes with the library but is no part of it lies: packed beside it in a wheel, or in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
_CHECKOUT = _PACKAGE.parents[1]


def sdk(language: str) -> Path | None:
    """The folder with a language's SDK in `mlports` and its project's files in `template`."""
    return _first("template", _PACKAGE / "sdks" / language, _CHECKOUT / "workers" / language)


def examples() -> Path | None:
    """The folder that the package `examples` is in."""
    return _first("examples/__init__.py", _PACKAGE / "demos", _CHECKOUT)


def _first(holds: str, *folders: Path) -> Path | None:
    return next((folder for folder in folders if (folder / holds).exists()), None)
