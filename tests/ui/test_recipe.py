import pytest

from tests.graphs.drawn import draw
from workbench.records import Calibration, Recipe, Variant
from workbench.ui import recipe_panel

RECIPES = [
    Recipe(),
    Recipe("fp16", exclude=("block02/fc2", "block00")),
    Recipe("int8", "attention", "cpu", "bf16", Calibration("shapes", "dark", "mse", 7, seed=3), smooth=0.37),
    Recipe("int8-dynamic", calibration=Calibration("/photos/mine", samples=200_000), exclude=("block17",)),
    Recipe("nvfp4", calibration=Calibration(method="dynamic")),
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
    there = {"precision": "fp8", "scope": "everything", "high-precision": "", "method": "percentile", "samples": 9}
    back = {"precision": "int8", "scope": "attention", "high-precision": "bf16", "method": "mse", "samples": 7}
    for name, value in {**there, "smooth": False, "exclude": ("block01",)}.items():
        control(panel, name).value = value
    calibration = Calibration("shapes", "dark", "percentile", 9, seed=3)
    assert panel.value == Recipe("fp8", "everything", "cpu", None, calibration, None, ("block01",))
    for name, value in {**back, "smooth": True, "exclude": ()}.items():
        control(panel, name).value = value
    assert panel.value == recipe


def test_a_recipe_without_calibration_takes_a_method_where_a_precision_needs_one(graph, tmp_path, control):
    panel = recipe_panel(graph, tmp_path, RECIPES[-1])
    control(panel, "precision").value = "int8"
    assert panel.value == Recipe("int8")
    assert control(panel, "method").layout.display is None
    control(panel, "method").value = "minmax"
    assert panel.value == Recipe("int8", calibration=Calibration(method="minmax"))
    control(panel, "precision").value = "nvfp4"
    assert panel.value == RECIPES[-1]


def test_what_matters_for_a_precision_is_offered_and_any_block_or_product_to_exclude(graph, tmp_path, control):
    panel = recipe_panel(graph, tmp_path)
    offered = control(panel, "exclude").options
    assert len(offered) == 3 + 3 * 5  # three blocks with five products each
    assert "block02/scores" in offered
    assert control(panel, "method").layout.display == "none"
    control(panel, "precision").value = "int8"
    assert control(panel, "method").layout.display is None
    assert control(panel, "alpha").layout.display == "none"
    control(panel, "smooth").value = True
    assert control(panel, "alpha").layout.display is None


def test_without_a_click_the_variant_is_made_by_result(graph, tmp_path):
    panel = recipe_panel(graph, tmp_path, Recipe("int8-dynamic"))
    variant = panel.result()
    assert isinstance(variant, Variant)
    assert variant.recipe == panel.value
    assert "opset 20" in panel._outcome.children[0].value


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
