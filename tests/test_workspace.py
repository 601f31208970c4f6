import errno
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.stores import Note, never, noted, outputs, program
from workbench.digests import file_digest
from workbench.errors import Cancelled, WorkbenchError
from workbench.ledger import new_run_id
from workbench.records import Batches, Engine, Graph, Preprocessing, Recipe, Variant
from workbench.workspace import RECORD, Workspace, check_artefact


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


def artefact_folder(note):
    return note.path.parent


def leftovers(workspace):
    return sorted((workspace.path / "artefacts").rglob(".draft-*"))


# ---- artefacts -------------------------------------------------------------------------------------------------


def test_an_artefact_is_made_once_for_the_same_inputs(workspace):
    calls = []
    first = workspace.artefact("note", Note, ["a", 1], noted("hello", calls))
    second = Workspace(workspace.path).artefact("note", Note, ["a", 1], noted("other", calls))
    assert first == second
    assert first.path.read_text() == "hello"
    assert len(calls) == 1


def test_other_inputs_tools_or_kinds_are_other_artefacts(workspace):
    calls = []

    def key_of(kind, inputs, **sources):
        workspace.artefact(kind, Note, inputs, noted("x", calls), **sources)
        return calls[-1]

    keys = {
        key_of("note", "a"),
        key_of("note", "b"),
        key_of("letter", "a"),
        key_of("note", "a", tools=["numpy"]),
        key_of("note", "a", tools=["a-tool-that-nobody-installs"]),
    }
    assert len(keys) == len(calls) == 5


def test_an_artefact_may_hold_folders(workspace):
    def make(folder, key):
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "note.txt").write_text("x")
        return Note(folder / "deep" / "er" / "note.txt")

    note = workspace.artefact("note", Note, 1, make)
    assert note.path.read_text() == "x"
    note.path.write_text("y")
    with pytest.raises(WorkbenchError, match="not what was written"):
        workspace.artefact("note", Note, 1, make)


def flip_a_byte(file):
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def replace_a_word(file):
    file.write_text(file.read_text().replace("hello", "hallo"))


@pytest.mark.parametrize("name", ["note.txt", RECORD])
@pytest.mark.parametrize(
    "damage",
    [
        flip_a_byte,
        replace_a_word,
        Path.unlink,
        lambda file: file.write_text(""),
        lambda file: file.write_text("{}"),
    ],
    ids=["bit", "word", "gone", "emptied", "replaced"],
)
def test_changed_bytes_are_found_and_deleting_the_folder_mends_them(workspace, name, damage):
    note = workspace.artefact("note", Note, 1, noted("hello"))
    damage(artefact_folder(note) / name)
    with pytest.raises(WorkbenchError) as caught:
        workspace.artefact("note", Note, 1, noted("hello"))
    assert str(artefact_folder(note)) in caught.value.remedy
    if name == "note.txt" and note.path.exists():  # a file alone is held against its artefact as well
        with pytest.raises(WorkbenchError, match="not what was written"):
            check_artefact(note.path)
    shutil.rmtree(artefact_folder(note))
    assert workspace.artefact("note", Note, 1, noted("hello")) == note
    check_artefact(note.path)
    shutil.copy(note.path, workspace.path.parent / "note.txt")
    check_artefact(str(workspace.path.parent / "note.txt"))  # of no artefact


@pytest.mark.parametrize("error", [Cancelled(), KeyboardInterrupt(), ValueError("a bug")])
def test_a_maker_that_fails_leaves_nothing(workspace, error):
    def fail(folder, key=None):
        (folder / "half.bin").write_bytes(b"half")
        raise error

    with pytest.raises(type(error)):
        workspace.artefact("note", Note, 1, fail)
    with pytest.raises(type(error)), workspace.new_folder("engines", "run") as folder:
        fail(folder)
    assert [path for path in workspace.path.rglob("*") if path.is_file()] == []
    assert not (workspace.path / "engines" / "run").exists()
    assert workspace.artefact("note", Note, 1, noted("whole")).words == "whole"


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_an_error_of_the_system_while_an_artefact_is_made_has_a_remedy(workspace, number):
    def make(folder, key):
        raise OSError(number, os.strerror(number), "/some/file")

    with pytest.raises(WorkbenchError) as caught:
        workspace.artefact("note", Note, 1, make)
    assert "/some/file" in caught.value.why
    assert caught.value.remedy
    assert leftovers(workspace) == []


def test_an_unfinished_artefact_of_a_killed_process_is_removed_after_a_day(workspace):
    workspace.artefact("note", Note, 1, noted("x"))
    folder = workspace.path / "artefacts" / "note"
    for name, age in ((".draft-old", 25 * 3600), (".draft-new", 60)):
        (folder / name).mkdir()
        os.utime(folder / name, (time.time() - age,) * 2)
    workspace.artefact("note", Note, 2, noted("x"))
    assert [draft.name for draft in leftovers(workspace)] == [".draft-new"]


def test_processes_that_make_the_same_artefact_agree_on_one(workspace):
    start = time.time() + 1
    written = outputs([program("make_slowly", workspace.path, start) for _ in range(4)])
    assert len(set(written)) == 1
    words, content = written[0].split()
    assert words == content
    assert leftovers(workspace) == []


def engine_in(workspace):
    """A graph, its variant and an engine whose files all lie in the workspace."""

    def make(folder, key):
        (folder / "graph.onnx").write_bytes(b"graph")
        return Graph(folder / "graph.onnx", key, 20, Preprocessing(8))

    graph = workspace.artefact("graph", Graph, 1, make)
    variant = workspace.artefact(
        "variant", Variant, 1, lambda folder, key: Variant(graph.path, key, graph, Recipe(), 20, ("onnxruntime",))
    )
    with workspace.new_folder("engines", run_id := new_run_id()) as folder:
        (folder / "engine.bin").write_bytes(b"engine")
        engine = Engine("onnxruntime", folder / "engine.bin", variant, Batches(), run_id, log_path=folder / "log")
        workspace.append("engine", variant.digest, engine, run_id)
    return engine


