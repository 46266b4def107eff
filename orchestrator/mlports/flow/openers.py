"""The beginnings of flows, by what they read from."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Sized
from functools import partial
from inspect import signature
from pathlib import Path
from typing import Any

from mlports.flow.batch_files import CsvBatches
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
_BATCH_READERS: dict[str, Any] = {
    "csv": CsvBatches,
    "tsv": CsvBatches,
    "parquet": partial(ParquetFile, batches=True),
    "arrow": partial(ArrowFile, batches=True),
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


def file(path: str | os.PathLike[str], format: str | None, batches: bool, options: dict[str, Any]) -> Start:
    """A file of rows, or of batches of them. Raises `FlowError` for a format that is not known."""
    place = Path(path)
    kind = format or _FORMATS.get(place.suffix.lower())
    readers = _BATCH_READERS if batches else _READERS
    if batches and kind in _READERS and kind not in readers:
        raise FlowError(f"{place.name}: {kind} gives items one by one; batches are of {', '.join(readers)}")
    if kind not in readers:
        known = ", ".join(sorted(readers))
        raise FlowError(f"{place.name} does not say what it is by its name: say format=, which may be one of {known}")
    if kind == "tsv":
        options = {"delimiter": "\t", **options}
    reader = readers[kind]

    def make(setting: Setting) -> Source:
        source: Source = reader(place, setting.failures, **options)
        return source

    names = [name for name in signature(reader).parameters if name not in ("path", "failures", "batches")]
    if unknown := sorted(set(options) - set(names)):
        what = f"batches of {kind}" if batches else kind
        raise FlowError(f"{place.name}: {what} has no option {unknown[0]!r}; it has: {', '.join(names)}")

    return Start(f"from_file({place.name})", make)


def service(target: str, params: tuple[Any, ...], timeout: float | None, replayable: bool) -> Start:
    """A service's stream."""
    label = f"from_service({target})"
    return Start(label, lambda setting: setting.stream(target, params, timeout, replayable))
