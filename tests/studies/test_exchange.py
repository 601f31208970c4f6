"""A study leaves one workspace as a file and appears in another one, whole or not at all."""

import json

import pytest

from tests.studies.kill import study
from workbench.cli.commands import main
from workbench.errors import WorkbenchError
from workbench.records import Measurement
from workbench.studies.exchange import export_records, import_records
from workbench.studies.results import study_results
from workbench.studies.summaries import MEASUREMENT
from workbench.workspace import Workspace


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """A study of four cells, and its file."""
    folder = tmp_path_factory.mktemp("far")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("workbench.measuring.timing.WINDOW_S", 0.002)
        done = study(folder).run()
    assert export_records(done.workspace, "study", folder / "orin.jsonl", "orin") == 4
    return done, folder / "orin.jsonl"


def test_a_study_appears_elsewhere_under_the_name_of_its_machine(ran, tmp_path):
    done, file = ran
    assert import_records(tmp_path, file) == "study"
    theirs, ours = study_results(tmp_path, "study").frame(), done.frame()
    assert set(theirs["where"]) == {"onnxruntime at orin"}
    same = ["label", "batch", "p50_ms", "images_per_second", "top1", "drop_points", "run_id"]
    assert theirs[same].equals(ours[same])
    assert study_results(tmp_path, "study").choose(100).measurement.run_id in set(ours.run_id)


def test_several_machines_stand_in_one_table_and_a_second_import_changes_nothing(ran, tmp_path):
    done, file = ran
    export_records(done.workspace, "study", tmp_path / "t4.jsonl", "t4-box")
    here = Workspace(tmp_path / "here")
    for each in (file, tmp_path / "t4.jsonl", file):
        import_records(here, each)
    assert len(here.observations(MEASUREMENT, Measurement)) == 8
    assert sorted(set(study_results(here, "study").frame()["where"])) == [
        "onnxruntime at orin",
        "onnxruntime at t4-box",
    ]


def test_imported_rows_stand_beside_those_of_the_own_study_and_stay_when_it_runs_again(ran, tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.measuring.timing.WINDOW_S", 0.002)
    own = study(tmp_path).run()
    import_records(own.workspace, ran[1])
    assert len(own.frame()) == 8
    assert len(study(tmp_path).run().frame()) == 8
    assert len(own.workspace.observations(MEASUREMENT, Measurement)) == 8  # nothing was measured twice


def changed(lines, number, change):
    data = json.loads(lines[number])
    change(data)
    return [*lines[:number], json.dumps(data), *lines[number + 1 :]]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda lines: lines[:-1], "is not whole"),
        (lambda lines: changed(lines, 2, lambda d: d["measurement"].update(batch=16)), "Line 3 of"),
        (lambda lines: changed(lines, 3, lambda d: d.pop("cell")), "Line 4 of"),
        (lambda lines: [*lines[:2], lines[2][:-40], *lines[3:]], "Line 3 of"),
        (lambda lines: changed(lines, 0, lambda d: d.update(version=9)), "that this version reads"),
        (lambda lines: ["no JSON"], "cannot be read as records"),
        (lambda lines: [], "cannot be read as records"),
    ],
)
def test_a_damaged_file_is_refused_and_nothing_of_it_is_taken(ran, tmp_path, damage, words):
    file = tmp_path / "damaged.jsonl"
    file.write_text("\n".join(damage(ran[1].read_text().splitlines())))
    with pytest.raises(WorkbenchError, match=words):
        import_records(tmp_path / "here", file)
    with pytest.raises(WorkbenchError, match="no study ran there yet"):
        study_results(tmp_path / "here", "study")


def test_the_shell_exports_imports_and_compares(ran, tmp_path, capsys):
    done, _ = ran
    where = ["--workspace", str(done.workspace.path), "--study", "study"]
    assert main(["export-records", str(tmp_path / "l.jsonl"), "--machine", "laptop", *where]) == 0
    assert "4 measurements of 'study'" in capsys.readouterr().out
    assert main(["import-records", str(tmp_path / "l.jsonl"), "--workspace", str(tmp_path / "here")]) == 0
    assert "part of the study 'study'" in capsys.readouterr().out
    assert main(["compare", "int8-dynamic", "fp32 on onnxruntime", "--batch", "8", *where]) == 0
    assert capsys.readouterr().out.startswith("Speed: ")
    assert main(["compare", "int9", "fp32", *where]) == 2
    assert "name one of: fp32 on onnxruntime; int8-dynamic on onnxruntime" in capsys.readouterr().err
