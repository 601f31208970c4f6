"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from ..errors import WorkbenchError


@contextlib.contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` when all went well and vanishes otherwise.

    Raises:
        WorkbenchError: the disk is full or read-only.
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
