import nbformat
import pytest

from workbench.errors import WorkbenchError
from workbench.records import SCALARS_MIMETYPE
from workbench.tutorial import notebook_parameters, recorded_scalars, run_notebook, run_notebooks
from workbench.ui.scalars import record


def write_notebook(path, *cells, parameters="count = 2"):
    first = nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[first, *map(nbformat.v4.new_code_cell, cells)])
    notebook.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
    path.write_text(nbformat.writes(notebook))
    return path


RECORD = "from workbench.ui.scalars import record\nrecord(double=2 * count)"


def test_an_unknown_parameter_or_notebook_is_refused_before_anything_runs(tmp_path):
    path = write_notebook(tmp_path / "a.ipynb", RECORD)
    with pytest.raises(WorkbenchError, match="did you mean 'count'"):
        run_notebook(path, tmp_path / "out.ipynb", {"cuont": 3})
    with pytest.raises(WorkbenchError, match="Unknown parameter 'colour'"):
        run_notebooks([path], tmp_path / "out", {"colour": "red"}, screen=False)
    with pytest.raises(WorkbenchError, match="There is no notebook"):
        notebook_parameters(tmp_path / "none.ipynb")
    assert list(tmp_path.iterdir()) == [path]


def test_notebooks_run_in_order_each_with_the_parameters_it_knows_and_give_back_what_they_recorded(tmp_path):
    first = write_notebook(tmp_path / "01.ipynb", "open('order.txt', 'a').write('first ')", RECORD)
    second = write_notebook(
        tmp_path / "02.ipynb",
        "open('order.txt', 'a').write('second')",
        "from workbench.ui.scalars import record\nrecord(word=word)",
        parameters="word = 'plain'",
    )
    results = run_notebooks([first, second], tmp_path / "out", {"word": "given"}, screen=False)
    assert results == {"01": {"double": 4}, "02": {"word": "given"}}
    assert (tmp_path / "order.txt").read_text() == "first second"
    executed = nbformat.read(tmp_path / "out" / "01.ipynb", as_version=4)
    assert recorded_scalars(executed) == {"double": 4}


def test_a_failing_cell_is_an_error_that_names_the_notebook_and_keeps_the_executed_copy(tmp_path):
    path = write_notebook(tmp_path / "bad.ipynb", "1 / 0")
    with pytest.raises(WorkbenchError, match=r"(?s)bad.ipynb stopped in its cell 2.*ZeroDivisionError"):
        run_notebook(path, tmp_path / "out.ipynb")
    assert "ZeroDivisionError" in (tmp_path / "out.ipynb").read_text()


def test_scalars_of_numpy_are_recorded_as_plain_numbers_nan_as_null_and_tables_not_at_all(monkeypatch):
    import numpy as np

    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    given = {"share": np.float32(0.5), "images": np.int64(3), "holds": np.bool_(True), "name": "int8", "none": None}
    record(**given, ratio=float("nan"))
    values = shown[0][SCALARS_MIMETYPE]
    assert values == given | {"ratio": None}
    assert {type(v) for v in values.values()} == {float, int, bool, type(None), str}
    with pytest.raises(WorkbenchError, match="frame cannot be recorded"):
        record(frame=[1, 2])


def test_the_tutorial_runs_every_numbered_notebook_and_reports_the_study_of_07(tmp_path, monkeypatch):
    from tests.studies.kill import study
    from workbench import tutorial

    for name in ("08_deploy", "00_start", "07_trade_offs"):
        parameters = "name = 'study'\nmax_drop = 50\nmax_latency_ms = 0\nworkspace = ''"
        write_notebook(tmp_path / f"{name}.ipynb", parameters=parameters)
    write_notebook(tmp_path / "scratch.ipynb")

    def run(paths, out, parameters):
        assert [path.stem for path in paths] == ["00_start", "07_trade_offs", "08_deploy"]
        assert parameters == {"max_drop": 60, "workspace": str(tmp_path / "workspace")}
        study(tmp_path).run()
        out.mkdir()
        for path in paths:
            executed = nbformat.read(write_notebook(out / path.name), as_version=4)
            executed.metadata["papermill"] = {"duration": 2.4}
            nbformat.write(executed, out / path.name)

    monkeypatch.setattr(tutorial, "run_notebooks", run)
    text = tutorial.run_tutorial(tmp_path / "runs", tmp_path / "workspace", {"max_drop": 60}, tmp_path)
    assert "int8-dynamic" in text
    assert "at most 60 points lost" in " ".join(text.split())
    assert "7 s; 00 2 s, 07 2 s, 08 2 s" in text
    assert str(tmp_path / "runs" / "report.html") in text
    assert (tmp_path / "runs" / "report.html").exists()


def test_a_folder_without_the_tutorial_is_refused_before_anything_runs(tmp_path):
    from workbench.tutorial import run_tutorial

    write_notebook(tmp_path / "00_start.ipynb")
    with pytest.raises(WorkbenchError, match="There is no tutorial"):
        run_tutorial(tmp_path / "runs", tmp_path / "workspace", notebooks=tmp_path)
    assert not (tmp_path / "runs").exists()


def test_the_tutorial_is_the_notebooks_00_to_08():
    from pathlib import Path

    from workbench.tutorial import NUMBERED, STUDY

    stems = sorted(path.stem for path in (Path(__file__).parents[1] / "notebooks").glob(NUMBERED))
    assert [stem[:2] for stem in stems] == [f"{number:02d}" for number in range(9)]
    assert STUDY in stems
