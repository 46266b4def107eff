"""The example large_data: a file grouped by a flow under its limit of memory, and by pandas in chunks."""

from __future__ import annotations

import tempfile
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.contenders.contender import Unavailable
from benchmarks.recovery.subject import Figures


class LargeFile:
    """`run(1)` gives "over", the flow's speed over that of pandas, and "mib", the most memory that the flow had.

    `run(0)` gives nothing: each run has processes of its own, so there is nothing to warm up.
    """

    name: ClassVar[str] = "flow-large-file"
    title: ClassVar[str] = "flow, a large CSV file"
    mib: ClassVar[int] = 64

    def open(self) -> None:
        if missing := [name for name in ("numpy", "pyarrow", "pandas") if find_spec(name) is None]:
            raise Unavailable(f"{' and '.join(missing)} missing: pip install 'mlports[examples]'")
        from examples.large_data.__main__ import LIMIT, run
        from examples.large_data.generating import generate

        self._run, self._limit = run, LIMIT
        self._folder = tempfile.TemporaryDirectory(prefix="mlports-bench-")
        self._path = Path(self._folder.name, "sales.csv")
        try:
            generate(self._path, self.mib * 2**20)
        except SystemExit as reason:
            self.close()
            raise Unavailable(str(reason)) from reason

    def close(self) -> None:
        self._folder.cleanup()

    def run(self, *request: Any) -> Figures:
        if not request[0]:
            return {}
        try:
            flow, pandas = self._run("flow", self._path, self._limit), self._run("pandas", self._path)
        except SystemExit as reason:
            raise RuntimeError(str(reason)) from reason
        return {"over": [flow.speed / pandas.speed], "mib": [flow.peak_mib]}
