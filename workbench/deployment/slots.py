"""Memory that a service and its worker process share: one slot of images and logits for each stream.

A slot is a file that both processes map; where the system has a file system in memory, it lies there. Images and
logits so pass between the processes without being copied through a pipe.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import refuse_unless
from ..files import disk_errors

#: The most bytes of a slot, because the sizes in it may come from a stranger's bundle.
MAX_SLOT_BYTES = 1 << 30
_IN_MEMORY = Path("/dev/shm")
_FLOAT = np.dtype(np.float32)


class Slots:
    """The slots of an engine's streams, in a folder of their own.

    Args:
        streams: how many slots.
        image_shape: of one image, in the model's layout.
        classes: logits of an image.
        most: images of the largest call.

    Attributes:
        paths: the files, for the other process.
        arrays: of each slot, images (most, *image_shape) and logits (most, classes), both float32.

    Raises:
        WorkbenchError: the disk is full, or a slot would be larger than ``MAX_SLOT_BYTES``.
    """

    def __init__(self, streams: int, image_shape: Sequence[int], classes: int, most: int):
        needed = _slot_bytes(image_shape, classes, most)
        refuse_unless(
            needed <= MAX_SLOT_BYTES,
            f"No memory is reserved for {most:,} images a call",
            why=f"they take {needed:,} bytes, and at most {MAX_SLOT_BYTES:,} are reserved",
            remedy="build the engine for a smaller largest batch",
        )
        self._folder = tempfile.TemporaryDirectory(prefix="workbench-engine-", dir=_roomy_folder(streams * needed))
        self.folder = Path(self._folder.name)
        self.paths = [self.folder / f"slot{index}" for index in range(streams)]
        try:
            for path in self.paths:
                _reserve(path, needed)
            self.arrays = [map_slot(path, image_shape, classes, most) for path in self.paths]
        except BaseException:
            self._folder.cleanup()
            raise

    def free(self) -> None:
        """Delete the files; their memory goes when no process maps them any more."""
        self._folder.cleanup()


def map_slot(path: Path, image_shape: Sequence[int], classes: int, most: int) -> tuple[np.ndarray, np.ndarray]:
    """The images (most, *image_shape) and the logits (most, classes) of a slot, both float32."""
    images = np.memmap(path, _FLOAT, "r+", 0, (most, *image_shape))
    logits = np.memmap(path, _FLOAT, "r+", images.nbytes, (most, classes))
    return np.asarray(images), np.asarray(logits)


def _slot_bytes(image_shape: Sequence[int], classes: int, most: int) -> int:
    return most * (math.prod(image_shape) + classes) * _FLOAT.itemsize


def _roomy_folder(needed: int) -> str | None:
    """The file system in memory where it has room twice over, else None for the system's folder for such files."""
    roomy = _IN_MEMORY.is_dir() and os.access(_IN_MEMORY, os.W_OK)
    return str(_IN_MEMORY) if roomy and shutil.disk_usage(_IN_MEMORY).free > 2 * needed else None


def _reserve(path: Path, needed: int) -> None:
    """Write so many bytes now: a disk that is full when a mapped page is written ends both processes."""
    with disk_errors(f"The engine's memory {path} cannot be reserved"), open(path, "wb") as file:
        while needed > 0:
            needed -= file.write(bytes(min(needed, 1 << 20)))
