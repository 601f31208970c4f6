"""CIFAR-10 in its binary version, read from the published archive or from the folder with its unpacked files.

A file is a sequence of records: one byte for the label and 3,072 for the pixels, the red plane first, each plane by
rows (https://www.cs.toronto.edu/~kriz/cifar.html). Nothing is unpacked to the disk and nothing is unpickled.
"""

from __future__ import annotations

import hashlib
import re
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import WorkbenchError, refuse_unless
from .source import Source, source_of_pixels
from .splits import SPLITS, assign_splits

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
EDGE = 32
RECORD = 1 + 3 * EDGE * EDGE

_FILE = re.compile(r"(?:data_batch_\d+|test_batch)\.bin")


def holds_cifar10(folder: Path) -> bool:
    """Whether a folder has files of the binary version in it."""
    return any(_FILE.fullmatch(p.name) for p in folder.iterdir())


def open_cifar10(path: Path) -> Source:
    """CIFAR-10 from ``cifar-10-binary.tar.gz`` or from its folder.

    The published test batch is the evaluation split. A hash of its pixels decides whether an image of the training
    batches belongs to calibration (10 %) or training; one that equals an image of the test batch belongs to
    evaluation. CIFAR-10 has near copies too (Barz and Denzler, 2020, arXiv:1902.00423); these are not treated.

    Raises:
        WorkbenchError: a batch is missing, cut short or has a label above 9; the archive is broken.
    """
    batches = _from_folder(path) if path.is_dir() else _from_archive(path)
    refuse_unless(
        "test_batch.bin" in batches and len(batches) > 1,
        f"{path} is not the whole of CIFAR-10",
        why=f"it needs test_batch.bin and data_batch_1.bin ..., and has {', '.join(sorted(batches)) or 'neither'}",
        remedy="get the binary version, not the pickled one: workbench fetch-images cifar10",
    )
    records = np.concatenate([_records(name, batches[name]) for name in sorted(batches)])
    test = len(batches["test_batch.bin"]) // RECORD  # test_batch comes last in the order of names
    keys = [hashlib.blake2b(record[1:], digest_size=16).digest() for record in records]
    splits = assign_splits(keys, calibration=0.1, evaluation=0.0)
    published = set(keys[-test:])
    splits[[key in published for key in keys]] = SPLITS["evaluation"]
    pixels = records[:, 1:].reshape(-1, 3, EDGE, EDGE).transpose(0, 2, 3, 1)
    return source_of_pixels(CLASSES, np.ascontiguousarray(pixels), records[:, 0], splits)


def _from_folder(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if _FILE.fullmatch(p.name)}


def _from_archive(path: Path) -> Mapping[str, bytes]:
    try:
        with tarfile.open(path) as archive:
            members = {Path(m.name).name: m for m in archive.getmembers() if m.isfile()}
            files = {n: archive.extractfile(m) for n, m in members.items() if _FILE.fullmatch(n)}
            return {name: file.read() for name, file in files.items() if file}
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise WorkbenchError(
            f"{path} cannot be read as an archive",
            why=str(error),
            remedy="delete it and get it again: workbench fetch-images cifar10",
        ) from error


def _records(name: str, content: bytes) -> np.ndarray:
    refuse_unless(
        len(content) > 0 and len(content) % RECORD == 0,
        f"{name} is cut short",
        why=f"its {len(content)} bytes are no multiple of the {RECORD} of a record",
        remedy="get the archive again: workbench fetch-images cifar10",
    )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    refuse_unless(
        records[:, 0].max() < len(CLASSES),
        f"{name} is not a batch of CIFAR-10",
        why=f"it has the label {records[:, 0].max()}, and there are {len(CLASSES)} classes",
        remedy="get the archive again: workbench fetch-images cifar10",
    )
    return records
