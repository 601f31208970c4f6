"""Files appear whole; what killed processes leave is swept by the next run, and what others still use is not."""

import errno
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.files import disk_errors, held_folder, new_file, read_toml, scratch_folder
from workbench.ledger import new_run_id
from workbench.records import Batches
from workbench.workspace import Workspace

#: What is begun -> a program that begins it in the folder of its argument, and waits.
BEGUN = {
    "a file": "with files.new_file(folder / 'x.npz') as path:\n    path.write_text('half')\n",
    "a draft": "with files.held_folder(folder, '.draft-') as path:\n    (path / 'half').write_text('half')\n",
    "a scratch folder": "with files.scratch_folder() as path:\n    (path / 'half').write_text('half')\n",
    "an engine": "with Workspace(folder).new_folder('engines', 'run') as path:\n"
    "    (path / 'half').write_text('half')\n",
}
#: The same kind of work, begun and ended by the next run.
NEXT = {
    "a file": lambda folder: _finish(new_file(folder / "x.npz")),
    "a draft": lambda folder: _finish(held_folder(folder, ".draft-")),
    "a scratch folder": lambda folder: _finish(scratch_folder()),
    "an engine": lambda folder: _finish(Workspace(folder).new_folder("engines", new_run_id())),
}


def _finish(work):
    with work as path:
        if not path.is_dir():
            path.write_text("whole")


def _begin(code: str, folder: Path) -> subprocess.Popen:
    program = (
        f"import sys, pathlib\nfrom workbench import files\nfrom workbench.workspace import Workspace\n"
        f"folder = pathlib.Path(sys.argv[1])\n{code}    print('begun', flush=True)\n    input()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    return process


def _halves(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and path.read_bytes() == b"half"]


@pytest.mark.parametrize("kind", BEGUN)
def test_what_a_killed_process_left_is_swept_by_the_next_run_and_what_is_in_use_is_not(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    killed, alive = _begin(BEGUN[kind], tmp_path), None
    try:
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        assert len(_halves(tmp_path)) == 1
        alive = _begin(BEGUN[kind].replace("'run'", "'alive'"), tmp_path)
        assert len(_halves(tmp_path)) == 1  # the killed one's is gone
        NEXT[kind](tmp_path)
        assert len(_halves(tmp_path)) == 1  # the living one's is not
        alive.communicate("\n", timeout=30)
        NEXT[kind](tmp_path)
        assert [
            p for p in tmp_path.rglob("*") if p.name.startswith((".held", ".draft", ".unfinished", "vit"))
        ] == []
    finally:
        for process in filter(None, (killed, alive)):
            process.kill()
            process.communicate()


def test_an_engine_whose_process_was_killed_after_its_row_is_kept(tmp_path):
    workspace, run = Workspace(tmp_path), new_run_id()
    (tmp_path / "engines" / run).mkdir(parents=True)
    (tmp_path / "engines" / run / "model.onnx").write_text("whole")
    (tmp_path / "engines" / f".unfinished-{run}").touch()
    workspace.append("engine", "key", Batches(), run)
    with workspace.new_folder("engines", new_run_id()):
        pass
    assert (tmp_path / "engines" / run / "model.onnx").read_text() == "whole"
    assert not (tmp_path / "engines" / f".unfinished-{run}").exists()


def test_a_body_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "x").write_text("old")

    def fail():
        with new_file(tmp_path / "x") as partial:
            partial.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("x", "old")]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.ENAMETOOLONG, errno.EDQUOT])
def test_a_full_or_read_only_temporary_folder_is_an_error_with_a_remedy(number, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    with pytest.raises(WorkbenchError, match="temporary folder") as error, scratch_folder():
        full()
    assert error.value.remedy
    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(WorkbenchError, match="temporary folder"), scratch_folder():
        pass
    with pytest.raises(WorkbenchError, match="work"), disk_errors("The work stops"):
        full()


@pytest.mark.parametrize("content", [b"a = " + b"[" * 10_000, b"\xff", b"a = 1\na = 2", b"a = " + b"9" * 5000])
def test_toml_that_is_none_is_refused(content, tmp_path):
    (tmp_path / "x.toml").write_bytes(content)
    with pytest.raises(WorkbenchError, match=r"x\.toml cannot be read"):
        read_toml(tmp_path / "x.toml", "correct it")
