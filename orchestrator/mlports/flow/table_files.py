"""Rows of Parquet and Arrow files, batch by batch through pyarrow (the extra `tables`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlports.flow.errors import SourceError, needs_extra
from mlports.flow.failures import Failures
from mlports.flow.sources import Rows

_ROWS = 65_536  # of a batch, where batches are given


def pyarrow(what: str) -> Any:
    """The package. Raises `FlowError` that says which extra has it."""
    try:
        import pyarrow
    except ImportError as error:
        raise needs_extra("pyarrow", "tables", what) from error
    return pyarrow


class TableFile(Rows):
    """Rows as dicts, or with `batches` as record batches. `done` and `total` are rows.

    A file without any is read as such: its columns say what it is.
    """

    def __init__(
        self, path: Path, failures: Failures, columns: list[str] | None = None, *, batches: bool = False
    ) -> None:
        super().__init__(f"from_file({path.name})", failures)
        self._path = self.file = path
        self._columns, self._whole = columns, batches
        self._arrow = pyarrow(f"reading {path.name}")
        self._batches: Iterator[Any] | None = None
        self._rest: Any = None
        self._file: Any = None
        self._skip = 0
        self._count = 1000

    def _opened(self) -> Iterator[Any]:
        raise NotImplementedError

    def _begin(self) -> Iterator[Any]:
        try:
            return self._opened()
        except FileNotFoundError as error:
            raise SourceError(f"{self._path} cannot be read: there is no such file") from error
        except self._arrow.ArrowKeyError as error:
            raise SourceError(f"{self._path}: {error}") from error
        except (self._arrow.ArrowException, OSError) as error:
            size = self._path.stat().st_size if self._path.is_file() else 0
            cut = "it is empty" if not size else "it has been cut short, or is of another kind"
            raise SourceError(f"{self._path} ({size:,} bytes) cannot be read: {cut}: {error}") from error

    def read(self, count: int) -> list[Any]:
        if self._batches is None:
            self._count = _ROWS if self._whole else max(count, 1000)
            self._batches = self._begin()
        while self._rest is None or not self._rest.num_rows:
            self._rest = self._next()
            if self._rest is None:
                self.over = True
                return []
            if self._skip:
                dropped = min(self._skip, self._rest.num_rows)
                self._skip -= dropped
                self._rest = self._rest.slice(dropped)
        if self._whole:
            batch, self._rest = self._rest, None
            self.taken += batch.num_rows
            return [batch]
        chunk: list[Any] = self._rest.slice(0, count).to_pylist()
        self._rest = self._rest.slice(count)
        self.taken += len(chunk)
        return chunk

    def _next(self) -> Any:
        assert self._batches is not None
        try:
            return next(self._batches, None)
        except (self._arrow.ArrowException, OSError) as error:
            raise SourceError(f"{self._path} is damaged after row {self.taken:,}: {error}") from error

    def restore(self, state: Any) -> None:
        self.taken = self._skip = state

    def close(self) -> None:
        self._batches = self._rest = None
        if self._file is not None:
            self._file.close()
            self._file = None


class ParquetFile(TableFile):
    """A Parquet file; of each row group only what is asked for is in memory, a batch at a time."""

    def _opened(self) -> Iterator[Any]:
        from pyarrow import parquet

        # Without pre_buffer a row group is read as it is asked for, and not all of it ahead.
        self._file = file = parquet.ParquetFile(self._path, pre_buffer=False)
        known = file.schema_arrow.names
        if unknown := [name for name in self._columns or () if name not in known]:
            raise SourceError(f"{self._path} has no column {unknown[0]!r}; its columns are: {', '.join(known)}")
        self.total = file.metadata.num_rows
        first, groups = 0, file.metadata.num_row_groups
        while first < groups and self._skip >= file.metadata.row_group(first).num_rows:
            self._skip -= file.metadata.row_group(first).num_rows
            first += 1
        batches: Iterator[Any] = file.iter_batches(
            batch_size=self._count, row_groups=list(range(first, groups)), columns=self._columns
        )
        return batches


class ArrowFile(TableFile):
    """An Arrow IPC file (Feather) or stream; a record batch at a time."""

    def _opened(self) -> Iterator[Any]:
        from pyarrow import ipc

        self._file = self._arrow.memory_map(str(self._path))
        magic = self._file.read(6)
        self._file.seek(0)
        if magic != b"ARROW1":
            return iter(self._chosen(ipc.open_stream(self._file)))
        file = ipc.open_file(self._file)
        return self._chosen(file.get_batch(index) for index in range(file.num_record_batches))

    def _chosen(self, batches: Any) -> Iterator[Any]:
        for batch in batches:
            yield batch if self._columns is None else batch.select(self._columns)
