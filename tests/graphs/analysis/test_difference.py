import dataclasses

import numpy as np
import pytest

import workbench as wb
from tests.graphs.drawn import TINY, draw, jax_parameters, retouch
from tests.graphs.onnx_file import error, tensors
from tests.graphs.references import EXPORTS
from workbench.errors import WorkbenchError
from workbench.graphs.analysis.role_errors import role_errors
from workbench.places import PLACES

DEEP = dataclasses.replace(TINY, depth=6)
BLOCKS = [f"block{i:02d}" for i in range(DEEP.depth)]


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    return draw(tmp_path_factory.mktemp("deep"), spec=DEEP)


@pytest.fixture
def spoilt(tmp_path):
    """The same graph with one weight multiplied, or something added to it."""

    def make(weight, factor=1.0, added=0.0):
        def edit(weights):
            weights[weight] = weights[weight] * np.float32(factor) + np.float32(added)

        return draw(tmp_path, spec=DEEP, edit=edit)

    return make


def test_a_graph_does_not_differ_from_itself(deep, pictures):
    difference = wb.diff(deep, deep, pictures)
    assert all(row.error == row.max_abs == 0 for row in difference.rows)
    assert (difference.jump, difference.agreement, difference.images) == (None, 1, len(pictures))


def test_every_block_is_a_row_and_errors_are_those_of_numpy(deep, pictures, spoilt):
    other = spoilt("block02/mlp/fc2/kernel", 1.01)
    difference = wb.diff(other, deep, pictures)
    names = ["embedding/output", *(f"{block}/output" for block in BLOCKS), "logits"]
    assert [row.output for row in difference.rows] == names
    row = difference.rows[names.index("block04/output")]
    ours, theirs = (tensors(g.path, pictures, "block04/output")[0] for g in (other, deep))
    assert row.error == pytest.approx(error(ours, theirs), rel=1e-3)
    assert row.max_abs == pytest.approx(np.abs(ours - theirs).max(), rel=1e-3)


@pytest.mark.parametrize("block", ["block00", "block03", "block05"])
def test_a_fault_in_a_block_is_where_the_error_jumps(deep, pictures, spoilt, block):
    difference = wb.diff(spoilt(f"{block}/attention/proj/kernel", 1.2), deep, pictures)
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


def test_a_fault_stands_out_of_the_rounding_of_a_variant_and_so_does_nan(deep, pictures, shelf, spoilt):
    faulty, nan = (spoilt("block03/mlp/fc2/bias_value", added=value) for value in (1, np.nan))
    variant = wb.apply_recipe(faulty, wb.Recipe("int8"), shelf, calibration=pictures)
    assert wb.diff(variant, deep, pictures).jump == wb.diff(nan, deep, pictures).jump == "block03/output"


@pytest.mark.parametrize("batch", [1, 5])
def test_a_static_batch_is_compared_image_by_image(deep, pictures, tmp_path, batch):
    static = draw(tmp_path, spec=DEEP, batch=batch)
    difference = wb.diff(static, deep, pictures[:7])
    assert max(max(row.error, row.added) for row in difference.rows) < 1e-6
    assert difference.images == 7


def test_a_graph_is_compared_with_jax_block_by_block(deep, pictures, spoilt):
    model = jax_parameters(deep)
    difference = wb.diff(deep, model, pictures)
    assert [row.output for row in difference.rows][1:-1] == [f"{block}/output" for block in BLOCKS]
    assert all(row.error < 1e-5 for row in difference.rows)
    assert difference.jump is None
    assert wb.diff(spoilt("block02/norm2/scale", 1.05), model, pictures).jump == "block02/output"


def nameless(graph, nodes):
    """Only the logits keep their name."""
    for node in graph.node:
        for names in (node.input, node.output):
            names[:] = [name.replace("/", "_") if name.endswith("/output") else name for name in names]


def test_what_is_no_model_and_models_without_common_names_are_refused(deep, pictures, tmp_path):
    darker = dataclasses.replace(deep, preprocessing=dataclasses.replace(deep.preprocessing, mean=(99.0,) * 3))
    cnn = wb.import_onnx(EXPORTS / "cnn.onnx", tmp_path)
    for compare, ours, theirs, images, words in (
        (wb.diff, deep, "a name", pictures, "str"),
        (wb.diff, deep, deep, pictures[:0], "no images"),
        (wb.diff, jax_parameters(deep), jax_parameters(deep), pictures, "two JAX models"),
        (wb.diff, darker, deep, pictures, r"preprocessing\.mean"),
        (wb.diff, retouch(deep, tmp_path, nameless), deep, pictures, "only the logits"),
        (role_errors, cnn, deep, pictures, "role by role"),
    ):
        with pytest.raises(WorkbenchError, match=words):
            compare(ours, theirs, images)


# ---- by role -----------------------------------------------------------------------------------------------------


def test_the_error_of_a_role_is_that_of_the_last_tensor_it_makes(deep, pictures, spoilt):
    other = spoilt("block02/mlp/fc2/kernel", 1.01)
    errors = role_errors(other, deep, pictures).set_index(["block", "role"]).error
    roles = [role for role in dict.fromkeys(PLACES.values()) if role != "activation"]  # the MLP has a GELU
    assert list(errors["block01"].index) == roles  # in the order of computation
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
