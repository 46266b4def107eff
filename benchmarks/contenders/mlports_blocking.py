"""mlports through its blocking API."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar

from benchmarks.contenders.contender import (
    ECHO_WORKER,
    ONE,
    PLACEMENTS,
    Modes,
    Sample,
    Unavailable,
    check_echo,
    in_flight,
    is_single,
    make_payload,
    time_each,
)


class MlportsBlocking:
    """`mlports.open`. Many in flight are as many threads, which is how blocking programs have them."""

    name: ClassVar[str] = "mlports-blocking"
    title: ClassVar[str] = "mlports, blocking"
    distribution: ClassVar[str | None] = "mlports"
    modes: ClassVar[Modes] = {"64 B": (*PLACEMENTS, "threads-64"), "64 KiB": (ONE, "threads-64"), "8 MiB": (ONE,)}

    def open(self) -> None:
        try:
            import mlports
        except ImportError as error:
            raise Unavailable(f"mlports cannot be imported: {error}") from error
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlports-bench-")))
            config = folder / "mlports.toml"
            # A JSON list of strings is a TOML one as well.
            config.write_text(f"[service.echo]\ncommand = {json.dumps([sys.executable, str(ECHO_WORKER)])}\n")
            self._orchestrator = stack.enter_context(mlports.open(str(config)))
            self._stack = stack.pop_all()

    def close(self) -> None:
        self._stack.close()

    def run(self, payload: str, mode: str, calls: int) -> Sample:
        call = self._orchestrator.call
        value = make_payload(payload)
        check_echo(value, call("echo.echo", value))
        if is_single(mode):
            return time_each(lambda: call("echo.echo", value), calls)
        threads = in_flight(mode)
        each = max(1, calls // threads)

        def client() -> None:
            for _ in range(each):
                call("echo.echo", value)

        with ThreadPoolExecutor(threads) as pool:
            start = time.perf_counter()
            for future in [pool.submit(client) for _ in range(threads)]:
                future.result()
            return Sample(each * threads, time.perf_counter() - start)
