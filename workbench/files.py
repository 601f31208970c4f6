"""Files that are written whole or not at all, and errors of the disk with their remedies."""

from __future__ import annotations

import contextlib
import errno
import glob
import os
import secrets
import shutil
import tempfile
from collections.abc import Generator, Iterator
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

    What a killed process left of the same file is deleted first.

    Raises:
        WorkbenchError: the file cannot be written.
    """
    partial = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, f".held-????????.{glob.escape(path.name)}")
        with _held(path.parent, ".held-", f".{path.name}", folder=False) as partial:
            yield partial
            os.replace(partial, path)
    except OSError as error:
        raise WorkbenchError(
            f"{path} cannot be written", why=str(error), remedy="free space, or choose another folder"
        ) from error
    finally:
        if partial is not None:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def held_folder(parent: Path, prefix: str) -> Generator[Path]:
    """A new folder in ``parent`` that is removed at the end, if it is still there under its name.

    Folders with this prefix that killed processes left are removed first.

    Args:
        parent: a folder that exists.
        prefix: how its name begins; ``held-`` and eight digits follow.
    """
    sweep(parent, f"{glob.escape(prefix)}held-????????")
    with _held(parent, f"{prefix}held-", "", folder=True) as folder:
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def scratch_folder(what: str = "The temporary folder cannot be used") -> Generator[Path]:
    """A temporary folder for one piece of work; what killed processes left of theirs is removed first.

    Raises:
        WorkbenchError: the disk is full or read-only; ``what`` is what could not be done.
    """
    with disk_errors(what), held_folder(Path(tempfile.gettempdir()), f"vit-workbench-{_user()}-") as folder:
        yield folder


def _user() -> str:
    return str(os.getuid()) if hasattr(os, "getuid") else "user"


@contextlib.contextmanager
def _held(parent: Path, prefix: str, suffix: str, *, folder: bool, key: str | None = None) -> Generator[Path]:
    """A new file or folder that this process holds by a lock, which the system gives up when the process ends.

    It gets its name once it is locked, so that nobody sweeps it before.
    """
    drawn = secrets.token_hex(4)
    born, path = parent / f".new-{drawn}{suffix}", parent / f"{prefix}{drawn if key is None else key}{suffix}"
    if folder:
        born.mkdir(mode=0o700)
    descriptor = os.open(born, os.O_RDONLY if folder else os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        _lock(descriptor)
        os.rename(born, path)
        yield path
    finally:
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    """Lock an open file or folder; False where another process holds it, or the system has no such locks."""
    try:
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


@contextlib.contextmanager
def held_file(path: Path) -> Generator[None]:
    """An empty file that marks unfinished work; it is removed at the end, and ``abandoned`` after a kill."""
    with _held(path.parent, path.name, "", folder=False, key="") as marker:
        try:
            yield
        finally:
            marker.unlink(missing_ok=True)


def abandoned(folder: Path, pattern: str) -> Iterator[Path]:
    """The files and folders of this pattern whose process has ended without removing them, locked one by one."""
    for path in folder.glob(pattern):
        with contextlib.suppress(OSError):  # another process may be removing it, or it is somebody else's
            descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            try:
                if _lock(descriptor):
                    yield path
            finally:
                os.close(descriptor)


def sweep(folder: Path, pattern: str) -> None:
    """Remove the files and folders of this pattern whose process has ended without removing them."""
    for path in abandoned(folder, pattern):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


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
