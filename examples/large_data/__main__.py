"""Groups and sums a CSV file many times larger than the memory that the flow may have, beside pandas and Polars.

python -m examples.large_data
python -m examples.large_data --gib 4 --dir /var/tmp      # the real thing; takes some minutes
python -m examples.large_data --file sales.csv            # one of your own, with columns `store` and `amount`
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from ..options import positive, whole
from .generating import generate
from .ways import CHUNK

LIMIT = 256  # MiB
CSV_MIB = 32  # of the file are enough to see how fast the loop is
ROOT = Path(__file__).resolve().parents[2]
NO_MEMORY = ("MemoryError", "Out of memory", "bad_alloc", "failed to map segment", "launch worker thread")
"""How Python, Arrow, C++ and the loader of libraries say that there is none."""


class Way(NamedTuple):
    """What one way of asking said, and cost. `mib`: how much of the file it read."""

    mib: float
    seconds: float
    peak_mib: float
    stores: dict[str, list[float]]

    @property
    def speed(self) -> float:
        """MiB a second."""
        return self.mib / self.seconds


def run(way: str, path: Path, limit: int | None = None) -> Way:
    """Asks in a process of its own, under `limit` MiB. Raises `SystemExit` with what it says when it fails."""
    command = [sys.executable, "-m", f"{__package__}.ways", way, str(path.absolute()), *([str(limit)] if limit else [])]
    # Allocators that take address space in advance would take it from the limit; numpy's threads have stacks.
    quiet = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment = {**os.environ, **(quiet if way == "flow" else {})}
    # In a session of its own, Ctrl-C is for this process alone, which then ends it.
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, start_new_session=True)
    if limit and any(word in done.stderr for word in NO_MEMORY):
        raise SystemExit(f"{way} needs more than the {limit} MiB that it was given: say --limit")
    if done.returncode != 0:
        raise SystemExit(f"{way}: {(done.stderr.strip().splitlines() or ['it was killed'])[-1]}")
    told: dict[str, Any] = json.loads(done.stdout)
    return Way(path.stat().st_size / 2**20, told["seconds"], told["peak_mib"], told["stores"])


def agree(one: dict[str, list[float]], other: dict[str, list[float]]) -> bool:
    """Whether counts and greatest are equal, and sums and means are but for the order in which they were added."""
    return one.keys() == other.keys() and all(
        (a[0], a[3]) == (b[0], b[3])
        and math.isclose(a[1], b[1], rel_tol=1e-9)
        and math.isclose(a[2], b[2], rel_tol=1e-9)
        for a, b in ((one[store], other[store]) for store in one)
    )


def compare(path: Path, part: Path, limit: int) -> dict[str, Way]:
    """All ways that are installed, one after the other; of `csv` only the `part`."""
    found = {"flow": run("flow", path, limit)}
    show(f"flow, at most {limit} MiB", found["flow"])
    for name, title in (("pandas", f"pandas, in chunks of {CHUNK:,} rows"), ("polars", "Polars, streaming")):
        if find_spec(name) is None:
            print(f"{title:<36} left out: pip install {name}")
            continue
        found[name] = run(name, path)
        show(title, found[name])
    found["csv"] = run("csv", part)
    show(f"loop over the module csv, {found['csv'].mib:,.0f} MiB of it", found["csv"])
    return found


def show(title: str, way: Way) -> None:
    print(f"{title:<40} {way.seconds:8.2f} s {way.speed:6.0f} MiB/s   at most {way.peak_mib:5.0f} MiB", flush=True)


def held(found: dict[str, Way], limit: int) -> bool:
    """Says what came out; whether the flow kept to its memory and said what the others say."""
    flow = found["flow"]
    others = [name for name in ("pandas", "polars") if name in found]
    same = [name for name in others if agree(flow.stores, found[name].stores)]
    for name in others:
        word = "the same" if name in same else "NOT the same"
        ratio = flow.speed / found[name].speed
        print(f"{name}: {word} {len(flow.stores):,} stores; the flow's speed over its: {ratio:.2f}")
    print(f"over the loop's: {flow.speed / found['csv'].speed:.1f}")
    best = max(flow.stores, key=lambda store: flow.stores[store][1])
    count, total, mean, greatest = flow.stores[best]
    print(
        f"most was sold by {best}: {total:,.2f} in {count:,.0f} sales, {mean:.2f} on average, at most {greatest:,.2f}"
    )
    print(f"the file is {flow.mib / flow.peak_mib:,.1f} times as large as the most memory that the flow had")
    return same == others and flow.peak_mib <= limit


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m examples.large_data", description=__doc__)
    parser.add_argument("--mib", type=positive, default=64, help="how large the file is (64)")
    parser.add_argument("--gib", type=positive, help="the same in GiB")
    parser.add_argument("--limit", type=whole(1, 2**20), default=LIMIT, help=f"MiB that the flow may have ({LIMIT})")
    parser.add_argument("--dir", type=Path, help="where the file is written, and removed again (a temporary folder)")
    parser.add_argument("--file", type=Path, help="a file that is there already, and stays")
    parser.add_argument("--seed", type=whole(0), default=1, help="another one gives other sales (1)")
    options = parser.parse_args()
    size = int((options.gib * 1024 if options.gib else options.mib) * 2**20)
    if options.dir and not options.dir.is_dir():
        parser.error(f"{options.dir} is no folder: make it first")
    with nullcontext(options.dir) if options.file else tempfile.TemporaryDirectory(dir=options.dir) as folder:
        path, part = (options.file, options.file) if options.file else written(Path(folder), size, options.seed)
        ok = held(compare(path, part, options.limit), options.limit)
    if not ok:
        sys.exit("the flow had more memory than it should, or said something else than the others")


def written(folder: Path, size: int, seed: int) -> tuple[Path, Path]:
    """The file, and its beginning as another one."""
    paths = folder / "sales.csv", folder / "first-sales.csv"
    generate(paths[0], size, seed)
    generate(paths[1], min(size, CSV_MIB * 2**20), seed)
    print(f"simulated sales of a thousand stores: {paths[0].stat().st_size / 2**20:,.0f} MiB of CSV")
    return paths


if __name__ == "__main__":
    main()
