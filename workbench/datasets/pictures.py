"""Pictures without labels: all files of one folder, in the order of their names."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from ..errors import refuse_unless
from ..records import Preprocessing
from .folders import SUFFIXES, image_files, read_image
from .image_set import ImageSet
from .source import Unreadable

#: The one class of images whose labels are not known.
NOT_LABELLED = ("not labelled",)


def pictures(folder, preprocessing: Preprocessing, count: int | None = None) -> ImageSet:
    """The pictures that lie in a folder itself, to look at and to calibrate with; no accuracy can be computed.

    Args:
        folder: with JPEG, PNG or WebP files.
        preprocessing: how they are prepared.
        count: the first so many; None takes all.

    Warns:
        UserWarning: files could not be read; ``skipped`` names them.

    Raises:
        WorkbenchError: there is no such folder, it holds no pictures, or none can be read.
    """
    folder = Path(folder)
    files = image_files(folder)[:count] if folder.is_dir() else []
    refuse_unless(
        bool(files),
        f"There are no pictures in {folder}",
        why=f"it holds no {', '.join(SUFFIXES)} file" if folder.is_dir() else "there is no such folder",
        remedy="give a folder with pictures in it",
    )
    read = [read_image(file, folder, preprocessing) for file in files]
    pixels = [one for one in read if not isinstance(one, Unreadable)]
    skipped = tuple(f"{one.name}: {one.reason}" for one in read if isinstance(one, Unreadable))
    refuse_unless(
        bool(pixels),
        f"No picture in {folder} can be read",
        why=skipped[0] if skipped else "",
        remedy="save them again as JPEG, PNG or WebP",
    )
    if skipped:
        warnings.warn(f"{len(skipped)} files of {folder} were skipped: {skipped[0]}", stacklevel=2)
    labels = np.zeros(len(pixels), np.int64)
    return ImageSet(np.stack(pixels), labels, NOT_LABELLED, f"{folder.name}/all", preprocessing, skipped)
