"""Rows of CSV and JSON-lines files, read line by line. The place is a byte of the file: to go on costs a seek."""

from __future__ import annotations

import codecs
import csv
import json
from collections.abc import Callable, Iterator, Mapping
from io import StringIO
from itertools import islice
from pathlib import Path
from typing import IO, Any, Protocol

from mlports.flow.errors import SourceError
from mlports.flow.failures import Failures
from mlports.flow.sources import Rows

_BLOCK = 256 * 1024  # bytes that are read at a time

LONGEST_LINE = 64 * 1024 * 1024
"""Bytes. A longer one is no line, but another kind of file, and would fill the memory."""

Converters = Mapping[str, Callable[[str], Any]]


class ParsedRows(Protocol):
    """What `csv.reader` gives: rows, and the number of lines that they were made of."""

    line_num: int

    def __iter__(self) -> Iterator[list[str]]: ...
    def __next__(self) -> list[str]: ...


def _without_mark(lines: Iterator[str]) -> Iterator[str]:
    """The lines without the mark that some programs begin a UTF-8 file with."""
    for first in lines:
        yield first.removeprefix("\ufeff")
        break
    yield from lines


def doubled(names: list[str]) -> str | None:
    """The name that is there twice, if one is: of two columns called alike a dict would hold the last alone."""
    return next((name for place, name in enumerate(names) if name in names[:place]), None)


def checked_columns(path: Path, columns: Any) -> None:
    """Raises `SourceError` for `columns=` that are no list of names, each of its own."""
    if isinstance(columns, str) or (twice := doubled(list(columns))) is not None:
        told = f"{columns!r} is one text" if isinstance(columns, str) else f"{twice!r} is there twice"
        raise SourceError(f"{path}: columns= is a list of names, each of its own, and {told}")


def checked_delimiter(path: Path, delimiter: Any) -> None:
    """Raises `SourceError` for what is no single character."""
    if not isinstance(delimiter, str) or len(delimiter) != 1:
        raise SourceError(f"{path}: delimiter is one character, not {delimiter!r}")


