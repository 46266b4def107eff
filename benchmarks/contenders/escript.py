"""An Erlang script as a child, which is spoken with by lines."""

from __future__ import annotations

import shutil
import subprocess

from benchmarks.contenders.contender import HERE, Unavailable


class Escript:
    """A script of this folder's that has said its first line. Raises `Unavailable` where there is no Erlang."""

    def __init__(self, script: str, *arguments: str) -> None:
        escript = shutil.which("escript")
        if escript is None:
            raise Unavailable("escript (Erlang) is not on the PATH")
        self._process = subprocess.Popen(
            [escript, str(HERE / script), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.answer()

    def say(self, line: str) -> None:
        """Sends a line."""
        assert self._process.stdin
        self._process.stdin.write(line + "\n")

    def answer(self) -> str:
        """The next line that it says. Raises `RuntimeError` if it has ended."""
        assert self._process.stdout
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the escript ended with status {self._process.wait()}; its stderr says why")
        return line

    def close(self) -> None:
        """Ends it, and waits for that."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()
