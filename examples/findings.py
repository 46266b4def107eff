"""What an example found, for a program to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def keep(found: dict[str, Any], folder: Path) -> bool:
    """Writes it to findings.json in the folder, which is made if it is not there; or prints why that cannot be.

    Returns whether it is written.
    """
    path = folder / "findings.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(found, indent=1))
    except OSError as error:
        print(f"no findings: {path} cannot be written: {error.strerror}")
        return False
    return True
