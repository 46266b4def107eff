"""The same question asked in several ways, each in a process of its own: what did each store sell?

    python -m examples.large_data.ways WAY FILE [LIMIT]

prints as JSON `seconds` (without imports; see `run_quickest()`), `peak_mib` (the most resident memory), and `stores`:
for each its number of sales, their sum, mean and greatest amount. LIMIT is in MiB; see `limit()`.
"""

from __future__ import annotations

import csv
import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

Stores = dict[str, list[float]]
"""By store: [count, sum, greatest]."""

CHUNK = 100_000  # rows, for pandas
SHORT = 3.0  # seconds: what takes less is done again


def limit(mib: int) -> None:
    """Has this process fail where it would have more memory of its own that it can write to (`RLIMIT_DATA`).

    That is heap, stacks and private mappings, used or not; the code of libraries and mapped files are not in it.
    """
    resource.setrlimit(resource.RLIMIT_DATA, (mib << 20, mib << 20))


# -- the flow


def stores_of(batch: Any) -> list[Any]:
    """What one batch says: [stores, counts, sums, greatest]."""
    if batch.column("amount").null_count:
        batch = batch.filter(batch.column("amount").is_valid())
    store, amount = batch.column("store"), batch.column("amount").to_numpy()
    place, stores = store.indices.to_numpy(), len(store.dictionary)
    greatest = np.full(stores, -np.inf)
    np.maximum.at(greatest, place, amount)
    counts, sums = np.bincount(place, minlength=stores), np.bincount(place, amount, minlength=stores)
    return [store.dictionary.to_pylist(), counts.tolist(), sums.tolist(), greatest.tolist()]


def added(stores: Stores, columns: list[Any]) -> Stores:
    """All of them, with those of one more batch."""
    for name, count, total, greatest in zip(*columns, strict=True):
        if name not in stores:
            stores[name] = [0, 0.0, float("-inf")]
        store = stores[name]
        store[0] += count
        store[1] += total
        store[2] = max(store[2], greatest)
    return stores


def by_flow(path: Path) -> Callable[[], Stores]:
    from mlports.flow import Flow

    batches = Flow.from_file(
        path, batches=True, columns=["store", "amount"], types={"store": "dictionary", "amount": "double"}
    )
    # While this thread reads a batch, another one counts: both of it outside of the interpreter's lock.
    flow = batches.map(stores_of, on="threads", workers=1).reduce(dict, added)
    import pyarrow.csv  # noqa: F401 - so that it is no part of the time

    return lambda: dict(flow.collect()[0])


# -- and the others


def by_pandas(path: Path) -> Callable[[], Stores]:
    import pandas as pd

    def run() -> Stores:
        parts = [
            chunk.groupby("store")["amount"].agg(["count", "sum", "max"])
            for chunk in pd.read_csv(path, usecols=["store", "amount"], chunksize=CHUNK)
        ]
        whole = pd.concat(parts).groupby(level=0).agg({"count": "sum", "sum": "sum", "max": "max"})
        return {str(store): list(row) for store, row in zip(whole.index, whole.to_numpy().tolist(), strict=True)}

    return run


def by_polars(path: Path) -> Callable[[], Stores]:
    import polars as pl

    amount = pl.col("amount")
    aggregates = [amount.count().alias("count"), amount.sum().alias("sum"), amount.max().alias("max")]
    lazy = pl.scan_csv(path).group_by("store").agg(aggregates)
    return lambda: {row[0]: list(row[1:]) for row in lazy.collect(engine="streaming").rows()}


def by_csv(path: Path) -> Callable[[], Stores]:
    def run() -> Stores:
        stores: Stores = {}
        with path.open(newline="") as file:
            rows = csv.reader(file)
            header = next(rows)
            name, amount = header.index("store"), header.index("amount")
            for row in rows:
                value = float(row[amount])
                if (store := stores.get(row[name])) is None:
                    store = stores[row[name]] = [0, 0.0, float("-inf")]
                store[0] += 1
                store[1] += value
                if value > store[2]:
                    store[2] = value
        return stores

    return run


WAYS: dict[str, Callable[[Path], Callable[[], Stores]]] = {
    "flow": by_flow,
    "pandas": by_pandas,
    "polars": by_polars,
    "csv": by_csv,
}


def peak_mib() -> float:
    """The most resident memory that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():  # what getrusage says may be that of the process before it became this program
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def run_quickest(run: Callable[[], Stores]) -> tuple[Stores, float]:
    """What it gives, and its seconds; where it is a matter of seconds, those of the quickest of three."""
    times: list[float] = []
    while not times or (len(times) < 3 and sum(times) < SHORT):
        began = time.perf_counter()
        stores = run()
        times.append(time.perf_counter() - began)
    return stores, min(times)


def main(way: str, path: Path, mib: int | None = None) -> None:
    from mlports.flow import FlowError

    if mib is not None:
        limit(mib)
    try:
        run = WAYS[way](path)
        stores, seconds = run_quickest(run)
    except (FlowError, OSError) as error:
        sys.exit(str(error))
    told = {name: [count, total, total / count, greatest] for name, (count, total, greatest) in stores.items()}
    print(json.dumps({"seconds": seconds, "peak_mib": peak_mib(), "stores": told}))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
