"""The services that there are here, and real data to call them with."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mlports import Config, load_config

from ..equipment_monitor.shuttle import shuttle
from ..market_analyzer.bars import stocks
from ..packaged_data import packaged

CONFIG = Path(__file__).with_name("mlports.toml")
SVC, BAYES = "digits-svc", "digits-bayes"

_BAYES_PROGRAM = Path(__file__).resolve().parents[2] / "workers" / "ruby" / "examples" / "bayes.rb"
_LEARNED = 1200


class Data(NamedTuple):
    """Digits (n × 64) and what they are, to learn from and held out; a shuttle's readings (n × 9); a stock's bars."""

    images: Any
    labels: Any
    new_images: Any
    new_labels: Any
    readings: Any
    bars: Any


def data() -> Data:
    """All of it. Raises `SystemExit`, saying what to install, where a package is missing."""
    images, labels = digits()
    split = images[:_LEARNED], labels[:_LEARNED], images[_LEARNED:], labels[_LEARNED:]
    return Data(*split, shuttle()[0], stocks()["AAPL"])


def digits() -> tuple[Any, Any]:
    """Handwritten digits (1,797 × 64) and what they are, from the package scikit-learn, which is not imported.

    Raises `SystemExit`, saying what to install, where it is missing.
    """
    with gzip.open(packaged("sklearn", "datasets", "data", "digits.csv.gz", what="handwritten digits"), "rt") as file:
        table = np.loadtxt(file, delimiter=",")
    return table[:, :-1], table[:, -1].astype(int)


def configure(known: Data, folder: Path) -> Config:
    """mlports.toml, with what the services keep in `folder`.

    The one in Ruby is left out where there is no Ruby, or its program is missing.
    """
    config = load_config(CONFIG)
    services = dict(config.service)
    if shutil.which("ruby") is None or not _BAYES_PROGRAM.is_file():  # a wheel does not have it
        del services[BAYES]
    rows = folder / "digits.csv"
    np.savetxt(rows, np.column_stack([known.images, known.labels]), fmt="%d", delimiter=",")
    for name in services.keys() & {SVC, BAYES}:
        services[name].config["data"] = str(rows)
    services["market"].config["snapshot"] = {"dir": str(folder / "market"), "every": 1}
    return config.model_copy(update={"service": services})
