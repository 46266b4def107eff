"""Rows of CSV and JSON-lines files, read line by line. The place is a byte of the file: to go on costs a seek."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any

from mlports.flow.errors import SourceError
from mlports.flow.failures import Failures
from mlports.flow.sources import Rows

LONGEST_LINE = 64 * 1024 * 1024
"""Bytes. A longer one is no line, but another kind of file, and would fill the memory."""

Converters = Mapping[str, Callable[[str], Any]]


class TextFile(Rows):
    """Opens the file when it is first read; `done` and `total` are bytes."""

    def __init__(self, path: Path, kind: str, encoding: str, failures: Failures) -> None:
        super().__init__(f"from_file({path.name})", failures)
        self._path, self._kind, self._encoding = path, kind, encoding
        self._line = 0
        self._at = 0
        self._file: IO[bytes] | None = None
        try:
            self.total = path.stat().st_size
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from error
        if path.is_dir():
            raise SourceError(f"{path} is a directory: name a file")
        if encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")):
            raise SourceError(f"{path}: lines cannot be told apart in {encoding} without reading it all; make it UTF-8")
        codecs.lookup(encoding)

    @property
    def done(self) -> int:
        return self._at

    def _open(self) -> IO[bytes]:
        if self._file is None:
            self._file = self._path.open("rb")
            self._file.seek(self._at)
        return self._file

    def _lines(self) -> Iterator[str]:
        file, decode = self._open(), codecs.getdecoder(self._encoding)
        while line := file.readline(LONGEST_LINE):
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                raise SourceError(
                    f"{self._where(1)}: more than 64 MiB without an end of line; this is no {self._kind} file"
                )
            if not self._at and line.startswith(codecs.BOM_UTF8):
                self._at, line = len(codecs.BOM_UTF8), line.removeprefix(codecs.BOM_UTF8)
            self._at += len(line)
            self._line += 1
            try:
                yield decode(line)[0]
            except UnicodeDecodeError as error:
                fix = "Say encoding= if it is another one"
                raise SourceError(
                    f"{self._where()}: not {self._encoding}, at byte {error.start}: {line[:80]!r}. {fix}"
                ) from error

    def _where(self, after: int = 0) -> str:
        return f"{self._path}:{self._line + after}"

    def state(self) -> Any:
        return [self.taken, self._at, self._line]

    def restore(self, state: Any) -> None:
        self.taken, self._at, self._line = state
        if self.total is not None and self._at > self.total:
            raise SourceError(
                f"{self._path} has {self.total:,} bytes, and {self._at:,} of it had been read before the checkpoint: "
                "it has been changed since. Begin anew with another journal"
            )

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


class CsvFile(TextFile):
    """Rows as dicts, named by the header, or by `columns` where the file has none. Values are text, as they stand.

    converters: by column, what makes a value of the text. A row that is too short or too long, or that a converter
    fails on, goes where failures go. Empty lines are passed over.
    """

    def __init__(
        self,
        path: Path,
        failures: Failures,
        *,
        encoding: str = "utf-8",
        delimiter: str = ",",
        columns: list[str] | None = None,
        converters: Converters | None = None,
        allow_empty: bool = False,
    ) -> None:
        super().__init__(path, "CSV", encoding, failures)
        self._delimiter, self._given, self._allow_empty = delimiter, columns, allow_empty
        self._converters = dict(converters or {})
        self._columns: list[str] = []
        self._rows: Iterator[list[str]] | None = None

    def _begin(self) -> Iterator[list[str]]:
        resumed = bool(self._columns)
        rows = csv.reader(self._lines(), delimiter=self._delimiter, strict=True)
        self._rows = rows
        if not resumed:
            self._columns = self._given or self._header(rows)
        if unknown := sorted(set(self._converters) - set(self._columns)):
            columns = ", ".join(self._columns)
            raise SourceError(f"{self._path} has no column {unknown[0]!r} to convert; its columns are: {columns}")
        return rows

    def _header(self, rows: Iterator[list[str]]) -> list[str]:
        header = next((row for row in self._parsed(rows) if row), None)
        if header is None:
            if self._allow_empty:
                return []
            raise SourceError(
                f"{self._path} is empty: a CSV file begins with a line of column names. "
                "If it may be, say allow_empty=True"
            )
        if twice := sorted({name for name in header if header.count(name) > 1}):
            raise SourceError(f"{self._where()}: two columns are called {twice[0]!r}; name them with columns=")
        return header

    def _parsed(self, rows: Iterator[list[str]]) -> Iterator[list[str]]:
        try:
            yield from rows
        except csv.Error as error:
            fix = "a quote that is never closed swallows what follows it"
            raise SourceError(f"{self._where()}: no CSV: {error} ({fix})") from error

    def read(self, count: int) -> list[Any]:
        rows = self._rows or self._begin()
        columns, width = self._columns, len(self._columns)
        chunk = []
        number = 0
        for row in self._parsed(islice(rows, count)):
            number += 1
            if len(row) == width:
                chunk.append(dict(zip(columns, row, strict=True)))
            elif row:
                self.bad(row, f"{self._where()}: {len(row)} values, and {width} columns")
        self._end_if(number)
        return self._converted(chunk) if self._converters else chunk

    def _end_if(self, rows: int) -> None:
        self.taken += rows
        self.over = not rows
        if self.over and not self.taken and not self._allow_empty:
            raise SourceError(f"{self._path} has a header and no rows. If it may be without, say allow_empty=True")

    def _converted(self, chunk: list[dict[str, Any]]) -> list[Any]:
        good = []
        for row in chunk:
            before = dict(row)
            for column, convert in self._converters.items():
                try:
                    row[column] = convert(row[column])
                except Exception as error:
                    problem = f"{self._path}: column {column!r}: {type(error).__name__}: {error}"
                    self.bad(before, problem)
                    break
            else:
                good.append(row)
        return good

    def state(self) -> Any:
        return [*super().state(), self._columns]

    def restore(self, state: Any) -> None:
        super().restore(state[:3])
        self._columns = state[3]


class JsonLines(TextFile):
    """One JSON value on each line; empty lines are passed over, and lines that are no JSON go where failures go."""

    def __init__(self, path: Path, failures: Failures, *, encoding: str = "utf-8", allow_empty: bool = False) -> None:
        super().__init__(path, "JSON-lines", encoding, failures)
        self._allow_empty = allow_empty
        self._source: Iterator[str] | None = None

    def read(self, count: int) -> list[Any]:
        if self._source is None:
            self._source = self._lines()
        chunk, number, loads = [], 0, json.loads
        for line in islice(self._source, count):
            number += 1
            try:
                chunk.append(loads(line))
            except (ValueError, RecursionError) as error:
                if line.strip():
                    self.bad(line.rstrip("\r\n"), f"{self._where()}: no JSON: {error}")
        self.taken += number
        self.over = not number
        if self.over and not self.taken and not self._allow_empty:
            raise SourceError(f"{self._path} is empty. If it may be, say allow_empty=True")
        return chunk
