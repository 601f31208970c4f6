import sys

import pytest

from tests.graphs.drawn import draw
from workbench import apply_recipe, build_engine
from workbench.errors import Cancelled, WorkbenchError
from workbench.records import Batches, Engine, Recipe
from workbench.ui import Build, engine_panel, engine_table, recipe_panel


@pytest.fixture
def variant(tmp_path):
    return apply_recipe(draw(tmp_path), Recipe(), tmp_path / "ws")


BUILD = Build("tensorrt-rtx", "SM86", Batches(2, 4, 5000, exact=(2, 64)), 3)


def test_choices_change_the_record_and_going_back_restores_it(variant, tmp_path, control):
    assert engine_panel(variant, tmp_path / "ws").value == Build()
    panel = engine_panel(variant, tmp_path / "ws", BUILD)
    assert panel.value == BUILD
    control(panel, "card").value = ""
    control(panel, "batch-opt").value = 8
    control(panel, "backend").value = "onnxruntime"
    assert panel.value == Build("onnxruntime", None, Batches(2, 8, 5000, exact=(2, 64)), 3)
    control(panel, "card").value = " SM86"
    control(panel, "batch-opt").value = 4
    control(panel, "backend").value = "tensorrt-rtx"
    assert panel.value == BUILD


def test_the_engine_is_built_and_its_row_appears(variant, tmp_path):
    panel = engine_panel(variant, tmp_path / "ws", Build(batches=Batches(1, 2, 4)))
    engine = panel.result()
    assert isinstance(engine, Engine)
    assert engine.batches == Batches(1, 2, 4)
    assert engine.run_id in panel._outcome.children[0].value
    assert list(engine_table(tmp_path / "ws").run) == [engine.run_id]


def test_a_panel_over_a_recipe_panel_builds_and_advises_on_what_is_chosen_there(tmp_path, control, shown):
    recipe = recipe_panel(draw(tmp_path), tmp_path / "ws", Recipe("int8-dynamic"))
    build, advise = (engine_panel(recipe, tmp_path / "ws", b) for b in (None, Build("tensorrt-rtx", "SM86")))
    recipe.result()
    assert "the variant was written for onnxruntime" in shown(advise)
    assert build.result().variant.recipe.precision == "int8-dynamic"
    control(recipe, "precision").value = "fp32"
    assert "the variant was written for onnxruntime" not in shown(advise)
    assert build.result().variant.recipe.precision == "fp32"


def test_what_a_backend_refuses_appears_as_soon_as_it_is_chosen(variant, tmp_path, control, shown):
    panel = engine_panel(variant, tmp_path / "ws")
    assert "What to do" not in shown(panel)
    control(panel, "card").value = "T4"
    assert "a card was named (T4), and ONNX Runtime computes on the CPU here" in shown(panel)
    assert "leave card out" in shown(panel)
    control(panel, "card").value = ""
    control(panel, "batch-min").value = 9
    assert "Batches must be ordered" in shown(panel)
    with pytest.raises(WorkbenchError, match="must be ordered"):
        panel.result()
    control(panel, "batch-min").value = 1
    control(panel, "batch-exact").value = "1, eight"
    assert "Batches.exact must be whole numbers within the range" in shown(panel)


@pytest.mark.slow
def test_a_host_of_the_workspace_can_be_chosen_and_builds_in_its_own_process(variant, tmp_path, control):
    host = f'[other-python]\nbackend = "onnxruntime"\ncommand = ["{sys.executable}"]\n'
    (tmp_path / "ws" / "hosts.toml").write_text(host)
    panel = engine_panel(variant, tmp_path / "ws", Build("other-python", batches=Batches(1, 2, 4)))
    assert control(panel, "card").disabled
    assert panel.value == Build("other-python", batches=Batches(1, 2, 4))
    engine = panel.result()
    assert (engine.backend, engine.batches) == ("onnxruntime", Batches(1, 2, 4))
    assert engine.run_id in panel._outcome.children[0].value


def test_a_build_that_is_cancelled_half_way_leaves_no_folder_and_no_entry(variant, tmp_path):
    def work(build, progress):
        def cancel_half_way(stage, done, total):
            if done:
                panel.cancel()
            progress(stage, done, total)

        return build_engine(variant, build.backend, tmp_path / "ws", progress=cancel_half_way)

    panel = engine_panel(variant, tmp_path / "ws", work=work)
    with pytest.raises(Cancelled):
        panel.result()
    assert list((tmp_path / "ws" / "engines").iterdir()) == []
    assert engine_table(tmp_path / "ws").empty
