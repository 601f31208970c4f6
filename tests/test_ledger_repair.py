"""A damaged ledger is found when it is used, kept aside whole, and what can be read of it is saved."""

import os
import shutil
import sqlite3
import time
import warnings

import pytest

from tests.stores import Note, noted, outputs, program
from workbench.ledger import LEDGER
from workbench.ledger_repair import DamagedLedgerWarning
from workbench.records import Batches
from workbench.workspace import Workspace

COUNT = 2000


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    workspace = Workspace(tmp_path_factory.mktemp("whole"))
    workspace.append_all("batches", ((f"key {n}", Batches(1, 1, n)) for n in range(1, COUNT + 1)))
    return workspace.path / LEDGER


@pytest.fixture
def workspace(whole, tmp_path):
    shutil.copy(whole, tmp_path / LEDGER)
    return Workspace(tmp_path)


def overwrite(file, begin, content):
    with open(file, "r+b") as opened:
        opened.seek(begin)
        opened.write(content)


def aside(workspace):
    return sorted(workspace.path.glob("ledger-damaged-*.sqlite3"))


@pytest.mark.parametrize(
    ("damage", "least"),
    [
        (lambda file, size: overwrite(file, size // 2, os.urandom(4096)), 0.9),
        (lambda file, size: overwrite(file, size // 2 // 4096 * 4096, bytes(8192)), 0.9),
        (lambda file, size: os.truncate(file, size // 2), 0.3),
        (lambda file, size: overwrite(file, 0, os.urandom(4096)), 1.0),
        (lambda file, size: overwrite(file, 0, b"no database"), 1.0),
    ],
    ids=["random bytes", "zeros", "cut off", "no first page", "no header"],
)
def test_what_can_be_read_is_saved_and_the_damaged_file_is_kept(workspace, damage, least):
    file = workspace.path / LEDGER
    damage(file, file.stat().st_size)
    content = file.read_bytes()
    with pytest.warns(DamagedLedgerWarning, match=r"was damaged; it is kept as ledger-damaged-.*were saved"):
        found = [b.max for b in workspace.observations("batches", Batches)]
    assert found == sorted(set(found))
    assert least * COUNT <= len(found) <= COUNT
    assert all(Batches(1, 1, n) == workspace.newest("batches", Batches, f"key {n}") for n in found[::200])
    (kept,) = aside(workspace)
    assert kept.read_bytes() == content
    with warnings.catch_warnings(action="error"):  # it is whole again
        workspace.append("batches", "new", Batches(1, 1, 7))
        assert len(workspace.observations("batches", Batches)) == len(found) + 1
    with sqlite3.connect(file) as checked:
        assert checked.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    checked.close()


def test_a_file_that_never_was_a_ledger_is_kept_aside_and_the_artefacts_live_on(tmp_path):
    workspace = Workspace(tmp_path)
    note = workspace.artefact("note", Note, 1, noted("x"))
    (tmp_path / LEDGER).write_text("no database")
    with pytest.warns(DamagedLedgerWarning, match="0 observations"):
        workspace.append("batches", "a", Batches())
    assert workspace.observations("batches", Batches) == [Batches()]
    assert [kept.read_text() for kept in aside(workspace)] == ["no database"]
    assert workspace.artefact("note", Note, 1, noted("x")) == note


def test_of_processes_that_find_the_damage_at_once_one_repairs_it_and_all_go_on(workspace):
    overwrite(workspace.path / LEDGER, 0, os.urandom(4096))
    outputs([program("append_many", workspace.path, time.time() + 1, 10) for _ in range(3)])
    assert len(workspace.observations("batches", Batches)) == COUNT + 30
    assert len(aside(workspace)) == 1
