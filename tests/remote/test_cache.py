"""The files that a host keeps by their digests."""

from __future__ import annotations

import hashlib
import io
import os
import zipfile

import pytest

from workbench.errors import WorkbenchError
from workbench.remote.cache import FileCache


def zip_of(content: bytes, digest: str, compression=zipfile.ZIP_STORED) -> tuple[zipfile.ZipFile, str]:
    data, name = io.BytesIO(), f"blobs/{digest}"
    with zipfile.ZipFile(data, "w", compression) as zipped:
        zipped.writestr(name, content)
    return zipfile.ZipFile(data), name


def digest_of(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("content", "compression", "complaint"),
    [(b"wrong", zipfile.ZIP_STORED, "arrived damaged"), (b"right", zipfile.ZIP_DEFLATED, "came compressed")],
)
def test_a_file_with_other_bytes_or_that_came_compressed_is_not_kept(tmp_path, content, compression, complaint):
    cache, digest = FileCache(tmp_path), digest_of(b"right")
    with pytest.raises(WorkbenchError, match=complaint):
        cache.take(*zip_of(content, digest, compression))
    assert not cache.holds(digest)
    assert not list(tmp_path.iterdir())


def test_a_file_that_was_changed_on_the_host_is_refused_and_deleted(tmp_path):
    cache, digest = FileCache(tmp_path), digest_of(b"right")
    cache.take(*zip_of(b"right", digest))
    (tmp_path / digest).write_bytes(b"wrong")
    with pytest.raises(WorkbenchError, match="was changed"):
        cache.copy(digest, tmp_path / "job" / "model.onnx")
    assert not cache.holds(digest)


def test_files_that_were_not_used_for_the_longest_time_are_deleted_first(tmp_path):
    cache, digests = FileCache(tmp_path), []
    for age, content in ((3, b"a" * 100), (9, b"b" * 100), (6, b"c" * 100), (0, b"d" * 100)):
        digests.append(digest_of(content))
        cache.take(*zip_of(content, digests[-1]))
        moment = (tmp_path / digests[-1]).stat().st_mtime - 3600 * age
        os.utime(tmp_path / digests[-1], (moment, moment))
    cache.prune(250)
    assert [cache.holds(digest) for digest in digests] == [True, False, False, True]
    cache.prune(0)  # a file of the last hour may be in use now
    assert cache.holds(digests[3])
