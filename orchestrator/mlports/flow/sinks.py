"""Where items go: files, functions, services. A sink takes chunks, and says at a checkpoint how far it has come."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from mlports.flow.concurrent_stages import Concurrent
from mlports.flow.errors import CheckpointError, written_to
from mlports.flow.failures import Failures
from mlports.flow.table_files import pyarrow


class Sink:
    """The end of a flow. `state()` is what it has taken for good, to which `restore` returns after a crash.

    file: what it writes, where that is a file, so that nothing else in the flow reads or writes the same one.
    """

    file: Path | None = None

    def __init__(self, label: str, failures: Failures) -> None:
        self.label = label
        self.failures = failures
        self.taken = 0

    def write(self, chunk: list[Any]) -> None:
        raise NotImplementedError

    def flush(self) -> None:
        """Everything written so far will survive a crash."""

    def finish(self) -> None:
        """Nothing more comes, and all went well."""
        self.flush()

    def state(self) -> Any:
        return None

    def restore(self, state: Any) -> None:
        """Takes up what `state()` gave in an earlier run."""

    def close(self) -> None:
        """Lets go of what it holds, at the end, however it came."""


class Nowhere(Sink):
    """The items are dropped: what the stages did was what was wanted."""

    def write(self, chunk: list[Any]) -> None:
        self.taken += len(chunk)


class ToFunction(Sink):
    """`f(item)` for each."""

    def __init__(self, label: str, f: Callable[[Any], object], failures: Failures) -> None:
        super().__init__(label, failures)
        self._f = f

    def write(self, chunk: list[Any]) -> None:
        self.taken += len(chunk)
        for item in chunk:
            try:
                self._f(item)
            except Exception as error:
                self.failures.failed(self.label, item, error)


class ToService(Sink):
    """A call of a service for each; what it answers is dropped. At the end, and at a checkpoint, all are answered."""

    def __init__(self, label: str, stage: Concurrent, failures: Failures) -> None:
        super().__init__(label, failures)
        self._stage = stage

    def write(self, chunk: list[Any]) -> None:
        self.taken += len(chunk)
        for _ in self._stage.feed(chunk):
            pass

    def flush(self) -> None:
        for _ in self._stage.flush():
            pass

    def close(self) -> None:
        self._stage.close()


class ToTextFile(Sink):
    """A text file. It is begun anew, unless the run goes on after a checkpoint: then it is cut back to that one."""

    def __init__(self, label: str, path: Path, failures: Failures) -> None:
        super().__init__(label, failures)
        self._path = self.file = path
        self._file: IO[bytes] | None = None

    def write(self, chunk: list[Any]) -> None:
        self.taken += len(chunk)
        data = self.bytes_of(chunk)
        with written_to(self._path):
            self._opened().write(data)

    def bytes_of(self, chunk: list[Any]) -> bytes:
        raise NotImplementedError

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self._file = self._path.open("wb")
        return self._file

    def flush(self) -> None:
        with written_to(self._path):
            file = self._opened()
            file.flush()
            os.fsync(file.fileno())

    def finish(self) -> None:
        with written_to(self._path):
            self._opened().flush()

    def state(self) -> Any:
        return self._opened().tell()

    def restore(self, state: Any) -> None:
        try:
            self._file = file = self._path.open("r+b")
        except OSError as error:
            raise CheckpointError(f"{self._path} was written to before the checkpoint, and now: {error}") from error
        size = file.seek(0, os.SEEK_END)
        if size < state:
            raise CheckpointError(
                f"{self._path} has {size:,} bytes, and had {state:,} at the checkpoint: it has been changed since. "
                "Begin anew with another journal"
            )
        file.truncate(state)
        file.seek(state)

    def close(self) -> None:
        if self._file is not None:
            with suppress(OSError):  # a run that went well has flushed it; of another the reason is known
                self._file.close()
            self._file = None


class ToJsonLines(ToTextFile):
    """One JSON value on each line. Items that JSON cannot hold go where failures go."""

    def bytes_of(self, chunk: list[Any]) -> bytes:
        lines = []
        for item in chunk:
            try:
                lines.append(json.dumps(item, ensure_ascii=False, default=_as_json).encode())
            except (TypeError, ValueError, RecursionError) as error:
                self.failures.failed(self.label, item, error)
        lines.append(b"")
        return b"\n".join(lines)


def _as_json(value: Any) -> Any:
    """numpy's scalars and arrays as numbers and lists."""
    to_list = getattr(value, "tolist", None)
    if to_list is None:
        raise TypeError(f"JSON has no {type(value).__name__}")
    return to_list()


class _Lines(list[bytes]):
    """What csv.writer writes to: it gives each row whole."""

    def write(self, line: str) -> None:
        self.append(line.encode())


