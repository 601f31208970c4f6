"""The worker as a process; test_host.py starts it on hosts."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.tiny import Tiny, variant_of
from workbench.digests import file_digest
from workbench.records import Batches, encode
from workbench.remote.job import Job

ROOT = Path(__file__).parents[2]


@pytest.fixture
def variant(tmp_path):
    """A variant without external weights."""
    tiny = Tiny.of()
    return variant_of(tiny.graph(tmp_path))


def job_zip(variant, cache: Path, *, blobs=True, **changes) -> bytes:
    """A job as a host gets it, without the code: ``python -m`` has that at hand."""
    job = Job(variant, "onnxruntime", Batches(1, 4, 8))
    files = {"variant/tiny.onnx": file_digest(variant.path)}
    request = {"job": encode(job, lambda path: f"variant/{Path(path).name}"), "files": files, "cache": str(cache)}
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zipped:
        zipped.writestr("job.json", json.dumps({**request, **changes}))
        if blobs:
            for key in files.values():
                zipped.writestr(f"blobs/{key}", variant.path.read_bytes())
    return archive.getvalue()


def start(payload: bytes, *, cwd=ROOT):
    done = subprocess.run(
        [sys.executable, "-m", "workbench.remote.worker"], input=payload, capture_output=True, cwd=cwd, timeout=100
    )
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith(b"{")]
    return done, {key: value for line in lines for key, value in line.items()}


def test_the_module_serves_a_zip_on_stdin_and_answers_with_a_tar(tmp_path, variant):
    done, said = start(job_zip(variant, tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert said["sent"] == {"sha256": hashlib.sha256(done.stdout).hexdigest(), "bytes": len(done.stdout)}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        assert {"report.json", "engine/model.onnx"} <= set(tar.getnames())


def test_files_that_the_host_does_not_hold_are_asked_for_and_then_kept(tmp_path, variant):
    cache = tmp_path / "cache"
    _, said = start(job_zip(variant, cache, blobs=False))
    assert said["missing"] == [file_digest(variant.path)]
    start(job_zip(variant, cache))
    done, said = start(job_zip(variant, cache, blobs=False))
    assert (done.returncode, "missing" in said) == (0, False)


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        ("variant/tiny.onnx", "../../etc/passwd", "is no digest"),
        ("variant/tiny.onnx", "0" * 63, "is no digest"),
        ("variant/tiny.onnx", "A" * 64, "is no digest"),
        ("../../escaped.onnx", None, "outside its folder"),
    ],
)
def test_a_key_that_is_no_digest_and_a_name_that_leads_out_are_refused(tmp_path, variant, name, key, words):
    files = {name: key or file_digest(variant.path)}
    done, said = start(job_zip(variant, tmp_path / "cache", files=files))
    assert done.returncode == 3
    assert words in said["error"]["what"] + said["error"]["why"]


def test_something_else_than_a_zip_is_an_error_and_not_a_hang(tmp_path):
    done, said = start(b"this is no job")
    assert done.returncode == 3
    assert "BadZipFile" in said["error"]["why"]
    assert done.stdout == b""
