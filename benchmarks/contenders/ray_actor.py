"""A Ray actor."""

from __future__ import annotations

import importlib
import logging
import os
import tempfile
import time
from typing import Any, ClassVar

from benchmarks.contenders.contender import (
    MIB,
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

    def pid(self) -> int:
        return os.getpid()


class RayActor:
    """One actor. Many in flight: N submitted, then one `ray.get` for all, which Ray's own guide recommends."""

    name: ClassVar[str] = "ray"
    title: ClassVar[str] = "Ray actor"
    distribution: ClassVar[str | None] = "ray"
    modes: ClassVar[Modes] = {
        "64 B": (ONE, "64", "256"),
        "64 KiB": (ONE, "64", "256"),
        "8 MiB": (ONE,),
        "8 MiB array": (ONE,),
        "64 MiB array": (ONE,),
    }

    def open(self, **options: Any) -> None:
        """`options` are the actor's, besides its processor."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        try:
            self.ray = importlib.import_module("ray")
        except ImportError as error:
            raise Unavailable("ray is not installed") from error
        self._folder = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
        self.ray.init(
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            object_store_memory=512 * MIB,
            _temp_dir=self._folder.name,
        )
        self.actor = self.ray.remote(Echo).options(num_cpus=1, **options).remote()

    def close(self) -> None:
        self.ray.shutdown()
        self._folder.cleanup()

    def run(self, payload: str, mode: str, calls: int) -> Sample:
        get, submit, value = self.ray.get, self.actor.echo.remote, make_payload(payload)
        check_echo(value, get(submit(value)))
        if is_single(mode):
            return time_each(lambda: get(submit(value)), calls)
        window = in_flight(mode)
        windows = max(1, calls // window)
        start = time.perf_counter()
        for _ in range(windows):
            get([submit(value) for _ in range(window)])
        return Sample(windows * window, time.perf_counter() - start)
