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
    """A supervisor of OTP's with the same child, killed whenever `kill` is called.

    `deaths` are the whole seconds of each, since the first; `did` is what came of it: "life N", the child's next one,
    or "ended REASON" when the supervisor has given up.
    """

    def __init__(self, escript: str) -> None:
        self.deaths: list[int] = []
        self.did: list[str] = []
        self._escript = escript
        self._first = 0

    @property
    def ended(self) -> bool:
        """Whether the supervisor has given up."""
        return bool(self.did) and self.did[-1].startswith("ended")

    async def __aenter__(self) -> Otp:
        pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
        # In a session of its own, because Ctrl-C would make the virtual machine ask what to do.
        self._process = await asyncio.create_subprocess_exec(
            self._escript, _PROGRAM, stdin=pipe, stdout=pipe, stderr=nothing, start_new_session=True
        )
        try:
            await self._line()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def kill(self) -> None:
        """Kills the child, unless the supervisor has given up before."""
        if self.ended:
            return
        assert self._process.stdin
        self._process.stdin.write(b"kill\n")
        seconds, _, did = (await self._line()).partition(" ")
        self._first = self._first if self.did else int(seconds)
        self.deaths.append(int(seconds) - self._first)
        self.did.append(did)

    async def _line(self) -> str:
        assert self._process.stdout
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._escript} {_PROGRAM.name} ended: is Erlang installed whole?")
        return line.decode().strip()

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
