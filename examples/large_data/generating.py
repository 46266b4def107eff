"""Sales of a thousand stores, simulated: a CSV file of any size, the same for the same seed."""

from __future__ import annotations

import errno
import io
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import csv

from mlports.flow import Flow

HEADER = b"time,store,items,amount\n"
STORES = pyarrow.array([f"store-{number:04}" for number in range(1000)])
ROWS = 100_000  # of a block
BEGIN = 1_767_225_600  # seconds since 1970: the first sale
SALES = 8  # of a second


def generate(path: Path, size: int, seed: int = 1) -> None:
    """Writes at least `size` bytes. Raises `SystemExit` with a sentence where the disk cannot take them."""
    try:
        if (free := shutil.disk_usage(path.parent).free) < size * 1.05:
            raise SystemExit(f"{path.parent} has {free >> 20:,} MiB free, and the file takes {size >> 20:,}: say --dir")
        with path.open("wb") as file:
            file.write(HEADER)
            blocks = -(-size // len(block_of(0, seed)))
            make = partial(block_of, seed=seed)
            # numpy and pyarrow work outside of the interpreter's lock, so threads are enough.
            for text in Flow.from_iterable(range(blocks)).map(make, on="threads", workers=2, max_demand=4):
                file.write(text)
    except OSError as error:
        path.unlink(missing_ok=True)
        reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror
        raise SystemExit(
            f"{path} could not be written, and is gone again: {reason}. Say --dir or a smaller size"
        ) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def block_of(number: int, seed: int) -> bytes:
    """Lines of so many sales: time, store, items, amount. Some stores sell more than others, and dearer things."""
    random = np.random.default_rng([seed, number])
    store = (1000 * random.beta(1.2, 2.0, ROWS)).astype(np.int32)
    amount = np.round((5 + store / 100) * random.standard_exponential(ROWS, dtype=np.float32).astype(np.float64), 2)
    batch = pyarrow.record_batch(
        {
            "time": BEGIN + np.arange(number * ROWS, (number + 1) * ROWS) // SALES,
            "store": STORES.take(pyarrow.array(store)),
            "items": random.integers(1, 9, ROWS, dtype=np.int8),
            "amount": amount,
        }
    )
    text = io.BytesIO()
    csv.write_csv(batch, text, csv.WriteOptions(include_header=False, quoting_style="none"))
    return text.getvalue()
