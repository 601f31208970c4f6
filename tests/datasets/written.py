"""The same images written in every kind of data set that is read from the disk."""

import io
import tarfile

import numpy as np
from PIL import Image

from workbench.datasets import cifar10

RNG = np.random.default_rng(0)
PIXELS, LABELS = RNG.integers(0, 256, (120, 32, 32, 3), np.uint8), np.arange(120) % 10
EVALUATION = 40  # images of CIFAR-10's test batch, the last of these


def folder(path, pixels, labels):
    for index, (image, label) in enumerate(zip(pixels, labels)):
        (path / f"class {label}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path / f"class {label}" / f"{index}.png")
    return path


def npz(path, pixels, labels):
    np.savez(path.with_suffix(".npz"), images=pixels, labels=labels, classes=[f"class {i}" for i in range(10)])
    return path.with_suffix(".npz")


def npy(path, pixels, labels):
    np.save(path.with_suffix(".npy"), pixels)
    np.save(path.with_name(f"{path.name}_labels.npy"), labels)
    return path.with_suffix(".npy")


def cifar10_batches(pixels, labels) -> dict[str, bytes]:
    """One byte of label, then 1,024 of red, green and blue each, row by row, as the page of the data set says."""
    records = [bytes([label]) + image.transpose(2, 0, 1).tobytes() for image, label in zip(pixels, labels)]
    batches = {f"data_batch_{i + 1}.bin": b"".join(records[:-EVALUATION][i::5]) for i in range(5)}
    return {**batches, "test_batch.bin": b"".join(records[-EVALUATION:])}


def cifar10_folder(path, pixels, labels):
    folder = path / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name, content in cifar10_batches(pixels, labels).items():
        (folder / name).write_bytes(content)
    return path


def cifar10_archive(path, pixels, labels):
    files = {**cifar10_batches(pixels, labels), "batches.meta.txt": b"airplane\n", "readme.html": b"<html>"}
    return tar_of(path.with_suffix(".tar.gz"), files)


def tar_of(path, files: dict[str, bytes]):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


#: Kind -> how it is written, and the names of its classes.
KINDS = {
    "a folder of classes": (folder, [f"class {i}" for i in range(10)]),
    "npz": (npz, [f"class {i}" for i in range(10)]),
    "npy": (npy, [str(i) for i in range(10)]),
    "the folder of cifar10": (cifar10_folder, cifar10.CLASSES),
    "the archive of cifar10": (cifar10_archive, cifar10.CLASSES),
}
