"""A folder with one folder per class: formats, broken files, and the five lines of the documentation."""

import contextlib
import inspect
import os
import shutil
import textwrap

import numpy as np
import pytest
from PIL import Image

import workbench as wb
from workbench import datasets
from workbench.datasets import folders, preprocessing
from workbench.datasets.splits import SPLITS
from workbench.errors import WorkbenchError

FORMATS = ("png", "jpg", "webp", "jpeg", "PNG")


def _write(folder, classes=("cat", "dog"), each=30, edge=16):
    """Images whose first channel is a number of their own, in every format that is read."""
    rng = np.random.default_rng(0)
    for name in classes:
        (folder / name).mkdir(parents=True)
        for i in range(each):
            pixels = rng.integers(0, 256, (edge, edge + 4, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i:03}.{FORMATS[i % len(FORMATS)]}")
    return folder


@pytest.fixture
def pets(tmp_path):
    return _write(tmp_path / "pets")


def _all(folder, split):
    source = folders.open_folder(folder)
    count = int((source.splits == SPLITS[split]).sum())
    return wb.images(folder, split=split, count=count, size=16)


def test_copies_of_a_file_stay_in_its_split_and_other_files_move_none(pets):
    before = {split: {i.tobytes() for i in _all(pets, split).pixels} for split in SPLITS}
    for i in range(30):
        shutil.copy(pets / "cat" / f"{i:03}.{FORMATS[i % 5]}", pets / "dog" / f"copy{i}.{FORMATS[i % 5]}")
    (pets / "bird").mkdir()
    Image.new("RGB", (16, 16), (1, 2, 3)).save(pets / "bird" / "new.png")
    after = {split: {i.tobytes() for i in _all(pets, split).pixels} for split in SPLITS}
    assert sum(map(len, after.values())) == 61
    assert all(before[split] <= after[split] for split in before)


def test_a_broken_image_is_reported_and_another_taken_instead(pets):
    whole = wb.images(pets, "training", 10, size=16)
    spoiled = [p for p in sorted((pets / "cat").iterdir()) + sorted((pets / "dog").iterdir()) if p.suffix == ".png"]
    for path in spoiled:  # cut in the middle: the tail, and so the split, may be another now
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (pets / "cat" / "empty.jpg").touch()
    (pets / "cat" / "text.png").write_text("no image at all")
    source = folders.open_folder(pets)
    count = int((source.splits == 0).sum())
    with pytest.warns(UserWarning, match="skipped"), pytest.raises(WorkbenchError, match="that cannot"):
        wb.images(pets, "training", count, size=16)
    with pytest.warns(UserWarning, match=r"[0-9]+ images of .* were skipped: .*\.png"):
        found = wb.images(pets, "training", 20, size=16)
    assert len(found) == 20
    assert len(found.skipped) >= 1
    assert all("Error" in line for line in found.skipped)
    assert whole.skipped == ()


def test_a_folder_without_folders_of_classes_is_refused_and_its_content_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(WorkbenchError, match="no folders, and 0 images"):
        wb.images(tmp_path / "empty")
    _write(tmp_path / "flat" / "x", classes=("cat",), each=2)
    with pytest.raises(WorkbenchError, match="2 images directly"):
        wb.images(tmp_path / "flat" / "x" / "cat")
    with pytest.raises(WorkbenchError, match="one level down, such as x/cat"):
        wb.images(tmp_path / "flat")
    (tmp_path / "texts" / "a").mkdir(parents=True)
    (tmp_path / "texts" / "a" / "b.txt").touch()
    with pytest.raises(WorkbenchError, match="hold no"):
        wb.images(tmp_path / "texts")


def test_hidden_files_and_files_of_other_kinds_are_ignored(pets):
    (pets / ".ipynb_checkpoints").mkdir()
    (pets / "cat" / "._001.jpg").write_bytes(b"left by an archive")
    (pets / "cat" / "Thumbs.db").touch()
    source = folders.open_folder(pets)
    assert source.classes == ("cat", "dog")
    assert len(source.labels) == 60


def test_the_five_lines_of_the_documentation_read_ones_own_folder(tmp_path, monkeypatch):
    _write(tmp_path / "photos", each=120, edge=8)
    monkeypatch.chdir(tmp_path)
    example = inspect.getdoc(datasets).split("::\n", 1)[1]
    lines = [line for line in textwrap.dedent(example).splitlines() if line.strip()]
    assert len(lines) == 5
    scope = {}
    exec("\n".join(lines), scope)
    assert scope["x"].shape == (50, 224, 224, 3)
    assert scope["mine"].classes == ("cat", "dog")


# ---- what must not be run, and what must not be waited for ------------------------------------------------------


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


def test_postscript_named_as_a_picture_starts_no_program(pets, tmp_path, monkeypatch):
    program = tmp_path / "gs"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/started\n")
    program.chmod(0o755)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", str(program))
    (pets / "cat" / "cat.png").write_bytes(EPS)
    with Image.open(pets / "cat" / "cat.png") as image, contextlib.suppress(OSError):
        image.load()
    assert (tmp_path / "started").exists()  # this is what Pillow does where nobody forbids it
    (tmp_path / "started").unlink()
    assert (
        "UnidentifiedImageError"
        in folders.read_image(pets / "cat" / "cat.png", pets, preprocessing.vit_jax(8)).reason
    )
    assert not (tmp_path / "started").exists()


def test_a_picture_that_a_caller_opened_is_decoded_in_raster_formats_only(tmp_path):
    path = tmp_path / "cat.png"
    path.write_bytes(EPS)
    with Image.open(path) as image, pytest.raises(WorkbenchError, match="format of an image 'EPS'"):
        preprocessing.prepare(image, preprocessing.vit_jax(8))


def test_pipes_devices_and_folders_in_place_of_pictures_are_left_out_without_waiting(pets):
    os.mkfifo(pets / "cat" / "pipe.png")
    (pets / "cat" / "zeros.jpg").symlink_to("/dev/zero")
    (pets / "cat" / "itself.png").symlink_to(pets / "cat" / "itself.png")
    (pets / "cat" / "folder.png").mkdir()
    assert len(folders.open_folder(pets).labels) == 60


def test_a_picture_too_narrow_to_be_resized_is_skipped_with_its_sizes(pets):
    Image.new("L", (60_000, 1)).save(pets / "cat" / "narrow.png")
    narrow = folders.read_image(pets / "cat" / "narrow.png", pets, preprocessing.torchvision())
    assert narrow.name == "cat/narrow.png"
    assert "60000 x 1 pixels would become 15360000 x 256" in narrow.reason


def test_classes_count_in_natural_order_and_a_warning_says_where_torchvision_differs(tmp_path):
    _write(tmp_path / "numbers", classes=("2", "10", "1"), each=1)
    with pytest.warns(UserWarning, match="'2' before '10'.*ImageFolder"):
        assert folders.open_folder(tmp_path / "numbers").classes == ("1", "2", "10")


def test_a_class_whose_name_is_no_utf_8_can_be_printed(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    _write(tmp_path / "names", classes=(name,), each=1)
    assert folders.open_folder(tmp_path / "names").classes == ("caf\N{REPLACEMENT CHARACTER}",)
