"""Images in .npz and .npy files."""

import numpy as np
import pytest

import workbench as wb
from workbench.datasets.arrays import open_arrays
from workbench.datasets.splits import SPLITS
from workbench.errors import WorkbenchError

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (60, 12, 12, 3), np.uint8)
LABELS = np.arange(60) % 3


def _counts(path):
    splits = open_arrays(path).splits
    return {split: int((splits == number).sum()) for split, number in SPLITS.items()}


def test_an_npz_gives_its_images_once_each(tmp_path):
    path = tmp_path / "set.npz"
    np.savez(path, images=PIXELS, labels=LABELS, classes=["ant", "bee", "cow"])
    sets = [wb.images(path, split, count) for split, count in _counts(path).items()]
    found = {image.tobytes(): label for s in sets for image, label in zip(s.pixels, s.labels)}
    assert found == {image.tobytes(): label for image, label in zip(PIXELS, LABELS)}
    assert sets[0].classes == ("ant", "bee", "cow")
    assert sets[0].preprocessing.size == 12


def test_equal_images_stay_in_one_split(tmp_path):
    path = tmp_path / "twice.npz"
    np.savez(path, images=np.concatenate([PIXELS, PIXELS]), labels=np.concatenate([LABELS, LABELS]))
    sums = [{i.tobytes() for i in wb.images(path, split, count).pixels} for split, count in _counts(path).items()]
    assert sum(map(len, sums)) == len(set.union(*sums)) == 60


def test_an_npy_with_labels_beside_it_gives_the_same_images_as_an_npz(tmp_path):
    np.savez(tmp_path / "set.npz", images=PIXELS, labels=LABELS)
    np.save(tmp_path / "set.npy", PIXELS)
    np.save(tmp_path / "set_labels.npy", LABELS)
    first, second = (wb.images(tmp_path / name, "training", 10) for name in ("set.npz", "set.npy"))
    assert first.digest == second.digest
    assert second.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": PIXELS}, "needs the arrays images and labels, and has x"),
        ({"images": PIXELS / 255, "labels": LABELS}, "uint8"),
        ({"images": PIXELS[:0], "labels": LABELS[:0]}, "no images"),
        ({"images": PIXELS[..., 0], "labels": LABELS}, "height, width, 3"),
        ({"images": PIXELS, "labels": LABELS[:5]}, "60 images"),
        ({"images": PIXELS, "labels": LABELS - 1}, "0 or more"),
        ({"images": PIXELS, "labels": LABELS / 2}, "whole number"),
        ({"images": PIXELS, "labels": LABELS, "classes": ["ant"]}, "beyond the classes"),
        ({"images": PIXELS, "labels": np.array([object()] * 60)}, "allow_pickle=False"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, arrays, says):
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(WorkbenchError, match=says):
        wb.images(tmp_path / "wrong.npz", "training", 10)


def test_a_broken_or_incomplete_file_is_refused(tmp_path):
    np.savez(tmp_path / "cut.npz", images=PIXELS, labels=LABELS)
    whole = (tmp_path / "cut.npz").read_bytes()
    for content in (whole[:1000], whole[: len(whole) // 2], b"", b"text"):
        (tmp_path / "cut.npz").write_bytes(content)
        with pytest.raises(WorkbenchError, match="cannot be read"):
            wb.images(tmp_path / "cut.npz")
    spoiled = bytearray(whole)
    spoiled[5000] ^= 0xFF  # inside the pixels: the zip's own checksum finds it
    (tmp_path / "cut.npz").write_bytes(spoiled)
    with pytest.raises(WorkbenchError, match="CRC"):
        wb.images(tmp_path / "cut.npz")
    (tmp_path / "notes.txt").touch()
    np.save(tmp_path / "alone.npy", PIXELS)
    for name, says in {"notes.txt": "no known kind", "alone.npy": r"alone_labels\.npy"}.items():
        with pytest.raises(WorkbenchError, match=says):
            wb.images(tmp_path / name)