class TextFile(Rows):
    """Opens the file when it is first read, and takes it in blocks of whole lines; `done` and `total` are bytes."""

    def __init__(self, path: Path, kind: str, encoding: str, failures: Failures) -> None:
        super().__init__(f"from_file({path.name})", failures)
        self._path = self.file = path
        self._kind, self._encoding = kind, encoding
        self._file: IO[bytes] | None = None
        self._block: list[str] = []
        self._block_at = 0  # the byte at which the block begins
        self._block_line = 0  # the number of lines before it
        self._block_end = 0
        self._line = 0  # lines that were used
        try:
            self.total = path.stat().st_size
        except OSError as error:
            raise SourceError(f"{path} cannot be read: {error.strerror}") from error
        if path.is_dir():
            raise SourceError(f"{path} is a directory: name a file")
        if encoding.lower().replace("_", "-").startswith(("utf-16", "utf-32")):
            raise SourceError(f"{path}: lines cannot be told apart in {encoding} without reading it all; make it UTF-8")
        try:
            codecs.lookup(encoding)
        except LookupError as error:
            raise SourceError(f"{path}: {error}") from error

    @property
    def done(self) -> int:
        return self._block_end

    def _lines(self) -> Iterator[str]:
        self._file = self._opened()
        if self._block_end:  # a pipe has no other place than its beginning
            self._file.seek(self._block_end)
        while block := self._file.read(_BLOCK):
            if not block.endswith(b"\n"):
                block += self._rest_of_line(self._file)
            self._block_at, self._block_end = self._block_end, self._block_end + len(block)
            self._block_line += len(self._block)
            # Text files of Python end lines elsewhere too, unless they are told not to.
            self._block = list(StringIO(self._decoded(block), newline="\n"))
            yield from self._block

    def _opened(self) -> IO[bytes]:
        try:
            return self._path.open("rb")
        except OSError as error:
            raise SourceError(f"{self._path} cannot be read: {error.strerror}") from error

    def _rest_of_line(self, file: IO[bytes]) -> bytes:
        rest = file.readline(LONGEST_LINE)
        if len(rest) == LONGEST_LINE and not rest.endswith(b"\n"):
            raise SourceError(f"{self._where()}: 64 MiB without an end of line; this is no {self._kind} file")
        return rest

    def _decoded(self, block: bytes) -> str:
        try:
            return block.decode(self._encoding)
        except UnicodeDecodeError as error:
            line = self._block_line + block.count(b"\n", 0, error.start) + 1
            column = error.start - (block.rfind(b"\n", 0, error.start) + 1)
            shown = block[error.start - column :][:80].splitlines()[0]
            if line == 1 and shown.startswith(b"\x1f\x8b"):
                raise SourceError(f"{self._path} is compressed by gzip: unpack it first") from error
            raise SourceError(
                f"{self._path}:{line}: not {self._encoding}, at byte {column} of the line: {shown!r}. "
                "Say encoding= if it is another one"
            ) from error

    def _where(self) -> str:
        return f"{self._path}:{self._line}"

    def state(self) -> Any:
        used = "".join(self._block[: self._line - self._block_line]).encode(self._encoding)
        return [self.taken, self._block_at + len(used), self._line]

    def restore(self, state: Any) -> None:
        self.taken, self._block_end, self._line = state
        self._block_at, self._block_line = self._block_end, self._line
        if self.total is not None and self._block_end > self.total:
            raise SourceError(
                f"{self._path} has {self.total:,} bytes, and {self._block_end:,} of it had been read before the "
                "checkpoint: it has been changed since. Begin anew with another journal"
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
        checked_delimiter(path, delimiter)
        if columns is not None:
            checked_columns(path, columns)
        self._delimiter, self._given, self._allow_empty = delimiter, columns, allow_empty
        self._converters = dict(converters or {})
        self._columns: list[str] = []
        self._rows: ParsedRows | None = None
        self._lines_before = 0

    def _begin(self) -> ParsedRows:
        begun_before = bool(self._columns)
        self._lines_before = self._line
        self._rows = rows = csv.reader(_without_mark(self._lines()), delimiter=self._delimiter, strict=True)
        if not begun_before:
            self._columns = self._given or self._header(rows)
        if unknown := sorted(set(self._converters) - set(self._columns)):
            columns = ", ".join(self._columns)
            raise SourceError(f"{self._path} has no column {unknown[0]!r} to convert; its columns are: {columns}")
        return rows

    def _header(self, rows: ParsedRows) -> list[str]:
        header = next((row for row in rows if row), None)
        self._line = rows.line_num
        if header is None:
            if self._allow_empty:
                return []
            raise SourceError(
                f"{self._path} is empty: a CSV file begins with a line of column names. "
                "If it may be, say allow_empty=True"
            )
        if (twice := doubled(header)) is not None:
            raise SourceError(f"{self._where()}: two columns are called {twice!r}; name them with columns=")
        return header

    def read(self, count: int) -> list[Any]:
        try:
            return self._read(self._rows or self._begin(), count)
        except csv.Error as error:
            assert self._rows is not None
            self._line = self._lines_before + self._rows.line_num
            fix = "a quote that is never closed swallows what follows it"
            if "field limit" in str(error):
                fix += "; if a value is so long, read batches=True, or raise csv.field_size_limit()"
            raise SourceError(f"{self._where()}: no CSV: {error} ({fix})") from error

    def _read(self, rows: ParsedRows, count: int) -> list[Any]:
        columns, width = self._columns, len(self._columns)
        chunk: list[Any] = []
        give = chunk.append
        number = 0
        for number, row in enumerate(islice(rows, count), 1):  # noqa: B007 - it is the count
            if len(row) == width:
                give(dict(zip(columns, row)))  # noqa: B905 - their lengths have just been compared
            elif row:
                self._line = self._lines_before + rows.line_num
                self.bad(row, f"{self._where()}: {len(row)} values, and {width} columns")
        self._line = self._lines_before + rows.line_num
        self._end_if(number)
        return self._converted(chunk) if self._converters else chunk

    def _end_if(self, rows: int) -> None:
        self.taken += rows
        self.over = not rows
        if self.over and not self.taken and not self._allow_empty:
            raise SourceError(f"{self._path} has a header and no rows. If it may be without, say allow_empty=True")

    def _converted(self, chunk: list[dict[str, Any]]) -> list[Any]:
        good, names = [], list(self._converters)
        for row in chunk:
            texts = [row[name] for name in names]
            name = ""
            try:
                for name, text in zip(names, texts, strict=True):
                    row[name] = self._converters[name](text)
            except Exception as error:
                row.update(zip(names, texts, strict=True))
                self.bad(row, f"{self._path}: column {name!r}: {type(error).__name__}: {error}")
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
            self._source = _without_mark(self._lines())
        chunk: list[Any] = []
        give, loads, before, number = chunk.append, json.loads, self._line, 0
        for number, line in enumerate(islice(self._source, count), 1):
            try:
                give(loads(line))
            except (ValueError, RecursionError) as error:
                if line.strip():
                    self._line = before + number
                    self.bad(line.rstrip("\r\n"), f"{self._where()}: no JSON: {error}")
        self._line = before + number
        self.taken += number
        self.over = not number
        if self.over and not self.taken and not self._allow_empty:
            raise SourceError(f"{self._path} is empty. If it may be, say allow_empty=True")
        return chunk
