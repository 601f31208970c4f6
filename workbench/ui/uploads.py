"""Files that a browser uploaded, kept below the workspace: a checkpoint, or a folder of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..datasets.folders import SUFFIXES
from ..digests import digest
from ..errors import refuse_unless
from ..files import new_file
from ..workspace import Workspace


def kept_checkpoint(upload: Sequence, workspace) -> Path:
    """Write an uploaded ``.npz`` or ``.onnx`` below the workspace and return its path.

    Args:
        upload: the value of a ``FileUpload``: dictionaries with ``name`` and ``content``.
        workspace: a ``Workspace`` or a folder's path.

    Raises:
        WorkbenchError: it is not one such file, or it cannot be written.
    """
    names = [file["name"] for file in upload]
    refuse_unless(
        len(names) == 1 and Path(names[0]).suffix.lower() in (".npz", ".onnx"),
        "That is no checkpoint",
        why=f"uploaded was {', '.join(names)}",
        remedy="upload one .npz file in the form of vit_jax, or one .onnx file that holds its weights",
    )
    return _keep(upload, workspace)[0]


def kept_pictures(upload: Sequence, workspace) -> Path:
    """Write uploaded pictures into a folder of their own below the workspace and return the folder.

    Raises:
        WorkbenchError: a file is no JPEG, PNG or WebP, or cannot be written.
    """
    others = [file["name"] for file in upload if Path(file["name"]).suffix.lower() not in SUFFIXES]
    refuse_unless(
        not others,
        "Not every file is a picture",
        why=f"uploaded was {', '.join(others)}",
        remedy=f"upload {', '.join(SUFFIXES)} files",
    )
    return _keep(upload, workspace)[0].parent


def _keep(upload: Sequence, workspace) -> list[Path]:
    """The files in a folder named by their content, under their own names without any folders in them."""
    contents = {Path(file["name"].replace("\\", "/")).name: bytes(file["content"]) for file in upload}
    folder = Workspace.of(workspace).path / "uploads" / digest(sorted(contents.items()))[:12]
    for name, content in contents.items():
        with new_file(folder / name) as partial:
            partial.write_bytes(content)
    return [folder / name for name in contents]
