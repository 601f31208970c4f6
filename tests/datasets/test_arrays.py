"""Images in .npz and .npy files that are not as they must be; test_sources.py reads good ones."""

import numpy as np
import pytest

import workbench as wb
from workbench.errors import WorkbenchError

PIXELS, LABELS = np.random.default_rng(0).integers(0, 256, (60, 12, 12, 3), np.uint8), np.arange(60) % 3


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
        ({"images": PIXELS, "labels": np.array([object()] * 60)}, "never unpickled"),
    ],
)
def test_wrong_arrays_are_refused(tmp_path, arrays, says):
    np.savez(tmp_path / "wrong.npz", **arrays)
    with pytest.raises(WorkbenchError, match=says):
        wb.images(tmp_path / "wrong.npz", "training", 10)


def test_a_broken_or_incomplete_file_is_refused(tmp_path):
    np.savez(tmp_path / "cut.npz", images=PIXELS, labels=LABELS)
    whole = (tmp_path / "cut.npz").read_bytes()
    spoiled = bytearray(whole)
    spoiled[5000] ^= 0xFF  # inside the pixels: the zip's own checksum finds it
    for content in (whole[:1000], whole[: len(whole) // 2], b"", b"text", spoiled):
        (tmp_path / "cut.npz").write_bytes(content)
        with pytest.raises(WorkbenchError, match="CRC" if content is spoiled else "cannot be read"):
            wb.images(tmp_path / "cut.npz")
    (tmp_path / "notes.txt").touch()
    np.save(tmp_path / "alone.npy", PIXELS)
    for name, says in {"notes.txt": "no known kind", "alone.npy": r"alone_labels\.npy"}.items():
        with pytest.raises(WorkbenchError, match=says):
            wb.images(tmp_path / name)
