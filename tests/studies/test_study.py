import contextlib
import dataclasses
import itertools

import numpy as np
import pytest

import workbench as wb
from tests.studies.conftest import SIZE
from workbench.backends.hardware.load import Load, Watch
from workbench.errors import Cancelled, Refusal, WorkbenchError
from workbench.measuring.timing import rounds_in
from workbench.records import Engine, Measurement
from workbench.remote.job import run_job
from workbench.studies import runner
from workbench.studies.plan import MEASUREMENT, PLAN, Cell, Plan
from workbench.studies.results import study_results
from workbench.studies.round_store import ROUNDS, TakenRounds


@pytest.fixture
def study(graph, recipes, images, labels, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.measuring.timing.WINDOW_S", 0.002)  # the warm-up of a model that takes 20 µs

    def make(*precisions, graph=graph, **arguments):
        grid = [wb.Recipe(p) for p in precisions or ("fp32", "int8-dynamic")]
        given = {"recipes": grid, "images": images, "labels": labels, "seconds": 0.05, "batches": (1, 8)}
        return wb.Study(graph, tmp_path / "workspace", **(given | arguments))

    return make


def taken(workspace):
    """How many rounds are in the ledger."""
    return sum(len(one.rounds) for one in workspace.observations(ROUNDS, TakenRounds))


def measurements(study):
    return study.workspace.observations(MEASUREMENT, Measurement)


def test_a_study_measures_every_cell_and_knows_the_drop_against_fp32_on_the_same_images(study, labels):
    ran = study().run()
    frame = ran.frame()
    assert list(zip(frame.label, frame.batch)) == list(itertools.product(("fp32", "int8-dynamic"), (1, 8)))
    assert set(frame.execution) == {"executed"}
    assert list(frame.top1[:2]) == [0.9, 0.9]  # every tenth label is wrong on purpose
    coarse = frame.iloc[2]
    assert coarse.top1 < 0.9
    assert coarse.drop_points == pytest.approx(100 * (0.9 - coarse.top1))
    assert coarse.drop_points_low < coarse.drop_points < coarse.drop_points_high
    assert (frame.p50_ms > 0).all()
    assert (frame.p50_ms <= frame.p90_ms).all()
    assert (frame.p90_ms <= frame.p99_ms).all()
    assert all(sum(m.end_to_end.calls) == len(m.latencies_s) for m in measurements(ran))
    assert sorted(frame.images_per_second) == sorted(m.images_per_second for m in measurements(ran))
    assert (frame.images_per_second_low <= frame.images_per_second).all()
    assert (frame.images_per_second <= frame.images_per_second_high).all()
    assert not frame.notes.str.contains("derived from latencies").any()
    assert list(frame.speedup[:2]) == [1.0, 1.0]


def test_the_accuracy_of_a_last_short_batch_counts(study, images, labels):
    odd = study("fp32", images=images[:37], labels=labels[:37], batches=(8,)).run().frame()
    assert odd.images[0] == 37
    assert odd.top1[0] == pytest.approx(33 / 37)  # images 0, 10, 20 and 30 have a wrong label


def test_a_second_run_measures_nothing_unless_it_repeats_or_has_other_images(study, images, labels):
    first = study(name="laptop").run()
    assert len(measurements(first)) == 4
    calls, row = first.results().latencies(), first.frame().iloc[0]  # every call that was timed
    assert calls[(calls.label == "fp32") & (calls.batch == 1)].latency_ms.median() == pytest.approx(row.p50_ms)
    assert set(calls.columns) == {"label", "precision", "backend", "batch", "latency_ms"}
    assert study_results(first.workspace.path, "laptop").frame().equals(first.frame())  # found by its name alone
    with pytest.raises(WorkbenchError, match="the studies there are laptop"):
        study_results(first.workspace.path, "desk")
    again = study(name="laptop").run()
    assert len(measurements(again)) == 4
    assert again.frame().equals(first.frame())
    other = study(images=images[:50], labels=labels[:50])
    assert set(other.frame().execution) == {"to do"}
    assert set(other.run().frame().images) == {50}
    repeated = measurements(study().run(repeat=True))
    assert len(repeated) == 12  # what was is kept
    old, new = ({m.run_id for m in some} for some in (repeated[:-4], repeated[-4:]))
    assert len(new - old) == 2  # two engines, built anew


def test_an_engine_far_more_accurate_than_its_fp32_is_refused_as_evidence(study, images, weights):
    its_own_answers = (images.reshape(len(images), -1) @ (np.round(weights * 2) / 2)).argmax(axis=1)
    frame = study(labels=its_own_answers).run().frame().set_index(["label", "batch"])
    assert frame.execution["fp32", 1] == "executed"
    assert frame.top1["fp32", 1] == pytest.approx(52 / 60)
    assert "far more accurate than its own FP32" in frame.reason["int8-dynamic", 8]
    assert frame.execution["int8-dynamic", 8] != "executed"


def test_an_engine_that_a_host_measured_far_above_its_fp32_is_refused_too(study, images, weights, monkeypatch):
    its_own_answers = (images.reshape(len(images), -1) @ (np.round(weights * 2) / 2)).argmax(axis=1)
    monkeypatch.setattr(
        runner, "send", lambda host, job, workspace, evaluation, progress: run_job(job, workspace, evaluation)
    )
    host = wb.Host("far", "onnxruntime", ("python3",))
    frame = study(labels=its_own_answers, backends=(host,)).run().frame().set_index(["precision", "batch"])
    assert frame.execution["fp32", 1] == "executed"
    assert "far more accurate than its own FP32" in frame.reason["int8-dynamic", 8]
    assert frame.execution["int8-dynamic", 8] != "executed"


def test_what_cannot_be_measured_is_a_row_with_reason_and_remedy(study):
    frame = study("fp32", "fp16", "fp8").run().frame().set_index(["label", "batch"])
    assert frame.execution["fp16", 1] == frame.execution["fp8 tensorrt", 8] == "refused"
    assert "written for tensorrt" in frame.reason["fp16", 1]
    assert "fp8 cannot be made: this is a test" in frame.reason["fp8 tensorrt", 1]
    assert frame.remedy["fp8 tensorrt", 1] == "take another"
    assert np.isnan(frame.p50_ms["fp16", 1])


def test_refusals_of_an_earlier_version_are_still_read_from_the_ledger(study):
    idle = study("fp32")
    keyed = idle.request.cell_key("variant", idle.hosts[0], 1)
    cell = Cell(idle.recipes[0], "onnxruntime", 1, "onnxruntime", key=keyed)
    idle.workspace.append(PLAN, "study", Plan("study", idle.request.digest, (cell,)))
    idle.workspace.append("obstacle", keyed, Refusal("the host was away", "start it"))
    row = idle.frame().iloc[0]
    assert (row.execution, row.reason, row.remedy) == ("refused", "the host was away", "start it")


def test_a_static_graph_is_measured_at_its_own_batch_and_the_others_are_refused(study, graph):
    frame = study("fp32", graph=dataclasses.replace(graph, batch=8)).run().frame().set_index("batch")
    assert frame.execution[8] == "executed"
    assert "static batch of 8" in frame.reason[1]


def test_cancelling_at_any_moment_leaves_a_ledger_that_the_next_run_completes(study):
    for moment in (0, 3, 7, 12, 20):
        told = []

        def progress(stage, done, total, told=told, moment=moment):
            told.append(stage)
            if len(told) > moment:
                raise Cancelled

        with pytest.raises(Cancelled):
            study().run(progress)
    assert set(study().run().frame().execution) == {"executed"}
    assert len(measurements(study())) == 4


def test_an_interrupted_cell_goes_on_with_the_rounds_it_has(study):
    class Stop(Exception):
        pass

    def progress(stage, done, total):
        if stage == "batch 8: latency":
            raise Stop

    with pytest.raises(Stop):
        study().run(progress)
    workspace = study().workspace
    assert taken(workspace) == 2 * rounds_in(0.05)  # two engines at batch 1
    study().run()
    assert taken(workspace) == 4 * rounds_in(0.05)
    assert len(workspace.observations(MEASUREMENT, Measurement)) == 4


def test_an_engine_that_was_damaged_between_two_runs_is_built_again(study):
    def progress(stage, done, total):
        if stage == "batch 1: latency":
            raise Cancelled

    with pytest.raises(Cancelled):
        study("fp32").run(progress)
    engine = study("fp32").workspace.observations("engine", Engine)[-1]
    engine.path.write_bytes(engine.path.read_bytes()[:-8] + bytes(8))
    frame = study("fp32").run().frame()
    assert set(frame.execution) == {"executed"}
    assert set(frame.top1) == {0.9}
    assert frame.run_id[0] != engine.run_id


def test_the_engines_of_a_batch_size_are_timed_in_the_same_rounds(study):
    first, second = (m for m in measurements(study(batches=(8,)).run()))
    assert first.rounds[0] == second.rounds[0] == 0
    assert set(first.rounds) == set(second.rounds) == set(range(rounds_in(0.05)))
    assert first.environment["interleaved"] == second.environment["interleaved"]


def test_a_busy_machine_is_noted_in_every_row_that_was_timed_then(study, monkeypatch):
    @contextlib.contextmanager
    def watched():
        watch = Watch()
        yield watch
        watch.load = Load(2, others=1.5, stolen=0.0, clock=1.0)

    monkeypatch.setattr(runner, "watched", watched)
    ran = study(batches=(8,)).run()
    assert ran.frame().notes.str.contains("other processes kept 1.5 of 2 cores busy").all()
    assert [m.environment["other_cores"] for m in measurements(ran)] == [1.5, 1.5]
    assert sum("1.5 of 2 cores" in note for note in wb.compare(*measurements(ran)).notes) == 1


def test_a_speed_up_has_the_interval_of_its_rounds_paired_with_those_of_fp32(study):
    ran = study(batches=(8,)).run()
    assert ran.frame()[["speedup_low", "speedup_high"]].isna().all(axis=None)
    plain, coarse = ran.with_intervals().to_dict("records")
    assert (plain["speedup_low"], plain["speedup_high"]) == (1, 1)
    assert coarse["speedup_low"] < coarse["speedup"] < coarse["speedup_high"]
    found = wb.compare(*reversed(measurements(ran)))
    expected = [coarse["speedup"] * end / found.speedup for end in found.speedup_interval]
    assert [coarse["speedup_low"], coarse["speedup_high"]] == pytest.approx(expected)
    assert ran.results().with_intervals(most=1).equals(ran.frame())


def test_progress_never_goes_back_and_ends_at_the_whole(study):
    told = []
    study("fp32", "int8-dynamic", "fp8").run(lambda stage, done, total: told.append((done, total)))
    assert all(a[0] <= b[0] for a, b in itertools.pairwise(told))
    assert told[-1] == (1000, 1000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"recipes": []}, "The study has no recipes"),
        ({"recipes": ["fp32"]}, "recipes must be a list of Recipes"),
        ({"recipes": wb.Recipe()}, "recipes must be a list of Recipes"),
        ({"backends": "onnxruntime"}, "backends must be a list of names"),
        ({"batches": ()}, "The study has no batches"),
        ({"batches": 8}, "batches must be a list of whole numbers"),
        ({"batches": (1.5,)}, "batches must be a list of whole numbers"),
        ({"batches": (0,)}, "must be a positive whole number"),
        ({"backends": ("onnxrutime",)}, "did you mean 'onnxruntime'"),
        ({"cards": {"tensorrt": "T4"}}, "Unknown backend of the study 'tensorrt'"),
        ({"seconds": 0}, "timed for some seconds"),
        ({"seconds": "2"}, "timed for some seconds"),
        ({"images": np.zeros((60, SIZE, SIZE, 3))}, "must be a float32 array"),
        ({"labels": np.zeros(59, int)}, "labels do not fit the images"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused_at_once(study, arguments, message, tmp_path):
    with pytest.raises(WorkbenchError, match=message):
        study(**arguments)
    assert not (tmp_path / "workspace" / "ledger.sqlite3").exists()


def test_a_choice_is_packed_as_a_bundle_with_its_measurement(study, images, tmp_path):
    choice = study().run().choose(max_drop=100)
    assert choice.engine.variant.digest == choice.row["variant"]
    assert (choice.measurement.recipe, choice.measurement.batch) == (choice.row["recipe"], choice.row["batch"])
    bundle = wb.export_bundle(choice, tmp_path / "bundle", images=images)
    assert wb.verify_bundle(bundle) == []
    assert (bundle / "measurement.json").is_file()
