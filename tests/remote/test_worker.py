"""The worker as a function and as a process; ``tests/studies/test_hosts.py`` starts it on hosts."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests.tiny import Tiny, some_images, variant_of
from workbench.digests import file_digest
from workbench.errors import Cancelled, Refusal, WorkbenchError
from workbench.records import Batches, encode
from workbench.remote.cache import FileCache
from workbench.remote.job import EvaluationSet, Job, run_job
from workbench.remote.protocol import safe_name
from workbench.workspace import Workspace

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tiny(tmp_path):
    tiny = Tiny.of()
    return tiny, variant_of(tiny.graph(tmp_path))


def test_a_job_builds_measures_and_tells_what_it_did(tmp_path, tiny):
    model, variant = tiny
    images = some_images(20)
    truth = model.logits(images).argmax(axis=1)
    job = Job(variant, "onnxruntime", Batches(1, 4, 8), measure=(1, 8), streams=(1, 2), layers=True, seconds=0.05)
    report = run_job(job, tmp_path / "workspace", EvaluationSet(images, (truth + 1) % 7, truth))
    assert [m.batch for m in report.measurements] == [1, 8]
    assert all(m.top1 == 0 and m.agreement == 1 and m.p50_ms > 0 for m in report.measurements)
    assert [m.streams for m in report.streams] == [1, 2]
    assert {"block00/mlp/fc1", "head"} <= {row["name"].split(":")[0] for row in report.layers}
    assert Workspace(tmp_path / "workspace").observations("engine", type(report.engine)) == [report.engine]


def test_a_job_without_measurements_only_builds(tmp_path, tiny):
    report = run_job(Job(tiny[1], "onnxruntime", Batches()), tmp_path / "workspace")
    assert report.engine.path.exists()
    assert (report.measurements, report.streams, report.layers, report.refusal) == ((), (), (), None)


def test_an_engine_that_cannot_be_opened_is_kept_with_the_reason(tmp_path, tiny, monkeypatch):
    def refuse(engine):
        raise WorkbenchError("It cannot be opened", why="there is no GPU", remedy="name a host with one")

    monkeypatch.setattr("workbench.remote.job.open_engine", refuse)
    report = run_job(Job(tiny[1], "onnxruntime", Batches(), measure=(1,)), tmp_path / "workspace")
    assert report.engine.path.exists()
    assert report.refusal == Refusal("It cannot be opened: there is no GPU", "name a host with one")


def test_cancelling_while_an_engine_opens_is_no_refusal(tmp_path, tiny, monkeypatch):
    def cancel(engine):
        raise Cancelled()

    monkeypatch.setattr("workbench.remote.job.open_engine", cancel)
    with pytest.raises(Cancelled):
        run_job(Job(tiny[1], "onnxruntime", Batches(), measure=(1,)), tmp_path / "workspace")


def test_an_exam_survives_its_file(tmp_path):
    evaluation = EvaluationSet(some_images(3), None, np.array([1, 2, 3]))
    evaluation.save(tmp_path / "evaluation.npz")
    again = EvaluationSet.load(tmp_path / "evaluation.npz")
    np.testing.assert_array_equal(again.images, evaluation.images)
    np.testing.assert_array_equal(again.reference, evaluation.reference)
    assert again.labels is None


# ---- as a process ------------------------------------------------------------------------------------------------


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


def test_the_module_serves_a_zip_on_stdin_and_answers_with_a_tar(tmp_path, tiny):
    done, said = start(job_zip(tiny[1], tmp_path / "cache"))
    assert done.returncode == 0, done.stderr
    assert said["sent"] == {"sha256": hashlib.sha256(done.stdout).hexdigest(), "bytes": len(done.stdout)}
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        assert {"report.json", "engine/model.onnx"} <= set(tar.getnames())


def test_files_that_the_host_does_not_hold_are_asked_for_and_then_kept(tmp_path, tiny):
    cache = tmp_path / "cache"
    _, said = start(job_zip(tiny[1], cache, blobs=False))
    assert said["missing"] == [file_digest(tiny[1].path)]
    start(job_zip(tiny[1], cache))
    done, said = start(job_zip(tiny[1], cache, blobs=False))
    assert (done.returncode, "missing" in said) == (0, False)


@pytest.mark.parametrize("key", ["../../etc/passwd", "0" * 63, "A" * 64])
def test_a_key_that_is_no_digest_is_refused(tmp_path, tiny, key):
    done, said = start(job_zip(tiny[1], tmp_path / "cache", files={"variant/tiny.onnx": key}))
    assert done.returncode == 3
    assert "is no digest" in said["error"]["what"]


def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path, tiny):
    key = file_digest(tiny[1].path)
    done, said = start(job_zip(tiny[1], tmp_path / "cache", files={"../../escaped.onnx": key}))
    assert done.returncode == 3
    assert "outside its folder" in said["error"]["why"]


def test_something_else_than_a_zip_is_an_error_and_not_a_hang(tmp_path):
    done, said = start(b"this is no job")
    assert done.returncode == 3
    assert "BadZipFile" in said["error"]["why"]
    assert done.stdout == b""


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up", "a\\b", ""])
def test_names_that_lead_elsewhere_are_not_safe(name):
    with pytest.raises(WorkbenchError):
        safe_name(name)


# ---- the host's cache --------------------------------------------------------------------------------------------


def zip_of(name: str, content: bytes) -> zipfile.ZipFile:
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as zipped:
        zipped.writestr(name, content)
    return zipfile.ZipFile(data)


def test_a_blob_whose_bytes_are_not_its_name_is_not_kept(tmp_path):
    blobs, key = FileCache(tmp_path), hashlib.sha256(b"right").hexdigest()
    with pytest.raises(WorkbenchError, match="arrived damaged"):
        blobs.take(zip_of(f"blobs/{key}", b"wrong"), f"blobs/{key}")
    assert not blobs.holds(key)
    assert not list(tmp_path.iterdir())


def test_a_blob_that_came_compressed_is_not_unpacked(tmp_path):
    blobs, zeros = FileCache(tmp_path), bytes(1 << 20)
    key, data = hashlib.sha256(zeros).hexdigest(), io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr(f"blobs/{key}", zeros)
    with pytest.raises(WorkbenchError, match="came compressed"):
        blobs.take(zipfile.ZipFile(data), f"blobs/{key}")
    assert not list(tmp_path.iterdir())


def test_a_blob_that_was_changed_on_the_host_is_deleted_and_told(tmp_path):
    blobs, key = FileCache(tmp_path), hashlib.sha256(b"right").hexdigest()
    blobs.take(zip_of(f"blobs/{key}", b"right"), f"blobs/{key}")
    (tmp_path / key).write_bytes(b"wrong")
    with pytest.raises(WorkbenchError, match="was changed"):
        blobs.copy(key, tmp_path / "job" / "model.onnx")
    assert not blobs.holds(key)


def test_what_was_not_used_for_longest_is_pruned_first(tmp_path):
    blobs, keys = FileCache(tmp_path), []
    for age, content in ((3, b"a" * 100), (9, b"b" * 100), (6, b"c" * 100), (0, b"d" * 100)):
        keys.append(hashlib.sha256(content).hexdigest())
        blobs.take(zip_of(f"blobs/{keys[-1]}", content), f"blobs/{keys[-1]}")
        moment = (tmp_path / keys[-1]).stat().st_mtime - 3600 * age
        os.utime(tmp_path / keys[-1], (moment, moment))
    blobs.prune(250)
    assert [blobs.holds(key) for key in keys] == [True, False, False, True]
    blobs.prune(0)  # what was used within the hour may be in use now
    assert blobs.holds(keys[3])
