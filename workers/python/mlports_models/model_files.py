"""Models on disk: written whole or not at all, read only if they hold nothing that could run code of a stranger's."""

from __future__ import annotations

import errno
import os
import sys
import warnings
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sklearn.base import BaseEstimator

from mlports_worker import Failure

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FORBIDDEN = {errno.EACCES, errno.EPERM, errno.EROFS}


class ModelFolder:
    """The folder that models are saved to and loaded from.

    `trusted` are the names of types that a file may hold besides those that skops trusts; `log(level, text)` takes
    what the operator should know of a file.
    """

    def __init__(self, folder: str | Path, trusted: Sequence[str], log: Callable[..., None]) -> None:
        self.folder = Path(folder).resolve()
        self._trusted = list(trusted)
        self._log = log

    def confined(self, path: Any) -> Path:
        """A caller's path, symbolic links followed. Raises `Failure` if it leads out of the folder."""
        if not isinstance(path, str) or not path or "\0" in path:
            raise Failure("invalid_argument", f"path is a text such as 'digits.skops', not {path!r:.80}")
        try:
            full = (self.folder / path).resolve()
        except (OSError, RuntimeError) as error:
            raise Failure("invalid_argument", f"path {path!r:.200} cannot be followed: {error}") from error
        if full == self.folder or not full.is_relative_to(self.folder):
            raise Failure(
                "permission_denied",
                f"{path!r:.200} is not inside {self.folder}, and models stay there. Name a file in it, or have the "
                "service's config set another models_dir",
            )
        return full

    def save(self, estimator: Any, path: Any) -> dict[str, Any]:
        """Writes an estimator to a file, in place of the one there was; see `estimator.save`. Raises `Failure`."""
        self.confined(path)
        io = _skops_io()
        try:
            data = io.dumps(estimator)
        except Exception as error:
            name = type(estimator).__name__
            raise Failure("unimplemented", f"skops cannot save this {name}: {error}") from error
        target = self.write(path, data)
        unknown = io.get_untrusted_types(data=data)
        return {"path": str(target.relative_to(self.folder)), "bytes": len(data), "trusted": unknown}

    def write(self, path: Any, data: bytes) -> Path:
        """Writes a file in the folder, in place of the one there was, and gives its full path. Raises `Failure`."""
        target = self.confined(path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(target, data)
        except OSError as error:
            raise _not_written(target, len(data), error) from error
        return target

    def load(self, path: Path) -> Any:
        """The estimator in a file. Raises `Failure` if there is none, or one that is not to be trusted."""
        io = _skops_io()
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            there = ", ".join(sorted(file.name for file in path.parent.glob("*.skops"))[:20]) or "none"
            raise Failure("not_found", f"there is no file {path}; models beside it: {there}") from None
        except OSError as error:
            code = "permission_denied" if error.errno in _FORBIDDEN else "failed_precondition"
            raise Failure(code, f"{path} cannot be read: {error.strerror}") from error
        try:
            unknown = io.get_untrusted_types(data=data)
        except Exception as error:
            raise _no_model(path, data, error) from error
        refused = sorted(set(unknown) - set(self._trusted))
        if refused:
            listed = ", ".join(f'"{name}"' for name in refused)
            raise Failure(
                "permission_denied",
                f"{path} was not loaded: it holds types that are not trusted: {', '.join(refused)}. If you know where "
                f"the file comes from, have the service's config say trusted = [{listed}]",
                data={"types": refused},
            )
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                estimator = io.loads(data, trusted=unknown)
            except Exception as error:
                raise _no_model(path, data, error) from error
        for text in dict.fromkeys(str(warning.message) for warning in warned):
            self._log("warning", f"{path.name}: {text}")
        if not isinstance(estimator, BaseEstimator):
            raise Failure("invalid_argument", f"{path} holds a {type(estimator).__name__}, not an estimator")
        return estimator


def _skops_io() -> Any:
    try:
        import skops.io
    except ImportError as error:
        raise Failure(
            "failed_precondition",
            f"saving and loading models needs skops, which {sys.executable} lacks ({error}): "
            "pip install 'mlports[models]'",
        ) from error
    return skops.io


def _write_whole(target: Path, data: bytes) -> None:
    """Puts a file in its place when all of it is on the disk, not before."""
    unfinished = target.with_name(f".{target.name}.{os.getpid()}.unfinished")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:  # left behind by a worker that was killed at this, and whose pid we now have
        os.unlink(unfinished)
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.replace(unfinished, target)
    except BaseException:
        with suppress(OSError):
            os.unlink(unfinished)
        raise


def _not_written(target: Path, size: int, error: OSError) -> Failure:
    old = " The file that was there is as it was." if target.is_file() else ""
    if error.errno in _FULL:
        return Failure(
            "resource_exhausted",
            f"{target} was not saved: no room for its {size:,} bytes ({error.strerror}). Make room, or set another "
            f"models_dir.{old}",
        )
    code = "permission_denied" if error.errno in _FORBIDDEN else "failed_precondition"
    return Failure(code, f"{target} was not saved: {error.strerror}.{old}")


def _no_model(path: Path, data: bytes, error: Exception) -> Failure:
    if not data:
        what = "is empty. Save the model again"
    elif data[:1] == b"\x80":
        what = "looks like a pickle, which can run any code when it is read. Load it where it was made, and save() it"
    elif isinstance(error, zipfile.BadZipFile):
        what = "is not a skops file. Save the model with save(), or with skops.io.dump()"
    else:
        what = f"is damaged, or of a version that cannot be read here: {type(error).__name__}: {error}. Save it again"
    return Failure("invalid_argument", f"{path} {what}")
