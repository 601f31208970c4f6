import pytest

import workbench as wb
from tests.graphs.drawn import TINY, draw
from workbench.errors import WorkbenchError
from workbench.studies.choice import choose
from workbench.ui import Limits, engine_sheet, engine_sheet_panel, trade_off_panel


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sheet")
    graph = draw(folder)
    images = wb.images("shapes", count=24, size=TINY.image_size)
    labels = images.labels % TINY.classes
    recipes = [wb.Recipe(name, layout="cpu") for name in ("fp32", "int8-dynamic")]
    given = {"recipes": recipes, "images": images.x, "labels": labels, "batches": (2,), "seconds": 0.05}
    return wb.Study(graph, folder / "ws", **given).run()


def found(sheet, what: str) -> str:
    return sheet.facts.set_index("what").found[what]


def test_a_sheet_leads_from_the_recipe_to_the_bytes(study):
    choice = study.choose(max_drop=100)
    sheet = engine_sheet(choice)
    assert list(dict.fromkeys(sheet.facts.step)) == ["recipe", "engine", "time", "accuracy", "size"]
    assert found(sheet, "what is done to the graph") == choice.row["precision"]
    assert found(sheet, "top-1").endswith("of 24 images")
    assert f"{sheet.measurement.p50_ms:.4g} ms at batch 2" in found(sheet, "one call (median)")
    assert float(found(sheet, "file").split()[0]) == pytest.approx(sheet.measurement.engine_bytes / 2**20, abs=0.06)
    assert set(sheet.times.block) == {f"block{index:02d}" for index in range(TINY.depth)}
    assert (sheet.times.ms > 0).all()


def test_what_a_runtime_does_not_tell_is_said_with_what_to_do(study):
    sheet = engine_sheet(study.choose(max_drop=100))
    assert sheet.fused is None
    (reason,) = sheet.unknown
    assert reason.startswith("Fusion is not known: ")
    assert "What to do: " in reason


def test_the_panel_follows_the_engine_that_the_panel_before_it_takes(study, control):
    limits = trade_off_panel(study, Limits(100.0))
    panel = engine_sheet_panel(limits)
    first = panel.result()
    assert first.engine == limits.result().engine
    texts = " ".join(getattr(part, "value", "") for part in panel._outcome.children[0].children)
    assert "slowest place" in texts
    assert "Fusion is not known" in texts


def test_a_choice_from_a_frame_alone_has_no_engine_to_follow(study):
    with pytest.raises(WorkbenchError, match="knows no engine"):
        engine_sheet(choose(study.frame(), 100.0))
