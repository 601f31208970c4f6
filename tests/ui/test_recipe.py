import pytest

from tests.graphs.drawn import draw
from workbench.records import Calibration, Recipe, Variant
from workbench.ui import recipe_panel

RECIPES = [
    Recipe(),
    Recipe("fp16", exclude=("block02/fc2", "block00")),
    Recipe("int8", "attention", "cpu", "bf16", Calibration("shapes", "dark", "mse", 7, seed=3), smooth=0.37),
    Recipe("int8-dynamic", calibration=Calibration("/photos/mine", samples=200_000), exclude=("block17",)),
]


@pytest.fixture
def graph(tmp_path):
    return draw(tmp_path)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe.label)
def test_a_panel_reads_back_the_recipe_that_it_was_given(graph, tmp_path, recipe):
    assert recipe_panel(graph, tmp_path, recipe).value == recipe


def test_choices_change_the_record_and_going_back_restores_it(graph, tmp_path, control):
    recipe = RECIPES[2]
    panel = recipe_panel(graph, tmp_path, recipe)
    control(panel, "precision").value = "fp8"
    control(panel, "scope").value = "everything"
    control(panel, "high-precision").value = ""
    control(panel, "method").value = "percentile"
    control(panel, "samples").value = 9
    control(panel, "smooth").value = False
    control(panel, "exclude").value = ("block01",)
    calibration = Calibration("shapes", "dark", "percentile", 9, seed=3)
    assert panel.value == Recipe("fp8", "everything", "cpu", None, calibration, None, ("block01",))
    for name, value in [
        ("precision", "int8"),
        ("scope", "attention"),
        ("high-precision", "bf16"),
        ("method", "mse"),
        ("samples", 7),
        ("smooth", True),
        ("exclude", ()),
    ]:
        control(panel, name).value = value
    assert panel.value == recipe


def test_what_has_no_consequence_for_a_precision_is_not_offered(graph, tmp_path, control):
    panel = recipe_panel(graph, tmp_path)
    assert control(panel, "method").layout.display == "none"
    control(panel, "precision").value = "int8"
    assert control(panel, "method").layout.display is None
    assert control(panel, "alpha").layout.display == "none"
    control(panel, "smooth").value = True
    assert control(panel, "alpha").layout.display is None


def test_every_block_and_product_of_the_graph_can_be_excluded(graph, tmp_path, control):
    offered = control(recipe_panel(graph, tmp_path), "exclude").options
    assert len(offered) == 3 + 3 * 5  # three blocks with five products each
    assert "block02/scores" in offered


def test_without_a_click_the_variant_is_made_by_result(graph, tmp_path):
    panel = recipe_panel(graph, tmp_path, Recipe("int8-dynamic"))
    variant = panel.result()
    assert isinstance(variant, Variant)
    assert variant.recipe == panel.value
    assert "opset 20" in panel._outcome.children[0].value


def test_a_wrong_name_to_exclude_appears_with_its_remedy(graph, tmp_path, shown):
    panel = recipe_panel(graph, tmp_path, Recipe("int8-dynamic", exclude=("block17",)))
    with pytest.raises(Exception, match="block17"):
        panel.result()
    assert "block17" in shown(panel)
    assert "What to do" in shown(panel)


def test_the_reason_of_a_backend_that_refuses_a_choice_appears_at_once(graph, tmp_path, control, shown):
    panel = recipe_panel(graph, tmp_path)
    assert "will not take it" not in shown(panel)
    control(panel, "precision").value = "int8-dynamic"
    assert "tensorrt and tensorrt-rtx will not take it: the variant was written for onnxruntime" in shown(panel)
    control(panel, "precision").value = "int8"
    assert "will not take it" not in shown(panel)
    control(panel, "layout").value = "cpu"
    control(panel, "high-precision").value = "bf16"
    assert "The cpu layout cannot have BF16 as its high precision" in shown(panel)


def test_attention_that_a_card_will_not_fuse_is_named_with_the_reason(graph, tmp_path, control, shown):
    panel = recipe_panel(graph, tmp_path, Recipe("fp16"), card="SM86")
    assert "not be fused" not in shown(panel)
    control(panel, "precision").value = "fp32"
    assert "On SM86 the attention of block00, block01, block02 will not be fused: no fused attention" in shown(
        panel
    )