def test_a_workspace_that_was_moved_finds_all_its_files(workspace, tmp_path):
    engine = engine_in(workspace)
    moved = Workspace(shutil.move(workspace.path, tmp_path / "somewhere" / "else"))
    (found,) = moved.observations("engine", Engine, engine.variant.digest)
    assert found.path.read_bytes() == b"engine"
    assert found.variant.path.read_bytes() == found.variant.graph.path.read_bytes() == b"graph"
    assert found.log_path == moved.path / "engines" / engine.run_id / "log"
    variant = moved.artefact("variant", Variant, 1, lambda folder, key: pytest.fail("made again"))
    assert variant.path.is_relative_to(moved.path)


# ---- a process that is killed ----------------------------------------------------------------------------------


def assert_whole(path, finished):
    """All that was finished is there and whole, and work goes on where it stopped."""
    workspace = Workspace(path)
    appended = [b.max for b in workspace.observations("batches", Batches)]
    reported = [int(line.split()[1]) for line in finished if line.startswith("append")]
    assert appended[: len(reported)] == reported
    assert len(appended) <= len(reported) + 1  # the one in flight may have been committed before it was reported
    for line in finished:
        if line.startswith("artefact"):
            workspace.artefact("note", Note, int(line.split()[1]), never)
    for record in workspace.path.glob(f"artefacts/note/[!.]*/{RECORD}"):
        sums = json.loads(record.read_text())["sha256"]
        assert {name: file_digest(record.parent / name) for name in sums} == sums
    workspace.append("after", "key", Batches())
    workspace.artefact("note", Note, "after", noted("y"))


@pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.slow)])
def test_a_process_killed_at_lines_of_the_workspace_leaves_a_whole_store(tmp_path, step):
    outputs([program("die_at_every_line", tmp_path, step)])
    logs = sorted(tmp_path.glob("*.log"), key=lambda log: int(log.stem))
    finished = [log.read_text().splitlines() for log in logs]
    assert finished[-1] == ["append 1", "artefact 1"]  # the last one was not killed
    assert finished.count([]) > 3
    assert finished.count(["append 1"]) > 3
    for log, lines in zip(logs, finished):
        assert_whole(tmp_path / log.stem, lines)


def finished_when_killed(path, seconds):
    """What a process reported as finished before it was killed so many seconds after its start."""
    process = program("work_for_ever", path)
    assert process.stdout.readline() == "ready\n"
    time.sleep(seconds)
    process.kill()
    reported = process.communicate()[0].splitlines(keepends=True)
    assert process.returncode == -signal.SIGKILL
    return [line.strip() for line in reported if line.endswith("\n")]


FOUR, SIXTY = np.arange(0.01, 0.2, 0.05), np.random.default_rng(0).uniform(0, 0.5, size=60)


@pytest.mark.parametrize("moments", [FOUR, pytest.param(SIXTY, marks=pytest.mark.slow)], ids=["four", "sixty"])
def test_a_process_killed_at_any_time_leaves_a_whole_store(tmp_path, moments):
    for number, seconds in enumerate(moments):
        path = tmp_path / str(number)
        assert_whole(path, finished_when_killed(path, seconds))


# ---- disks that refuse -----------------------------------------------------------------------------------------


def test_a_file_that_cannot_grow_is_refused_and_leaves_the_store_whole(workspace):
    workspace.append("batches", "key", Batches(1, 1, 1))
    (written,) = outputs([program("write_too_much", workspace.path)])
    assert written.count("refused:") == 2
    assert_whole(workspace.path, ["append 1"])
    assert leftovers(workspace) == []


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)], capture_output=True
    )
    if not mounted or mounted.returncode:
        pytest.skip("a small file system cannot be mounted. Remedy: run as root, in a container with CAP_SYS_ADMIN")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_refused_and_leaves_the_store_whole(small_disk):
    workspace = Workspace(small_disk / "w")
    workspace.append("batches", "key", Batches(1, 1, 1))
    workspace.artefact("note", Note, 1, noted("x"))
    with pytest.raises(WorkbenchError) as caught:
        workspace.artefact("note", Note, 2, noted("x" * 2_000_000))
    assert "No space left" in caught.value.why
    assert "free some space" in caught.value.remedy
    with pytest.raises(WorkbenchError, match="full"):
        workspace.append("note", "key", Note(Path("x"), "x" * 2_000_000))
    assert leftovers(workspace) == []
    assert_whole(workspace.path, ["append 1", "artefact 1"])


def test_a_workspace_on_a_read_only_disk_is_read_and_not_written(small_disk):
    workspace = Workspace(small_disk / "w")
    note = workspace.artefact("note", Note, 1, noted("x"))
    workspace.append("batches", "key", Batches(1, 1, 7))
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    workspace = Workspace(small_disk / "w")
    assert workspace.artefact("note", Note, 1, noted("x")) == note
    assert workspace.observations("batches", Batches) == [Batches(1, 1, 7)]
    for refused in (
        lambda: workspace.artefact("note", Note, 2, noted("x")),
        lambda: workspace.append("batches", "key", Batches()),
        lambda: workspace.new_folder("engines", "run").__enter__(),
        lambda: Workspace(small_disk / "another"),
    ):
        with pytest.raises(WorkbenchError):
            refused()


def test_a_workspace_at_the_path_of_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(WorkbenchError, match="cannot be used"):
            Workspace(path)
