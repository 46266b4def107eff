"""Rows into a table of a database, through SQLAlchemy (the extra `sql`)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from mlports.flow.checkpoints import decoded, encoded
from mlports.flow.errors import FlowError, needs_extra
from mlports.flow.failures import Failures
from mlports.flow.sinks import Sink

if TYPE_CHECKING:
    from sqlalchemy import Connection, Table

_RECORDS = "mlports_flow_checkpoints"


class ToSql(Sink):
    """Inserts mappings as rows. Without a checkpoint each chunk is a transaction of its own.

    With one, a transaction lasts from checkpoint to checkpoint, and holds the checkpoint's record too: either all of it
    is there after a crash, or nothing.
    """

    def __init__(self, label: str, url: str, table: str, key: list[str], failures: Failures) -> None:
        super().__init__(label, failures)
        try:
            import sqlalchemy
        except ImportError as error:
            raise needs_extra("SQLAlchemy", "sql", label) from error
        self._sql = sqlalchemy
        self._name, self._key = table, key
        self._table: Table | None = None
        self._insert: Any = None
        self._run_id: str | None = None
        try:
            self._engine = sqlalchemy.create_engine(url)
            if self._engine.dialect.name == "sqlite":
                _begin_ourselves(sqlalchemy, self._engine)
            self._connection: Connection = self._engine.connect()
        except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
            # The URL may hold a password.
            raise FlowError(f"{label}: no connection to the database: {error}") from error

    # -- rows

    def write(self, chunk: list[Any]) -> None:
        self.taken += len(chunk)
        rows = [row for row in chunk if self._is_row(row)]
        if rows:
            self._insert_all(rows)
        if self._run_id is None:
            self._commit()

    def _commit(self) -> None:
        try:
            self._connection.commit()
        except (self._sql.exc.OperationalError, self._sql.exc.InterfaceError) as error:
            raise self._down(error) from error

    def _down(self, error: Any) -> FlowError:
        return FlowError(f"{self.label}: the database does not take rows any more: {error.orig}")

    def _is_row(self, item: Any) -> bool:
        if isinstance(item, Mapping) and item:
            known = self._columns_for(item)
            if known.issuperset(item):
                return True
            unknown = next(name for name in item if name not in known)
            problem = ValueError(f"the table {self._name} has no column {unknown!r}")
        else:
            problem = ValueError(f"a row is a dict of its columns, and this is a {type(item).__name__}")
        self.failures.failed(self.label, item, problem)
        return False

    def _insert_all(self, rows: list[Any]) -> None:
        if len({frozenset(row) for row in rows}) == 1:
            try:
                self._execute(rows)
                return
            except (self._sql.exc.SQLAlchemyError, ArithmeticError, TypeError, ValueError):
                pass  # one of them is at fault: which one is seen by trying each
        self._each(rows)

    def _each(self, rows: list[Any]) -> None:
        for row in rows:
            try:
                self._execute([row])
            except (self._sql.exc.SQLAlchemyError, ArithmeticError, TypeError, ValueError) as error:
                self.failures.failed(self.label, row, error)

    def _execute(self, rows: list[Any]) -> None:
        try:
            with self._connection.begin_nested():
                self._connection.execute(self._statement(rows[0]), rows)
        except (self._sql.exc.OperationalError, self._sql.exc.InterfaceError) as error:
            # Not the row's fault: the next one would fail as well.
            raise self._down(error) from error

    def _statement(self, row: Mapping[str, Any]) -> Any:
        if not self._key:
            return self._sql.insert(self._found)
        dialect = self._engine.dialect.name
        if dialect == "sqlite":
            from sqlalchemy.dialects.sqlite import insert
        elif dialect == "postgresql":
            from sqlalchemy.dialects.postgresql import insert  # type: ignore[assignment]
        else:
            raise FlowError(f"{self.label}: key= is for SQLite and PostgreSQL, and this is {dialect}")
        statement = insert(self._found)
        others = {name: statement.excluded[name] for name in row if name not in self._key}
        if not others:
            return statement.on_conflict_do_nothing(index_elements=self._key)
        return statement.on_conflict_do_update(index_elements=self._key, set_=others)

    @property
    def _found(self) -> Table:
        assert self._table is not None
        return self._table

    # -- the table

    def _columns_for(self, item: Mapping[str, Any]) -> set[str]:
        if self._table is None:
            try:
                found = self._look_up()
                self._table = self._create(item) if found is None else found
            except self._sql.exc.SQLAlchemyError as error:
                reason = getattr(error, "orig", error)
                raise FlowError(f"{self.label}: the table can be neither found nor made: {reason}") from error
        return set(self._table.columns.keys())

    def _look_up(self) -> Table | None:
        if not self._sql.inspect(self._connection).has_table(self._name):
            return None
        return self._sql.Table(self._name, self._sql.MetaData(), autoload_with=self._connection)

    def _create(self, item: Mapping[str, Any]) -> Table:
        sql = self._sql
        if missing := [name for name in self._key if name not in item]:
            raise FlowError(f"{self.label}: its key {missing[0]!r} is none of the item's columns: {', '.join(item)}")
        types: dict[type, Any] = {
            bool: sql.Boolean,
            int: sql.BigInteger,
            float: sql.Double,
            bytes: sql.LargeBinary,
            datetime: sql.DateTime(timezone=True),
            date: sql.Date,
            Decimal: sql.Numeric,
            list: sql.JSON,
            dict: sql.JSON,
        }
        columns = [
            sql.Column(name, types.get(type(value), sql.Text), primary_key=name in self._key, autoincrement=False)
            for name, value in item.items()
        ]
        table: Table = sql.Table(self._name, sql.MetaData(), *columns)
        table.create(self._connection)
        return table

    # -- the checkpoint that is kept beside the rows

    def begin(self, run_id: str) -> dict[str, Any] | None:
        """The record of the last checkpoint of this run, None when there is none."""
        sql = self._sql
        self._run_id = run_id
        self._records = sql.Table(
            _RECORDS,
            sql.MetaData(),
            sql.Column("id", sql.String(36), primary_key=True),
            sql.Column("record", sql.Text, nullable=False),
        )
        self._records.create(self._connection, checkfirst=True)
        found = self._connection.execute(sql.select(self._records.c.record).filter_by(id=run_id)).scalar()
        self._connection.commit()
        return None if found is None else decoded(found)

    def keep(self, record: dict[str, Any]) -> None:
        """Commits what was written since the last time, and the record with it."""
        records, text = self._records, encoded(record)
        changed = self._connection.execute(records.update().filter_by(id=self._run_id).values(record=text))
        if not changed.rowcount:
            self._connection.execute(records.insert().values(id=self._run_id, record=text))
        self._commit()

    def close(self) -> None:
        self._connection.close()
        self._engine.dispose()


def _begin_ourselves(sqlalchemy: Any, engine: Any) -> None:
    """Has SQLite's driver leave transactions alone, which would else begin them too late for savepoints."""

    @sqlalchemy.event.listens_for(engine, "connect")  # type: ignore[untyped-decorator]
    def connected(connection: Any, record: Any) -> None:
        connection.isolation_level = None

    @sqlalchemy.event.listens_for(engine, "begin")  # type: ignore[untyped-decorator]
    def begun(connection: Any) -> None:
        connection.exec_driver_sql("BEGIN")
