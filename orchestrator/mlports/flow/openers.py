"""The beginnings of flows, by what they read from."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Sized
from pathlib import Path
from typing import Any

from mlports.flow.callers import Setting
from mlports.flow.errors import FlowError
from mlports.flow.plan import Start
from mlports.flow.sources import AsyncSource, IterableSource, Source
from mlports.flow.table_files import ArrowFile, ParquetFile
from mlports.flow.text_files import CsvFile, JsonLines

_FORMATS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".arrows": "arrow",
    ".feather": "arrow",
}
_READERS: dict[str, Any] = {
    "csv": CsvFile,
    "tsv": CsvFile,
    "jsonl": JsonLines,
    "parquet": ParquetFile,
    "arrow": ArrowFile,
}


def iterable(items: Iterable[Any] | AsyncIterable[Any]) -> Start:
    """Anything that can be iterated. Raises `TypeError` for what cannot."""
    kind = type(items).__name__
    label = f"from_iterable({kind} of {len(items):,})" if isinstance(items, Sized) else f"from_iterable({kind})"
    if isinstance(items, AsyncIterable):
        stream = items
        return Start(label, lambda setting: AsyncSource(label, lambda: stream, setting.run, replayable=True))
    if not isinstance(items, Iterable):
        raise TypeError(f"a flow begins with something that can be iterated, and this is a {kind}")
    plain = items
    return Start(label, lambda setting: IterableSource(label, plain))


def file(path: str | os.PathLike[str], format: str | None, options: dict[str, Any]) -> Start:
    """A file of rows. Raises `FlowError` for a format that is not known."""
    place = Path(path)
    kind = format or _FORMATS.get(place.suffix.lower())
    if kind not in _READERS:
        known = ", ".join(sorted(_READERS))
        raise FlowError(f"{place.name} does not say what it is by its name: say format=, which may be one of {known}")
    if kind == "tsv":
        options = {"delimiter": "\t", **options}
    reader = _READERS[kind]

    def make(setting: Setting) -> Source:
        source: Source = reader(place, setting.failures, **options)
        return source

    return Start(f"from_file({place.name})", make)


def service(target: str, params: tuple[Any, ...], timeout: float | None, replayable: bool) -> Start:
    """A service's stream."""
    label = f"from_service({target})"
    return Start(label, lambda setting: setting.stream(target, params, timeout, replayable))
