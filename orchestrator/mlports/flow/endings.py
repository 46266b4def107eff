"""The ends of flows, by where the items go."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mlports.core.flow import FAR, Demand
from mlports.flow.concurrent_stages import Concurrent
from mlports.flow.places import name_of
from mlports.flow.plan import Assembly, End
from mlports.flow.sinks import Sink, ToCsv, ToFunction, ToJsonLines, ToParquet, ToService

_Path = str | os.PathLike[str]


def jsonl(path: _Path) -> End:
    place = Path(path)
    return End(f"to_jsonl({place.name})", lambda parts, name: ToJsonLines(name, place, parts.setting.failures))


def csv(path: _Path, columns: Sequence[str] | None) -> End:
    place = Path(path)
    return End(f"to_csv({place.name})", lambda parts, name: ToCsv(name, place, parts.setting.failures, columns))


def parquet(path: _Path, row_group: int) -> End:
    place = Path(path)
    return End(
        f"to_parquet({place.name})", lambda parts, name: ToParquet(name, place, parts.setting.failures, row_group)
    )


def function(f: Callable[[Any], object]) -> End:
    return End(f"to({name_of(f)})", lambda parts, name: ToFunction(name, f, parts.setting.failures))


def sql(url: str, table: str, key: Sequence[str] | str | None) -> End:
    keys = [key] if isinstance(key, str) else list(key or ())

    def make(parts: Assembly, name: str) -> Sink:
        from mlports.flow.tables import ToSql

        return ToSql(name, url, table, keys, parts.setting.failures)

    return End(f"to_sql({table})", make)


def service(target: str, batch: int, in_flight: int) -> End:
    def make(parts: Assembly, name: str) -> Sink:
        setting = parts.setting
        stage = Concurrent(
            name,
            setting.mapper(target, in_flight, ...),
            setting.failures,
            setting.stopped,
            lanes=in_flight,
            demand=Demand(batch * in_flight),
            quick=FAR,
        )
        return ToService(name, stage, setting.failures)

    return End(f"to_service({target})", make)
