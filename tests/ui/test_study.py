import numpy as np
import pytest

from tests.graphs.drawn import draw
from workbench.errors import WorkbenchError
from workbench.records import ModelSpec, Recipe
from workbench.studies.estimate import estimate
from workbench.studies.study import Study
from workbench.ui import Grid, study_panel

FP32, INT8 = Recipe(), Recipe("int8-dynamic")


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setattr("workbench.measuring.timing.WINDOW_S", 0.002)  # the warm-up of a model that takes 0.2 ms
    images = np.random.default_rng(0).standard_normal((20, 16, 16, 3)).astype(np.float32)
    given = {"recipes": (FP32, INT8), "images": images, "labels": np.arange(20) % 10, "batches": (1, 4)}
    return Study(draw(tmp_path), tmp_path / "ws", seconds=0.05, **given)


def marks(panel):
    grid = next(c for c in panel.children if "wb-grid" in c._dom_classes)
    shown = [str(getattr(cell, "value", "")) for cell in grid.children]
    return [text.split(">")[1].split("<")[0] for text in shown if "wb-cell-" in text]


def test_ticks_take_rows_and_columns_in_and_out(study, controls, shown):
    grid = Grid((INT8, FP32), (4,))
    assert study_panel(study, grid).value == grid  # in its order
    panel = study_panel(study)
    recipes, batches = controls(panel, "study-recipe"), controls(panel, "study-batch")
    recipes[0].value = False
    batches[1].value = False
    assert panel.value == Grid((INT8,), (1,))
    assert marks(panel) == ["left out", "left out", "to do", "left out"]
    recipes[0].value = True
    batches[1].value = True
    assert panel.value == Grid((FP32, INT8), (1, 4))
    batches[0].value = batches[1].value = False
    assert "The grid has no cells" in shown(panel)
    with pytest.raises(WorkbenchError, match="no cells"):
        Grid((), (1,))


def test_what_was_measured_is_drawn_as_such_and_costs_nothing_again(study, control, controls):
    panel = study_panel(study, Grid((FP32,), (4,)))
    assert "for 1 cell." in control(panel, "estimate").value
    frame = panel.result().frame()
    assert list(frame.execution) == ["executed"]
    assert marks(panel)[0] == "left out"
    assert marks(panel)[1].endswith(" ms")
    assert "measured already" in control(panel, "estimate").value
    controls(panel, "study-recipe")[1].value = True
    assert marks(panel)[3] == "to do"
    assert marks(study_panel(study))[1].endswith(" ms")  # another panel finds it in the ledger


def test_what_was_measured_of_other_weights_or_for_another_time_is_still_to_do(study, tmp_path):
    study.run()
    assert set(marks(study_panel(study))) != {"to do"}
    given = {"recipes": study.recipes, "images": study.images, "labels": study.labels, "batches": study.batches}
    longer = Study(study.graph, study.workspace, **given, seconds=0.06)
    retrained = Study(draw(tmp_path, seed=1), study.workspace, **given, seconds=study.seconds)
    for other in (longer, retrained):
        assert set(marks(study_panel(other))) == {"to do"}


def test_the_estimate_counts_answers_timing_and_files(study, monkeypatch):
    monkeypatch.setattr("workbench.studies.estimate._macs_per_second", lambda: 1e9)
    monkeypatch.setattr("workbench.studies.estimate.EFFICIENCY", 0.5)
    study.graph.__dict__["spec"] = ModelSpec("drawn", 16, 4, 32, 3, 2, 64, 10, classifier="gap")
    host = study.hosts[0]
    cells = [(host, FP32, 1), (host, FP32, 4), (host, INT8, 1)]
    found = estimate(study, cells, [])
    # By hand: 16 tokens; a block has 4 x 32² + 2 x 32 x 64 multiply-accumulates a token in its linear layers and
    # 2 x 16 x 32 in attention; patches 16 x 48 x 32; head 32 x 10.
    macs = 3 * 16 * (4 * 32**2 + 2 * 32 * 64 + 2 * 16 * 32) + 16 * 48 * 32 + 320
    answers = 2 * 20 * macs / 0.5e9
    assert found.seconds == pytest.approx(2 * 5 + answers + 2 * 0.05 * 3)
    size = study.graph.path.stat().st_size
    assert found.disk_bytes == 2 * size + 2 * size / 4
