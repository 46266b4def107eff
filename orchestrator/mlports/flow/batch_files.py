"""A CSV file as Arrow record batches, a block of the file at a time, through pyarrow (the extra `tables`)."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from functools import cached_property
from io import StringIO
from pathlib import Path
from typing import IO, Any

from mlports.flow.errors import SourceError
from mlports.flow.failures import Failures
from mlports.flow.table_files import pyarrow
from mlports.flow.text_files import LONGEST_LINE, TextFile, checked_columns, checked_delimiter, doubled

BLOCK = 4 * 1024 * 1024
"""Bytes of the file that make one batch: large enough that a batch costs little, small enough to have several."""


class CsvBatches(TextFile):
    """Record batches of a CSV file in UTF-8 that begins with a header; `taken` counts rows, bad ones too.

    columns: those to read, all without. types: by column, an Arrow type or its name ("int64", "double", "string",
    "dictionary" for texts of which there are few); of the others the first block decides. A row of a wrong length, or
    with a value that is not of its column's type, goes where failures go; the rest of its batch does not.
    """

    def __init__(
        self,
        path: Path,
        failures: Failures,
        *,
        delimiter: str = ",",
        columns: list[str] | None = None,
        types: Mapping[str, Any] | None = None,
        block: int = BLOCK,
        allow_empty: bool = False,
    ) -> None:
        super().__init__(path, "CSV", "utf-8", failures)
        checked_delimiter(path, delimiter)
        _check(path, delimiter, block, types)
        if columns is not None:
            checked_columns(path, columns)
        self._arrow = pyarrow(f"reading batches of {path.name}")
        self._delimiter, self._chosen, self._size, self._allow_empty = delimiter, columns, block, allow_empty
        self._types = {name: self._type(name, given) for name, given in (types or {}).items()}
        self._names: list[str] = []
        self._skip_to: int | None = None
        self._bad = 0

    def read(self, count: int) -> list[Any]:
        """One batch, however many are asked for: each is large."""
        file = self._file or self._begin()
        while block := self._next_block(file):
            before = self._bad
            batch = self._batch(block)
            self.taken += self._bad - before + (batch.num_rows if batch else 0)
            if batch:
                return [batch]
        self.over = True
        if not self.taken and not self._allow_empty:
            raise SourceError(f"{self._path} has a header and no rows. If it may be without, say allow_empty=True")
        return []

    # -- blocks

    def _begin(self) -> IO[bytes]:
        self._file = file = self._opened()
        header = next((line for line in iter(lambda: self._line_of(file), b"") if line.strip()), None)
        if header is None:
            if self._allow_empty:
                return file
            raise SourceError(
                f"{self._path} is empty: a CSV file begins with a line of column names. "
                "If it may be, say allow_empty=True"
            )
        try:
            self._names = next(csv.reader([self._decoded(header).removeprefix("\ufeff")], delimiter=self._delimiter))
        except csv.Error as error:
            raise SourceError(f"{self._path}: its first line is no header of CSV: {error}") from error
        if (twice := doubled(self._names)) is not None:
            raise SourceError(f"{self._path}: two columns are called {twice!r}")
        for name in [*self._types, *(self._chosen or ())]:
            if name not in self._names:
                raise SourceError(f"{self._path} has no column {name!r}; its columns are: {', '.join(self._names)}")
        if self._skip_to is not None:
            # The types that the first block decided are not in the journal: it decides them again.
            taken, self.taken = self.taken, 0
            if self._skip_to > self._block_end and (first := self._next_block(file)):
                self._batch(first, tell=False)
            self.taken = taken
            file.seek(self._skip_to)
            self._block_end = self._skip_to
        return file

    def _line_of(self, file: IO[bytes]) -> bytes:
        line = self._rest_of_line(file)
        self._block_end += len(line)
        return line

    def _next_block(self, file: IO[bytes]) -> bytes:
        """Whole rows. A line that ends within quotes is none: quotes within quotes are doubled, so all are counted."""
        block = file.read(self._size)
        if not block.endswith(b"\n"):
            block += self._rest_of_line(file)
        if block.count(b'"') % 2:
            block += self._rest_of_row(file)
        self._block_end += len(block)
        return block

    def _rest_of_row(self, file: IO[bytes]) -> bytes:
        lines: list[bytes] = []
        size = 0
        while line := self._rest_of_line(file):
            lines.append(line)
            size += len(line)
            if line.count(b'"') % 2:
                return b"".join(lines)
            if size > LONGEST_LINE:
                break
        raise SourceError(
            f"{self._path}: a quote after byte {self._block_end:,} is never closed, and swallows what follows it"
        )

    # -- batches

    def _batch(self, block: bytes, tell: bool = True) -> Any:
        """The block's rows; None when there are none. `tell`: of those that are no good."""
        unfit: list[Any] = []
        self._decided(block)
        try:
            batch = self._parsed(block, self._types, unfit)
        except self._arrow.ArrowInvalid as error:
            batch, unfit = self._mended(block, error, tell)
        self._bad += len(unfit)
        for row in unfit if tell else ():
            place = f"row {self.taken + row.number:,}" if row.number else "a row"
            problem = f"{self._path}, {place}: {row.actual_columns} values, and {row.expected_columns} columns"
            self.bad(row.text, problem)
        return batch

    def _decided(self, block: bytes) -> None:
        """The columns' types, from the first block that there is."""
        wanted = self._chosen or self._names
        if all(name in self._types for name in wanted):
            return
        # Those that are given as texts: a value that is not of its column's type decides nothing of the others.
        found = self._parsed(block, dict.fromkeys(self._types, self._arrow.string()), [])
        for field in found.schema if found else ():
            if self._arrow.types.is_binary(field.type):
                self._check_text(block)  # Arrow would give bytes
            empty = self._arrow.types.is_null(field.type)
            self._types.setdefault(field.name, self._arrow.string() if empty else field.type)

    def _parsed(self, block: bytes, types: Mapping[str, Any], unfit: list[Any]) -> Any:
        def skip(row: Any) -> str:
            unfit.append(row)
            return "skip"

        table = self._read(block, self._names, types, skip, self._delimiter, self._chosen)
        batches = table.combine_chunks().to_batches()
        return batches[0] if batches else None

    def _read(
        self,
        block: bytes,
        names: list[str],
        types: Mapping[str, Any],
        skip: Callable[[Any], str] | None = None,
        delimiter: str = ",",
        chosen: list[str] | None = None,
    ) -> Any:
        from pyarrow import csv as arrow_csv

        return arrow_csv.read_csv(
            self._arrow.BufferReader(block),
            # One thread: what is done with the batches has the others, and each would have memory of its own.
            arrow_csv.ReadOptions(use_threads=False, block_size=len(block) + 1, column_names=names),
            arrow_csv.ParseOptions(delimiter=delimiter, newlines_in_values=b'"' in block, invalid_row_handler=skip),
            arrow_csv.ConvertOptions(column_types=types, include_columns=chosen or names, strings_can_be_null=False),
        )

    def _mended(self, block: bytes, error: Exception, tell: bool) -> tuple[Any, list[Any]]:
        """The rows of a block some of whose values are not of their columns' types, without those rows."""
        unfit: list[Any] = []
        self._check_text(block)
        texts = self._parsed(block, dict.fromkeys(self._chosen or self._names, self._arrow.string()), unfit)
        if texts is None:
            raise SourceError(f"{self._path}, after row {self.taken:,}: {error}") from error
        rows = texts.to_pylist()
        problems: dict[int, str] = {}
        for name in texts.schema.names:
            for place in self._misfits([row[name] for row in rows], self._types[name]):
                problem = f"column {name!r} is of {self._types[name]}, and this is {rows[place][name]!r}"
                problems.setdefault(place, problem)
        if not problems:
            raise SourceError(f"{self._path}, after row {self.taken:,}: {error}") from error
        for place, problem in problems.items() if tell else ():
            number = place + 1
            for before in sorted(row.number or 0 for row in unfit):  # not among `rows`
                number += before <= number
            hint = "; say types= where the first rows do not tell"
            self.bad(rows[place], f"{self._path}, row {self.taken + number:,}: {problem}{hint}")
        self._bad += len(problems)
        good = [row for place, row in enumerate(rows) if place not in problems]
        columns = [self._as([row[name] for row in good], self._types[name]) for name in texts.schema.names]
        return self._arrow.record_batch(columns, names=texts.schema.names), unfit

    def _check_text(self, block: bytes) -> None:
        try:
            block.decode()
        except UnicodeDecodeError as error:
            place, shown = self._block_end - len(block) + error.start, block[error.start :][:80].splitlines()[0]
            raise SourceError(f"{self._path}: not utf-8, at byte {place:,} of the file: {shown!r}") from error

    def _as(self, texts: list[str], type: Any) -> Any:
        """A column of these. By the reader, since a cast has other ideas of times, missing values and spaces."""
        if not texts:
            return self._arrow.array([], type)
        written = StringIO()
        csv.writer(written, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows([text] for text in texts)
        return self._read(written.getvalue().encode(), ["x"], {"x": type}).column(0).combine_chunks()

    @cached_property
    def _nulls(self) -> frozenset[str]:
        from pyarrow import csv as arrow_csv

        return frozenset(arrow_csv.ConvertOptions().null_values)

    def _misfits(self, texts: list[str], type: Any, first: int = 0) -> list[int]:
        """Where those are that are not of this type, found by halves; `first` is the place of the first text."""
        if self._arrow.types.is_integer(type) or self._arrow.types.is_floating(type):
            # Of numbers the cast has the reader's ideas, but for these, and is faster by far where most are wrong.
            return [place for place, text in enumerate(texts) if not (text in self._nulls or self._casts(text, type))]
        try:
            self._as(texts, type)
        except self._arrow.ArrowInvalid:
            if len(texts) == 1:
                return [first]
            half = len(texts) // 2
            return self._misfits(texts[:half], type, first) + self._misfits(texts[half:], type, first + half)
        return []

    def _casts(self, text: str, type: Any) -> bool:
        try:
            self._arrow.scalar(text.strip(" \t")).cast(type)
        except self._arrow.ArrowException:
            return False
        return True

    def _type(self, name: str, given: Any) -> Any:
        if not isinstance(given, str | self._arrow.DataType):
            raise SourceError(f"{self._path}: the type of column {name!r} is Arrow's, or its name, not {given!r}")
        if given == "dictionary":
            return self._arrow.dictionary(self._arrow.int32(), self._arrow.string())
        if not isinstance(given, str):
            return given
        try:
            return self._arrow.type_for_alias(given)
        except ValueError as error:
            raise SourceError(
                f"{self._path}: column {name!r} cannot be of {given!r}: Arrow has no such type"
            ) from error

    # -- its place

    def state(self) -> Any:
        return [self.taken, self._block_end]

    def restore(self, state: Any) -> None:
        self.taken, self._skip_to = state
        if self.total is not None and self._skip_to > self.total:
            raise SourceError(
                f"{self._path} has {self.total:,} bytes, and {self._skip_to:,} of it had been read before the "
                "checkpoint: it has been changed since. Begin anew with another journal"
            )


def _check(path: Path, delimiter: str, block: Any, types: Any) -> None:
    if not delimiter.isascii() or delimiter in "\r\n":
        raise SourceError(f"{path}: of batches the delimiter is an ASCII character within a line, not {delimiter!r}")
    if not isinstance(block, int) or block < 1:
        raise SourceError(f"{path}: block= is how many bytes make a batch, at least 1, not {block!r}")
    if types is not None and not isinstance(types, Mapping):
        raise SourceError(f"{path}: types= is a dict of types by column, not {types!r}")
