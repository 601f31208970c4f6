"""CIFAR-10's binary version: where it is found, and files that are not as published; test_sources.py reads it."""

import pytest

import workbench as wb
from tests.datasets.written import LABELS, PIXELS, cifar10_archive, cifar10_batches, tar_of
from workbench.datasets import cifar10
from workbench.errors import WorkbenchError

BATCHES = cifar10_batches(PIXELS, LABELS)


def test_the_name_finds_the_archive_that_was_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(WorkbenchError, match="fetch-images cifar10"):
        wb.images("cifar10")
    (tmp_path / "vit-workbench").mkdir()
    cifar10_archive(tmp_path / "vit-workbench" / "cifar-10-binary", PIXELS, LABELS)
    found = wb.images("cifar10", count=5)
    assert found.name == "cifar10/evaluation"
    assert found.classes[3] == "cat"


def test_a_broken_archive_is_refused(tmp_path):
    whole = cifar10_archive(tmp_path / "broken", PIXELS, LABELS)
    for content in (whole.read_bytes()[:100_000], b"no archive"):
        whole.write_bytes(content)
        with pytest.raises(WorkbenchError, match="cannot be read as an archive"):
            wb.images(whole)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"data_batch_2.bin": b"\x00" * 3000}, "data_batch_2.bin is cut short"),
        ({"data_batch_2.bin": b""}, "data_batch_2.bin is cut short"),
        ({"data_batch_2.bin": b"\x0a" * cifar10.RECORD}, "label 10"),
        ({"test_batch.bin": None}, "data_batch_1.bin"),
        (dict.fromkeys(BATCHES), "neither"),
    ],
)
def test_wrong_batches_are_refused(tmp_path, change, says):
    changed = {name: content for name, content in {**BATCHES, **change}.items() if content is not None}
    with pytest.raises(WorkbenchError, match=says):
        wb.images(tar_of(tmp_path / "wrong.tar.gz", changed))
