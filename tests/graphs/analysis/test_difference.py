import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest

import workbench as wb
from tests.graphs.drawn import TINY, draw, jax_parameters
from tests.graphs.onnx_file import error, tensors
from workbench.errors import WorkbenchError
from workbench.graphs.analysis.difference import role_errors
from workbench.places import PLACES

DEEP = dataclasses.replace(TINY, depth=6)


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("deep"), spec=DEEP)


def test_a_graph_does_not_differ_from_itself(deep, pictures):
    difference = wb.diff(deep, deep, pictures)
    assert all(row.error == row.max_abs == 0 for row in difference.rows)
    assert difference.jump is None
    assert difference.agreement == 1
    assert difference.images == len(pictures)


def test_every_block_is_a_row_and_errors_are_those_of_numpy(deep, pictures, tmp_path):
    def change(weights):
        weights["block02/mlp/fc2/kernel"] *= np.float32(1.01)

    other = draw(tmp_path, spec=DEEP, edit=change)
    difference = wb.diff(other, deep, pictures)
    names = ["embedding/output", *(f"block{i:02d}/output" for i in range(6)), "logits"]
    assert [row.output for row in difference.rows] == names
    row = difference.rows[names.index("block04/output")]
    ours, theirs = (tensors(g.path, pictures, "block04/output")[0] for g in (other, deep))
    assert row.error == pytest.approx(error(ours, theirs), rel=1e-3)
    assert row.max_abs == pytest.approx(np.abs(ours - theirs).max(), rel=1e-3)


@pytest.mark.parametrize("block", ["block00", "block03", "block05"])
def test_a_fault_in_a_block_is_where_the_error_jumps(deep, pictures, tmp_path, block):
    def spoil(weights):
        weights[f"{block}/attention/proj/kernel"] *= np.float32(1.2)

    difference = wb.diff(draw(tmp_path, spec=DEEP, edit=spoil), deep, pictures)
    assert difference.jump == f"{block}/output"
    wrong = {row.output for row in difference.rows if row.added > 1e-5}  # later blocks only pass it on
    assert wrong == {f"{block}/output"}
    assert difference.frame().set_index("output").jumps.sum() == 1
    assert block in str(difference)


@pytest.mark.parametrize(
    "recipe",
    [wb.Recipe("fp16"), wb.Recipe("bf16"), wb.Recipe("int8"), wb.Recipe("fp8", scope="attention")],
    ids=lambda r: r.label,
)
def test_rounding_alone_grows_evenly(deep, pictures, shelf, recipe):
    difference = wb.diff(wb.apply_recipe(deep, recipe, shelf, calibration=pictures), deep, pictures)
    assert difference.jump is None
    assert 1e-4 < difference.rows[-1].error < 0.1


def test_a_fault_stands_out_of_the_rounding_of_a_variant_and_so_does_nan(deep, pictures, shelf, tmp_path):
    def spoil(value):
        def edit(weights):
            weights["block03/mlp/fc2/bias_value"] += np.float32(value)

        return draw(tmp_path, spec=DEEP, edit=edit)

    variant = wb.apply_recipe(spoil(1), wb.Recipe("int8"), shelf, calibration=pictures)
    assert wb.diff(variant, deep, pictures).jump == "block03/output"
    assert wb.diff(spoil(np.nan), deep, pictures).jump == "block03/output"


@pytest.mark.parametrize("batch", [1, 5])
def test_a_static_batch_is_compared_image_by_image(deep, pictures, tmp_path, batch):
    static = draw(tmp_path, spec=DEEP, batch=batch)
    difference = wb.diff(static, deep, pictures[:7])
    assert max(max(row.error, row.added) for row in difference.rows) < 1e-6
    assert difference.images == 7


def test_a_graph_is_compared_with_jax_block_by_block(deep, pictures, tmp_path):
    model = jax_parameters(deep)
    difference = wb.diff(deep, model, pictures)
    assert [row.output for row in difference.rows][1:-1] == [f"block{i:02d}/output" for i in range(6)]
    assert all(row.error < 1e-5 for row in difference.rows)
    assert difference.jump is None

    def spoil(weights):
        weights["block02/norm2/scale"] *= np.float32(1.05)

    other = wb.diff(draw(tmp_path, spec=DEEP, edit=spoil), model, pictures)
    assert other.jump == "block02/output"


def test_what_is_no_model_and_models_without_common_names_are_refused(deep, drawn, pictures, tmp_path):
    with pytest.raises(WorkbenchError, match="str"):
        wb.diff(deep, "a name", pictures)
    with pytest.raises(WorkbenchError, match="no images"):
        wb.diff(deep, deep, pictures[:0])
    with pytest.raises(WorkbenchError, match="two JAX models"):
        wb.diff(jax_parameters(deep), jax_parameters(deep), pictures)
    darker = dataclasses.replace(deep, preprocessing=dataclasses.replace(deep.preprocessing, mean=(99.0,) * 3))
    with pytest.raises(WorkbenchError, match=r"preprocessing\.mean"):
        wb.diff(darker, deep, pictures)
    model = onnx.load(deep.path)
    for node in model.graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name.endswith("/output"):
                    names[index] = name.replace("/", "_")
    path = tmp_path / "nameless.onnx"
    onnx.save(model, path)
    with pytest.raises(WorkbenchError, match="only the logits"):
        wb.diff(dataclasses.replace(deep, path=path), deep, pictures)


# ---- by role -----------------------------------------------------------------------------------------------------


def test_the_error_of_a_role_is_that_of_the_last_tensor_it_makes(deep, pictures, tmp_path):
    def change(weights):
        weights["block02/mlp/fc2/kernel"] *= np.float32(1.01)

    other = draw(tmp_path, spec=DEEP, edit=change)
    found = role_errors(other, deep, pictures)
    errors = found.set_index(["block", "role"]).error
    assert list(errors["block01"].index) == list(dict.fromkeys(PLACES.values()))  # in the order of computation
    assert errors["block02", "gelu"] == 0 < errors["block02", "fc2"]
    assert (errors[["block00", "block01"]] == 0).all()
    assert errors["block02", "fc2"] == pytest.approx(0.01, rel=0.05)
    ours, theirs = (tensors(g.path, pictures, "block03/mlp/gelu:out")[0] for g in (other, deep))
    assert errors["block03", "gelu"] == pytest.approx(error(ours, theirs), rel=1e-3)


@pytest.mark.parametrize("recipe", [wb.Recipe("fp16"), wb.Recipe("int8"), wb.Recipe("fp8")], ids=lambda r: r.label)
def test_a_variant_has_the_same_roles_as_its_graph(deep, pictures, shelf, recipe):
    variant = wb.apply_recipe(deep, recipe, shelf, pictures)
    ours, theirs = role_errors(variant, deep, pictures), role_errors(deep, deep, pictures)
    assert ours[["block", "role"]].equals(theirs[["block", "role"]])
    assert (theirs.error == 0).all()
    assert 0 < ours.error.iloc[-1] < 0.5


def test_graphs_without_places_in_common_are_refused(deep, pictures, tmp_path):
    cnn = wb.import_onnx(Path(__file__).parents[1] / "torch_exports" / "cnn.onnx", tmp_path)
    with pytest.raises(WorkbenchError, match="role by role"):
        role_errors(cnn, deep, pictures)