class ToCsv(ToTextFile):
    """A header and a row for each item: a mapping, or a list or tuple where `columns` are given.

    Without `columns` they are the first item's keys. An item with other keys goes where failures go.
    """

    def __init__(self, label: str, path: Path, failures: Failures, columns: Iterable[str] | None = None) -> None:
        super().__init__(label, path, failures)
        self._columns = None if columns is None else list(columns)
        self._has_header = False

    def bytes_of(self, chunk: list[Any]) -> bytes:
        lines = _Lines()
        writer = csv.writer(lines, lineterminator="\n")
        for item in chunk:
            try:
                row = self._row(item)
                if not self._has_header:
                    writer.writerow(self._columns or ())
                    self._has_header = True
                writer.writerow(row)
            except (TypeError, ValueError, csv.Error) as error:
                self.failures.failed(self.label, item, error)
        return b"".join(lines)

    def _row(self, item: Any) -> list[Any]:
        if isinstance(item, Mapping):
            if self._columns is None:
                self._columns = [str(key) for key in item]
            if len(item) == len(self._columns) and all(name in item for name in self._columns):
                return [item[name] for name in self._columns]
            raise ValueError(f"its keys are {list(item)}, and the columns are {self._columns}")
        named = getattr(item, "_fields", None)
        if self._columns is None and named is not None:
            self._columns = list(named)
        if not isinstance(item, list | tuple) or self._columns is None:
            raise TypeError(f"a row is a dict, or a list with columns= given, and this is a {type(item).__name__}")
        if len(item) != len(self._columns):
            raise ValueError(f"it has {len(item)} values, and there are {len(self._columns)} columns")
        return list(item)

    def finish(self) -> None:
        if not self._has_header and self._columns:
            header = _Lines()
            csv.writer(header, lineterminator="\n").writerow(self._columns)
            with written_to(self._path):
                self._opened().write(b"".join(header))
        super().finish()

    def state(self) -> Any:
        return [super().state(), self._columns, self._has_header]

    def restore(self, state: Any) -> None:
        at, self._columns, self._has_header = state
        super().restore(at)


class ToParquet(Sink):
    """A Parquet file of items that are mappings, in row groups of `rows`. The first of them decide the columns' types.

    It is complete only when the flow is: it is written beside its place, and moved there at the end.
    """

    def __init__(self, label: str, path: Path, failures: Failures, rows: int) -> None:
        super().__init__(label, failures)
        self._path, self._rows = path, rows
        # A flow may read the file whose place it takes at the end.
        self._beside = self.file = path.with_name(f".{path.name}.{os.getpid()}.part")
        self._arrow = pyarrow(f"writing {path.name}")
        self._waiting: list[Any] = []
        self._columns: frozenset[Any] = frozenset()  # those of the first row
        self._writer: Any = None

    def write(self, chunk: list[Any]) -> None:
        self.taken += len(chunk)
        self._waiting += chunk
        while len(self._waiting) >= self._rows:
            group, self._waiting = self._waiting[: self._rows], self._waiting[self._rows :]
            self._write(group)

    def _write(self, group: list[Any]) -> None:
        from pyarrow import parquet

        table = self._table(group)
        with written_to(self._path):
            if self._writer is None:
                self._writer = parquet.ParquetWriter(self._beside, table.schema)
            self._writer.write_table(table)

    def _table(self, group: list[Any]) -> Any:
        schema = None if self._writer is None else self._writer.schema
        group = self._rows_with_these_columns(group)
        try:
            return self._arrow.Table.from_pylist(group, schema=schema)
        except (self._arrow.ArrowException, TypeError, AttributeError):
            # One of them does not fit: which one is seen by trying each. Without a schema, the first decides.
            schema = schema or self._arrow.Table.from_pylist(group[:1]).schema
            good = [item for item in group if self._fits(item, schema)]
            return self._arrow.Table.from_pylist(good, schema=schema)

    def _rows_with_these_columns(self, group: list[Any]) -> list[Any]:
        """Without the items that are no mappings, or have a column more, which Arrow would drop without a word."""
        good = []
        for item in group:
            if not isinstance(item, Mapping):
                problem = f"a row is a dict, and this is a {type(item).__name__}"
            else:
                self._columns = self._columns or frozenset(item)
                if self._columns.issuperset(item):
                    good.append(item)
                    continue
                problem = f"its keys are {list(item)}, and the columns are {sorted(map(str, self._columns))}"
            self.failures.failed(self.label, item, ValueError(problem))
        return good

    def _fits(self, item: Any, schema: Any) -> bool:
        try:
            self._arrow.Table.from_pylist([item], schema=schema)
        except (self._arrow.ArrowException, TypeError, AttributeError) as error:
            self.failures.failed(self.label, item, error)
            return False
        return True

    def state(self) -> Any:
        raise CheckpointError(
            f"{self._path.name} is complete only at its end, and cannot be gone on with after a crash: "
            "write CSV or JSON lines, or to a database, or run without a checkpoint"
        )

    def finish(self) -> None:
        self._write(self._waiting)
        self._waiting = []
        with written_to(self._path):
            self._writer.close()
            os.replace(self._beside, self._path)
        self._writer = None

    def close(self) -> None:
        if self._writer is not None:
            with suppress(OSError):  # why it was not finished is known
                self._writer.close()
            self._writer = None
            self._beside.unlink(missing_ok=True)
