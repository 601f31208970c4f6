"""CIFAR-10's binary version, on tiny archives written in the published format."""

import io
import tarfile

import numpy as np
import pytest

import workbench as wb
from workbench.datasets import cifar10
from workbench.datasets.splits import SPLITS
from workbench.errors import WorkbenchError

NAMES = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]


def _batch(seed: int, count: int = 40) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (count, 32, 32, 3), np.uint8), np.arange(count) % 10


def _bytes(pixels, labels) -> bytes:
    """One byte of label, then 1,024 of red, green and blue each, row by row, as the page of the data set says."""
    records = [bytes([label]) + image.transpose(2, 0, 1).tobytes() for image, label in zip(pixels, labels)]
    return b"".join(records)


@pytest.fixture(scope="module")
def batches() -> dict[str, bytes]:
    return {name: _bytes(*_batch(seed)) for seed, name in enumerate(NAMES)}


def _archive(path, batches, suffix="gz"):
    files = {**batches, "batches.meta.txt": "\n".join(cifar10.CLASSES).encode(), "readme.html": b"<html>"}
    with tarfile.open(path, f"w:{suffix}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture
def archive(tmp_path, batches):
    return _archive(tmp_path / "cifar-10-binary.tar.gz", batches)


def test_pixels_and_labels_are_those_that_were_written(archive):
    found = wb.images(archive, "evaluation", count=40)
    pixels, labels = _batch(5)
    written = {image.tobytes(): label for image, label in zip(pixels, labels)}
    assert {image.tobytes(): label for image, label in zip(found.pixels, found.labels)} == written
    assert found.classes[3] == "cat"
    assert found.x.shape == (40, 32, 32, 3)
    assert wb.images(archive, count=2, size=96).pixels.shape == (2, 96, 96, 3)


def test_the_splits_share_no_image_and_hold_them_all(archive):
    source = cifar10.open_cifar10(archive)
    counts = {split: int((source.splits == number).sum()) for split, number in SPLITS.items()}
    assert sum(counts.values()) == 240
    assert counts["evaluation"] == 40
    assert 5 < counts["calibration"] < 40  # 10 % of 200
    sums = [{i.tobytes() for i in wb.images(archive, split, count).pixels} for split, count in counts.items()]
    assert len(set.union(*sums)) == 240


def test_a_training_image_that_is_also_a_test_image_is_not_trained_on(tmp_path, batches):
    spoiled = {
        **batches,
        "data_batch_1.bin": batches["test_batch.bin"][: cifar10.RECORD] + batches["data_batch_1.bin"],
    }
    source = cifar10.open_cifar10(_archive(tmp_path / "a.tar", spoiled, suffix=""))
    assert int((source.splits == SPLITS["evaluation"]).sum()) == 41


def test_the_unpacked_folder_and_its_parent_give_the_same_as_the_archive(archive, tmp_path, batches):
    folder = tmp_path / "unpacked" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name, content in batches.items():
        (folder / name).write_bytes(content)
    digests = {wb.images(path, "training", count=30).digest for path in (archive, folder, folder.parent)}
    assert len(digests) == 1


def test_the_name_finds_the_archive_that_was_downloaded(tmp_path, monkeypatch, batches):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(WorkbenchError, match="fetch-images cifar10"):
        wb.images("cifar10")
    (tmp_path / "vit-workbench").mkdir()
    _archive(tmp_path / "vit-workbench" / "cifar-10-binary.tar.gz", batches)
    assert wb.images("cifar10", count=5).name == "cifar10/evaluation"


def test_a_broken_archive_is_refused(tmp_path, archive):
    for content in (archive.read_bytes()[:100_000], b"no archive"):
        (tmp_path / "broken.tar.gz").write_bytes(content)
        with pytest.raises(WorkbenchError, match="cannot be read as an archive"):
            wb.images(tmp_path / "broken.tar.gz")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data_batch_2.bin": b"\x00" * 3000}, "data_batch_2.bin is cut short"),
        ({"data_batch_2.bin": b""}, "data_batch_2.bin is cut short"),
        ({"data_batch_2.bin": b"\x0a" * cifar10.RECORD}, "label 10"),
        ({"test_batch.bin": None}, "data_batch_1.bin"),
        (dict.fromkeys(NAMES), "neither"),
    ],
)
def test_wrong_batches_are_refused(tmp_path, batches, change, says):
    changed = {name: content for name, content in {**batches, **change}.items() if content is not None}
    with pytest.raises(WorkbenchError, match=says):
        wb.images(_archive(tmp_path / "wrong.tar.gz", changed))
