"""A Dask actor."""

from __future__ import annotations

import importlib
import logging
import os
import tempfile
import time
from typing import Any, ClassVar

from benchmarks.contenders.contender import (
    ONE,
    Modes,
    Sample,
    Unavailable,
    check_echo,
    in_flight,
    is_single,
    make_payload,
    time_each,
)


class Echo:
    def echo(self, value: Any) -> Any:
        return value


class DaskActor:
    """One actor on a local cluster of one single-threaded process. Many in flight: N submitted, then N collected."""

    name: ClassVar[str] = "dask"
    title: ClassVar[str] = "Dask actor"
    distribution: ClassVar[str | None] = "distributed"
    modes: ClassVar[Modes] = {
        "64 B": (ONE, "64", "256"),
        "64 KiB": (ONE, "64", "256"),
        "8 MiB": (ONE,),
        "8 MiB array": (ONE,),
    }

    def open(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="dask-", ignore_cleanup_errors=True)
        # Read when Dask is imported, and needed besides local_directory: some of its processes see this one alone.
        os.environ["DASK_TEMPORARY_DIRECTORY"] = self._folder.name
        try:
            distributed = importlib.import_module("distributed")
        except ImportError as error:
            raise Unavailable("dask[distributed] is not installed") from error
        self._cluster = distributed.LocalCluster(
            n_workers=1,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
            silence_logs=logging.ERROR,
            local_directory=self._folder.name,
        )
        self._client = distributed.Client(self._cluster)
        self._actor = self._client.submit(Echo, actor=True).result()

    def close(self) -> None:
        self._client.close()
        self._cluster.close()
        self._folder.cleanup()

    def run(self, payload: str, mode: str, calls: int) -> Sample:
        echo, value = self._actor.echo, make_payload(payload)
        check_echo(value, echo(value).result())
        if is_single(mode):
            return time_each(lambda: echo(value).result(), calls)
        window = in_flight(mode)
        windows = max(1, calls // window)
        start = time.perf_counter()
        for _ in range(windows):
            for future in [echo(value) for _ in range(window)]:
                future.result()
        return Sample(windows * window, time.perf_counter() - start)
