"""Observations are kept in order, and a ledger of an older version is still read."""

import json
import sqlite3
import time
from pathlib import Path

import pytest

from tests.stores import outputs, program
from workbench import ledger
from workbench.ledger import LEDGER, Ledger, Observation, Summary, new_run_id
from workbench.records import Batches, UnknownFieldWarning
from workbench.workspace import SetAsideWarning, Workspace


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "workspace")


@pytest.mark.parametrize("journal", ["WAL", "DELETE"])
def test_observations_come_back_in_order_and_by_key(workspace, monkeypatch, journal):
    monkeypatch.setattr(ledger, "_journal_mode", lambda path: journal)
    assert workspace.observations("batches", Batches) == []
    assert not (workspace.path / LEDGER).exists()
    for number, key in enumerate("abab", start=1):
        workspace.append("batches", key, Batches(1, 1, number))
    workspace.append("other", "a", Batches(1, 1, 9))
    assert [b.max for b in workspace.observations("batches", Batches)] == [1, 2, 3, 4]
    assert [b.max for b in workspace.observations("batches", Batches, "b")] == [2, 4]
    assert workspace.observations("nothing", Batches) == []
    with sqlite3.connect(workspace.path / LEDGER) as found:
        assert found.execute("PRAGMA journal_mode").fetchone() == (journal.lower(),)
    found.close()


def test_observations_that_are_appended_together_are_all_kept_or_none(workspace):
    def records():
        yield "a", Batches(1, 1, 1)
        raise ValueError("the source broke off")

    with pytest.raises(ValueError, match="broke off"):
        workspace.append_all("batches", records())
    assert workspace.observations("batches", Batches) == []
    workspace.append_all("batches", (("a", Batches(1, 1, n)) for n in range(1, 1001)))
    assert [b.max for b in workspace.observations("batches", Batches)] == list(range(1, 1001))
    assert workspace.newest("batches", Batches, "a") == Batches(1, 1, 1000)
    assert workspace.newest("batches", Batches, "b") is None


def test_the_newest_observation_of_each_key_comes_with_its_summary_of_the_version_asked_for(workspace):
    kept, store = Summary("v2", b"12345678", '["x"]'), Ledger(workspace.path)
    assert store.summarised("note", "v2") == [] == store.keys("note")
    assert store.last() == 0
    store.append_all(Observation("run", "note", key, "{}", kept) for key in "aab")
    store.append("run", "note", "c", "{}")
    found = {key: (number, words) for number, key, _, words in store.summarised("note", "v2")}
    assert found == {"a": (2, '["x"]'), "b": (3, '["x"]'), "c": (4, None)}
    assert {words for *_, words in store.summarised("note", "v3")} == {None}
    assert [key for _, key, *_ in store.summarised("note", "v2", ["b", "z"])] == ["b"]
    store.keep([(4, kept)])
    assert {numbers for _, _, numbers, _ in store.summarised("note", "v2")} == {b"12345678"}
    assert (store.keys("note"), store.last(), store.row(4)) == (["a", "b", "c"], 4, ("run", "{}"))


def test_the_newest_row_that_can_be_read_is_the_newest_and_the_one_after_it_is_named(workspace):
    workspace.append("batches", "a", Batches(1, 1, 7))
    Ledger(workspace.path).append("bad run", "batches", "a", "no JSON")
    Ledger(workspace.path).append("bad run", "batches", "b", "[]")
    with pytest.warns(SetAsideWarning, match="bad run"):
        assert workspace.newest_by_key("batches", Batches) == {"a": Batches(1, 1, 7)}


def test_run_ids_differ_and_sort_by_time():
    ids = [new_run_id() for _ in range(100)]
    assert len(set(ids)) == 100
    assert sorted(i.split("-")[0] for i in ids) == [i.split("-")[0] for i in ids]


def test_processes_that_append_at_once_lose_nothing(workspace):
    start = time.time() + 1
    outputs([program("append_many", workspace.path, start, 15) for _ in range(4)])
    found = workspace.observations("batches", Batches)
    assert sorted(b.max for b in found) == sorted([*range(1, 16)] * 4)


def test_a_record_written_by_an_older_version_is_read_and_unknown_fields_are_left_out(workspace):
    workspace.append("batches", "a", Batches(1, 2, 3))
    with sqlite3.connect(workspace.path / LEDGER) as found:
        found.execute("UPDATE observations SET body = ?", (json.dumps({"min": 1, "opt": 2, "gone": 5}),))
    found.close()
    with pytest.warns(UnknownFieldWarning, match="'gone'"):
        assert workspace.observations("batches", Batches) == [Batches(1, 2, 32)]


MOUNTS = r"""
/dev/vda / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/fast xfs rw 0 0
//server/share /mnt/a\040share cifs rw 0 0
host:/ /mnt/box fuse.sshfs rw 0 0
C: /mnt/c 9p rw 0 0
"""


@pytest.mark.parametrize(
    ("mode", "paths"),
    [
        ("WAL", ["/work", "/homestead", "/home/fast/runs"]),
        ("DELETE", ["/home/me/runs", "/mnt/a share/runs", "/mnt/box", "/mnt/c/Users"]),
    ],
)
def test_the_journal_suits_the_file_system(monkeypatch, mode, paths):
    monkeypatch.setattr(Path, "read_text", lambda self: MOUNTS.strip())
    assert {ledger._journal_mode.__wrapped__(Path(path)) for path in paths} == {mode}
