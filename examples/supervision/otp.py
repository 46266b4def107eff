"""OTP's own supervisor beside ours, where Erlang is installed."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from types import TracebackType

_PROGRAM = Path(__file__).with_name("otp.escript")


def escript() -> str | None:
    """The program that runs it, None where there is none."""
    return shutil.which("escript")


class Otp:
    """A supervisor of OTP's with the same child, killed whenever `kill` is called."""

    def __init__(self, escript: str) -> None:
        self._escript = escript

    async def __aenter__(self) -> Otp:
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(self._escript, _PROGRAM, stdin=pipe, stdout=pipe)
        return self

    async def kill(self) -> str:
        """Kills the child; "life N" when it has its next life, "ended REASON" when the supervisor has given up."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(b"kill\n")
        return (await self._process.stdout.readline()).decode().strip()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
