"""Files that are written whole or not at all, and errors of the disk with their remedies."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
from collections.abc import Generator
from pathlib import Path

from .errors import WorkbenchError

_REMEDIES = {
    errno.ENOSPC: "free some space, or choose another folder",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f), or choose another disk",
    errno.EROFS: "choose a folder on a writable disk",
    errno.EACCES: "choose a folder you may write to",
    errno.EPERM: "choose a folder you may write to",
    errno.EEXIST: "choose a folder, not a file",
    errno.ENOTDIR: "choose a folder, not a file",
    errno.EISDIR: "name a file, not a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ELOOP: "choose a folder that is no link to itself",
}
#: A file of settings that is larger was not written by hand.
MOST_TOML = 10 << 20


@contextlib.contextmanager
def new_file(path: Path) -> Generator[Path]:
    """A temporary path to write to. It is renamed to ``path`` when the body ends, and deleted when the body raises.

    Raises:
        WorkbenchError: the file cannot be written.
    """
    partial = path.with_name(f".{secrets.token_hex(4)}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        os.replace(partial, path)
    except OSError as error:
        raise WorkbenchError(
            f"{path} cannot be written", why=str(error), remedy="free space, or choose another folder"
        ) from error
    finally:
        partial.unlink(missing_ok=True)


def text_or_empty(path: str | Path) -> str:
    """The text of a file of the operating system; empty where the system has no such file."""
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def looked_for(path: Path) -> str:
    """Where a relative path leads, for the remedy of an error about a missing file; empty for an absolute one."""
    if path.is_absolute():
        return ""
    return f"; it is relative to the working folder {Path.cwd()} (papermill sets it with --cwd FOLDER)"


def read_toml(path: Path, remedy: str) -> dict:
    """The values of a TOML file.

    Raises:
        WorkbenchError: there is no such file, or it is no TOML.
    """
    import tomllib  # not in Python 3.10, where the light half runs

    try:
        if not path.is_file() or path.stat().st_size > MOST_TOML:
            raise FileNotFoundError("there is no such file, or it is none of settings")
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WorkbenchError(f"{path} cannot be read", why=f"{error}"[:400], remedy=remedy) from error


@contextlib.contextmanager
def disk_errors(what: str) -> Generator[None]:
    """Turn the error of a full disk, a read-only disk or a forbidden folder into a ``WorkbenchError``.

    Args:
        what: what could not be done, one sentence without a full stop.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno not in _REMEDIES:
            raise
        where = f": {error.filename}" if error.filename else ""
        raise WorkbenchError(what, why=os.strerror(error.errno) + where, remedy=_REMEDIES[error.errno]) from error
