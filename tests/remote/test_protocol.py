"""What travels: the part of the package that a host needs, and results that are checked before they are used."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from tests.remote.jobs import measured
from workbench.errors import WorkbenchError
from workbench.records import Batches, Engine, encode
from workbench.remote import protocol
from workbench.remote.host import Host
from workbench.remote.job import EvaluationSet, Job
from workbench.remote.protocol import light_half, safe_name
from workbench.remote.validation import Asked
from workbench.workspace import Workspace


def test_what_travels_is_the_worker_with_its_imports_and_data_and_no_heavy_module():
    names = set(light_half())
    assert {f"workbench/{name}" for name in ("__init__.py", "remote/__init__.py", "remote/worker.py")} <= names
    assert {f"workbench/backends/{name}" for name in ("onnxruntime.py", "hardware/cards.json")} <= names
    heavy = ("models", "graphs", "performance", "studies", "statistics", "reporting", "ui", "cli")
    assert not [name for name in names if name.split("/")[1] in heavy]


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up", "a\\b", ""])
def test_names_that_lead_elsewhere_are_not_safe(name):
    with pytest.raises(WorkbenchError):
        safe_name(name)


# ---- a tar of results --------------------------------------------------------------------------------------------


def _tar(folder: Path, name: str, content: bytes | None) -> Path:
    info = tarfile.TarInfo(name)
    if content is None:
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    else:
        info.size = len(content)
    with tarfile.open(folder / "answer.tar", "w") as tar:
        tar.addfile(info, io.BytesIO(content or b""))
    return folder / "answer.tar"


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "engine/../../escaped"])
def test_results_that_would_be_written_elsewhere_are_refused(tmp_path, name):
    with pytest.raises(WorkbenchError, match="of the name"):
        protocol.unpack(_tar(tmp_path, name, b"x"), tmp_path / "answer")
    assert not (tmp_path / "escaped").exists()


def test_results_with_links_are_refused(tmp_path):
    with pytest.raises(WorkbenchError, match="not a list of results"):
        protocol.unpack(_tar(tmp_path, "link", None), tmp_path / "answer")


def test_results_that_unpack_to_more_than_was_sent_are_refused(tmp_path):
    """A sparse file is a few bytes that say how many zeros to write; a compressed tar is the same trick."""
    with open(tmp_path / "hole", "wb") as file:
        file.truncate(1 << 40)
    done = subprocess.run(["tar", "-cSf", "sparse.tar", "hole"], cwd=tmp_path, check=False, capture_output=True)
    if done.returncode:
        pytest.skip("this tar packs no sparse files: install GNU tar")
    with pytest.raises(WorkbenchError, match="not a list of results"):
        protocol.unpack(tmp_path / "sparse.tar", tmp_path / "answer")
    with tarfile.open(tmp_path / "small.tar.gz", "w:gz") as tar:
        info = tarfile.TarInfo("zeros")
        info.size = 1 << 20
        tar.addfile(info, io.BytesIO(bytes(1 << 20)))
    with pytest.raises(WorkbenchError, match="cannot be unpacked"):
        protocol.unpack(tmp_path / "small.tar.gz", tmp_path / "again")


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b")])
def test_results_that_hold_a_name_twice_are_refused(tmp_path, names):
    with tarfile.open(tmp_path / "answer.tar", "w") as tar:
        for name in names:
            tar.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(WorkbenchError, match="cannot be unpacked"):
        protocol.unpack(tmp_path / "answer.tar", tmp_path / "answer")


# ---- the report in it --------------------------------------------------------------------------------------------


@pytest.fixture
def answered(tmp_path, tiny):
    """Packs an honest worker's answer with changes to its report, and gives it to the workspace."""
    honest = measured(tmp_path, tiny, Host("here", "onnxruntime")).engine
    asked = Asked(Job(tiny[1], "onnxruntime", Batches()), EvaluationSet(), "box", elsewhere=True)
    home = honest.path.parent

    def answer(change, names=("model.onnx", "nodes.json", "tiny.onnx.data")):
        report = {"engine": encode(honest, lambda path: os.path.relpath(path, home))}
        change(report)
        with tarfile.open(tmp_path / "answer.tar", "w") as tar:
            content = json.dumps(report).encode()
            info = tarfile.TarInfo("report.json")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
            for name in names:
                tar.add(home / name, f"engine/{name}")
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        return protocol.keep_results(asked, tmp_path / "answer.tar", Workspace(tmp_path / "kept"), folder)

    yield answer
    assert len(list((tmp_path / "kept" / "engines").iterdir())) == len(
        Workspace(tmp_path / "kept").observations("engine", Engine)
    )


def test_a_full_disk_here_is_reported_and_leaves_the_workspace_as_it_was(answered, monkeypatch):
    def full(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("workbench.remote.protocol.shutil.copyfile", full)
    with pytest.raises(WorkbenchError, match="cannot be written") as error:
        answered(lambda report: None)
    assert "No space left" in error.value.why


def test_an_honest_report_is_kept(answered):
    assert answered(lambda report: None).engine.path.is_file()


@pytest.mark.parametrize("path", ["../../../outside", "/etc/passwd", "gone.onnx"])
def test_a_report_that_names_a_file_elsewhere_is_refused(tmp_path, answered, path):
    (tmp_path / "outside").write_bytes(b"somebody's file")
    with pytest.raises(WorkbenchError, match="sent no engine"):
        answered(lambda report: report["engine"].update(path=path))


def test_an_engine_that_did_not_come_or_came_with_other_bytes_is_refused(answered):
    with pytest.raises(WorkbenchError, match="sent no engine"):
        answered(lambda report: None, names=())
    with pytest.raises(WorkbenchError, match="damaged engine"):
        answered(lambda report: report["engine"].update(checksums={"model.onnx": "0" * 64}))
    with pytest.raises(WorkbenchError, match="damaged engine"):
        answered(lambda report: report["engine"].update(checksums={"../up": "0"}))


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report.clear(),
        lambda report: report.update(engine=None),
        lambda report: report.update(engine=[1]),
        lambda report: report["engine"].pop("path"),
        lambda report: report["engine"].update(path=5),
        lambda report: report.update(measurements=[{"backend": 1}]),
    ],
)
def test_a_report_that_is_none_is_refused(answered, change):
    with pytest.raises(WorkbenchError, match="cannot be read"):
        answered(change)
