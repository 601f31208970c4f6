"""Studies on hosts and on a real Dask cluster whose workers stand for hosts by their resources."""

import os
import signal
import sys

import numpy as np
import pytest

import workbench as wb
from tests.tiny import CLASSES, SIZE, Tiny
from workbench.errors import Cancelled, WorkbenchError
from workbench.remote import dispatch
from workbench.remote.host import Host

RECIPES = (wb.Recipe(), wb.Recipe("int8-dynamic"), wb.Recipe("fp16"))


@pytest.fixture
def study(tmp_path):
    tiny = Tiny.of()
    images = np.random.default_rng(1).normal(size=(60, SIZE, SIZE, 3)).astype(np.float32)
    labels = tiny.logits(images).argmax(axis=1)
    labels[::10] = (labels[::10] + 1) % CLASSES
    graph = tiny.graph(tmp_path)

    def make(*names, recipes=RECIPES, command=(sys.executable,)):
        places = [Host(name, "onnxruntime", command, cache=str(tmp_path / "cache")) for name in names]
        given = {"recipes": recipes, "images": images, "labels": labels, "backends": places}
        return wb.Study(graph, tmp_path / "workspace", batches=(1, 8), seconds=0.05, **given)

    return make


@pytest.fixture
def cluster():
    """Makes a cluster of processes from lists of the hosts that each worker stands for, and a client of it."""
    pytest.importorskip("distributed", reason="pip install 'vit-workbench[dask]'")
    from distributed import Client, Nanny, SpecCluster

    opened = []

    def make(*workers):
        spec = {
            index: {"cls": Nanny, "options": {"nthreads": 1, "resources": {name: 1 for name in names}}}
            for index, names in enumerate(workers)
        }
        made = SpecCluster(workers=spec, scheduler={"cls": "distributed.Scheduler", "options": LOOPBACK})
        opened.append(made)
        opened.append(client := Client(made))
        client.wait_for_workers(len(workers))
        return client

    yield make
    for one in reversed(opened):
        one.close()


LOOPBACK = {"host": "127.0.0.1", "port": 0, "dashboard_address": "127.0.0.1:0"}


def test_all_cells_of_an_engine_are_one_job_on_its_host_and_say_where_they_ran(study):
    frame = study("bench", recipes=RECIPES[:2]).run().frame()
    assert set(frame.execution) == {"executed"}
    assert set(frame["where"]) == {"onnxruntime at bench"}
    assert list(frame.top1[:2]) == [0.9, 0.9]
    assert list(frame.drop_points[:2]) == [0, 0]
    assert study("bench", recipes=RECIPES[:2]).run().frame().equals(frame)  # nothing is measured twice


def test_a_host_that_cannot_be_reached_is_a_row_and_is_tried_again(study):
    away = study("away", recipes=RECIPES[:1], command=("no-such-program-here",))
    frame = away.run().frame()
    assert set(frame.execution) == {"refused"}
    assert "no-such-program-here" in frame.reason[0]
    assert away.run().frame().reason.tolist() == frame.reason.tolist()


@pytest.mark.slow
def test_a_cluster_takes_each_job_on_a_worker_of_its_host(study, cluster):
    client = cluster(["t4"], ["l4"])
    frame = study("t4", "l4", recipes=RECIPES[:2]).run(client=client).frame()
    assert set(frame.execution) == {"executed"}
    assert sorted(set(frame["where"])) == ["onnxruntime at l4", "onnxruntime at t4"]
    assert len(frame) == 8


@pytest.mark.slow
def test_the_job_of_a_worker_that_is_killed_in_the_middle_is_done_again_by_another_one(study, cluster, tmp_path):
    from distributed import WorkerPlugin

    class Begun(WorkerPlugin):
        """Notes which worker began which job. (Local, so that workers need not import this file.)"""

        def __init__(self, file):
            self.file = file

        def setup(self, worker):
            self.address = worker.address

        def transition(self, key, start, finish, **more):
            if finish == "executing" and " on " in str(key):
                with open(self.file, "a") as file:
                    file.write(f"{self.address}\t{key}\n")

    def begun():
        """(worker, job) in the order in which jobs began."""
        lines = (tmp_path / "begun").read_text().splitlines() if (tmp_path / "begun").exists() else []
        return [tuple(line.split("\t")) for line in lines]

    client = cluster(["t4"], ["t4"], ["l4"])
    client.register_plugin(Begun(tmp_path / "begun"))
    pids, lost = client.run(os.getpid), []

    def kill_one_at_work(stage, done, total):
        if stage.startswith("cluster") and not lost:
            lost.extend([(worker, job) for worker, job in begun() if " on t4" in job][:1])
            for worker, _ in lost:
                os.kill(pids[worker], signal.SIGKILL)

    frame = study("t4", "l4").run(kill_one_at_work, client=client).frame()
    assert set(frame.execution) == {"executed", "emulated"}
    assert len(frame) == 12
    ((worker, job),) = lost
    assert [other for other, again in begun() if again == job and other != worker]


@pytest.mark.slow
def test_when_the_last_worker_of_a_host_leaves_its_cells_are_rows_and_the_next_run_finishes_them(
    study, cluster, monkeypatch
):
    monkeypatch.setattr(dispatch, "PATIENCE_S", 1.0)
    client = cluster(["t4"], ["l4"])
    leaving = next(a for a, w in client.scheduler_info(n_workers=-1)["workers"].items() if "l4" in w["resources"])
    gone = []

    def retire(stage, done, total):
        if stage.startswith("cluster") and not gone:
            gone.append(client.retire_workers([leaving], close_workers=True))

    frame = study("t4", "l4", recipes=RECIPES[:2]).run(retire, client=client).frame()
    at = frame.set_index("where")
    assert set(at.execution["onnxruntime at t4"]) == {"executed"}
    assert "refused" in set(at.execution["onnxruntime at l4"])
    assert any("left the cluster" in reason for reason in at.reason["onnxruntime at l4"])
    again = study("t4", "l4", recipes=RECIPES[:2]).run(client=cluster(["t4", "l4"])).frame()
    assert set(again.execution) == {"executed"}


def test_a_cluster_without_a_worker_for_a_host_is_refused_with_the_command_that_starts_one(study, cluster):
    with pytest.raises(WorkbenchError, match="stands for h200") as caught:
        study("t4", "h200", recipes=RECIPES[:1]).run(client=cluster(["t4"]))
    assert "--resources" in caught.value.remedy


@pytest.mark.slow
def test_cancelling_takes_the_jobs_off_the_cluster(study, cluster):
    client = cluster(["t4"])

    def cancel(stage, done, total):
        if stage.startswith("cluster"):
            raise Cancelled

    with pytest.raises(Cancelled):
        study("t4").run(cancel, client=client)
    assert set(study("t4").run(client=client).frame().execution) == {"executed", "emulated"}
