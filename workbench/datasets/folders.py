"""A folder with one folder of JPEG, PNG or WebP files per class."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ..errors import WorkbenchError, refuse_unless
from ..records import Preprocessing
from .preprocessing import prepare
from .source import Source, Unreadable
from .splits import assign_splits

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
#: The only formats that are decoded, by a file's content and not by its name. Pillow knows others that start a
#: program: it hands PostScript to Ghostscript, which runs it.
FORMATS = ("JPEG", "PNG", "WEBP")
#: This many bytes from a file's end, and its length, identify its content.
TAIL = 4096


def open_folder(folder: Path) -> Source:
    """The images below ``folder``. Its folders are the classes, in natural order: ``class 2`` before ``class 10``.

    The length and the last bytes of a file decide whether it belongs to training (60 %), calibration (10 %) or
    evaluation (30 %), so copies of a file under other names or in other classes are in one split. A picture that
    was opened and saved again is another file. Pipes, devices and whatever else is no plain file is left out.

    Warns:
        UserWarning: the natural order of the classes is not the alphabetical one, by which torchvision counts.

    Raises:
        WorkbenchError: there are no folders, or no images in them.
    """
    classes = _classes(folder)
    files = [(label, file) for label, name in enumerate(classes) for file in image_files(folder / name)]
    refuse_unless(
        bool(files),
        f"{folder} holds no images in folders of their classes",
        why=_found(folder, classes),
        remedy="arrange the files as FOLDER/CLASS/NAME.jpg (or .png, .webp) and give FOLDER",
    )
    labels = np.array([label for label, _ in files], np.int64)
    with _threads() as threads:
        splits = assign_splits(threads.map(_key, (file for _, file in files)), calibration=0.1, evaluation=0.3)

    def read(indices: Sequence[int], preprocessing: Preprocessing) -> Iterator[np.ndarray | Unreadable]:
        with _threads() as threads:
            yield from threads.map(lambda i: read_image(files[i][1], folder, preprocessing), indices)

    return Source(tuple(map(_printable, classes)), labels, splits, 224, read)


def _classes(folder: Path) -> list[str]:
    """The names of the folders in natural order."""
    names = [p.name for p in _entries(folder) if p.is_dir() and not p.name.startswith(".")]
    natural = sorted(names, key=_natural)
    first = next((pair for pair in zip(natural, sorted(names)) if pair[0] != pair[1]), None)
    if first:
        warnings.warn(
            f"the classes of {folder} are counted in natural order ({first[0]!r} before {first[1]!r});"
            " torchvision's ImageFolder counts them alphabetically. Give a Preprocessing whose classes have the"
            " model's order.",
            stacklevel=2,
        )
    return natural


def _natural(name: str) -> tuple:
    """A key that sorts runs of digits by their value."""
    parts = re.split(r"([0-9]+)", name)
    return (*((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts if part), name)


def _printable(name: str) -> str:
    """A file's name as text that can be printed and stored, also where the disk's bytes are no UTF-8."""
    return os.fsencode(name).decode(errors="replace")


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise WorkbenchError(
            f"The folder {folder} cannot be listed", why=str(error), remedy="check its permissions, or leave it out"
        ) from error


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))  # Pillow decodes without the GIL


def image_files(folder: Path) -> list[Path]:
    """The pictures that lie in a folder itself, by name."""
    entries = (p for p in _entries(folder) if p.suffix.lower() in SUFFIXES and not p.name.startswith("."))
    return [p for p in entries if p.is_file()]  # a pipe would be read for ever


def _found(folder: Path, classes: list[str]) -> str:
    if not classes:
        return f"it has no folders, and {len(image_files(folder))} images directly in it"
    inner = [f"{name}/{p.name}" for name in classes for p in _entries(folder / name) if p.is_dir()]
    if inner:
        return f"the classes seem to be one level down, such as {inner[0]}"
    return f"its folders ({', '.join(classes[:5])}) hold no {', '.join(SUFFIXES)} files"


def _key(file: Path) -> bytes:
    try:
        with open(file, "rb") as stream:
            length = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, length - TAIL))
            return length.to_bytes(8, "little") + stream.read()
    except OSError:  # reported when the image itself is read
        return os.fsencode(file.name)


def read_image(file: Path, folder: Path, preprocessing: Preprocessing) -> np.ndarray | Unreadable:
    """One picture, prepared: (size, size, 3) uint8; or its name in ``folder``, and why it cannot be read."""
    from PIL import Image

    try:
        with Image.open(file, formats=FORMATS) as image:
            return prepare(image, preprocessing)
    except Exception as error:  # Pillow's decoders raise anything, from SyntaxError to struct.error
        reason = error.why if isinstance(error, WorkbenchError) else str(error)
        name = _printable(file.relative_to(folder).as_posix())
        return Unreadable(name, f"{type(error).__name__}: {reason}")
