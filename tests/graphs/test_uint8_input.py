"""Graphs that take pixels: what they compute, and that everything behind the export takes them."""

import dataclasses

import numpy as np
import onnx
import pytest

import workbench as wb
from tests.graphs.onnx_file import logits
from tests.graphs.references import checkpoint
from workbench.datasets import normalise
from workbench.errors import WorkbenchError
from workbench.graphs import model_file
from workbench.graphs.analysis.difference import diff
from workbench.graphs.export import export_onnx
from workbench.graphs.quantization.emulation import emulated
from workbench.graphs.structure.values import array
from workbench.models import vit
from workbench.records import Preprocessing


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    """The same model for normalised images and for pixels, and the workspace of both."""
    workspace = tmp_path_factory.mktemp("exported")
    return *(export_onnx(*checkpoint("token"), workspace, input=kind) for kind in ("float32", "uint8")), workspace


def pixels_of(count):
    return np.random.default_rng(5).integers(0, 256, (count, 32, 32, 3), np.uint8)


def test_a_graph_of_pixels_computes_what_jax_computes_of_the_normalised_images(tmp_path):
    spec, params = checkpoint("token")
    pixels = pixels_of(4)
    for given in (None, Preprocessing(32, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))):
        graph = export_onnx(spec, params, tmp_path, input="uint8", preprocessing=given)
        model = onnx.load(graph.path)
        assert model.graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
        assert [node.op_type for node in model.graph.node][:3] == ["Cast", "Sub", "Reshape"]
        assert graph.parity.max_abs_error < 1e-4
        assert graph.preprocessing.input == "uint8"
        plain = given or Preprocessing(32)
        expected = vit.logits(spec, params, normalise(pixels, plain))
        np.testing.assert_allclose(logits(graph.path, pixels), expected, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(normalise(pixels, graph.preprocessing), pixels)


def test_a_graph_of_pixels_differs_from_the_plain_one_in_two_nodes_and_the_weights_of_its_embedding(graphs):
    plain, folded = (model_file.load(each.path).graph for each in graphs[:2])
    assert [node.op_type for node in folded] == ["Cast", "Sub", *(node.op_type for node in plain)]
    added = {node.name for node in folded} - {node.name for node in plain}
    assert added == {"embedding/pixels", "embedding/centred"}
    assert set(folded.initializers) - set(plain.initializers) == {"embedding/centred/mean"}
    changed = {
        name
        for name, value in plain.initializers.items()
        if not np.array_equal(array(value), array(folded.initializers[name]))
    }
    assert [name.startswith("embedding/patches") for name in changed] == [True]


def test_in_fp16_pixels_err_no_more_than_normalised_images(graphs, tmp_path):
    *both, workspace = graphs
    pixels = pixels_of(8)
    expected, errors = logits(both[0].path, normalise(pixels)), []
    for graph, images in zip(both, (normalise(pixels), pixels)):
        variant = emulated(wb.apply_recipe(graph, wb.Recipe("fp16"), workspace), workspace)
        errors.append(np.abs(logits(variant.path, images) - expected).max())
    assert 0 < errors[1] < 2 * errors[0]


def test_pixels_for_a_float_graph_floats_for_one_of_pixels_and_other_inputs_are_refused(tmp_path):
    spec, params = checkpoint("token")
    with pytest.raises(WorkbenchError, match="must be a uint8 array, the pixels"):
        export_onnx(spec, params, tmp_path, input="uint8", images=normalise(pixels_of(2)))
    with pytest.raises(WorkbenchError, match="must be a float32 array, already normalised"):
        export_onnx(spec, params, tmp_path, images=pixels_of(2))
    with pytest.raises(WorkbenchError, match="'uint8'"):
        export_onnx(spec, params, tmp_path, input="int8")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_recipes_calibrate_and_engines_measure_on_pixels(graphs, precision):
    _, graph, workspace = graphs
    recipe = wb.Recipe(precision, layout="cpu", calibration=wb.Calibration(dataset="shapes", samples=8))
    variant = wb.apply_recipe(graph, recipe, workspace)
    engine = wb.build_engine(variant, "onnxruntime", workspace, batches=wb.Batches(1, 4, 4))
    examples = wb.images("shapes", split="evaluation", count=8, preprocessing=preparation(graph))
    assert examples.x.dtype == np.uint8
    found = wb.measure(engine, examples.x, batch=4, seconds=0.01)
    assert (found.images, found.agreement) == (8, found.agreement)
    assert found.agreement >= 0.75
    assert wb.measure(engine, batch=2, seconds=0.01).latencies_s  # on noise
    with pytest.raises(WorkbenchError, match="must be a uint8 array") as error:
        wb.measure(engine, normalise(examples.x), batch=4)
    assert "give the pixels" in error.value.remedy


def preparation(graph):
    return dataclasses.replace(graph.preprocessing, classes=())


def test_the_graph_of_pixels_is_compared_with_jax_and_with_the_plain_one_block_by_block(graphs):
    plain, graph, _ = graphs
    for other in (plain, checkpoint("token")):
        found = diff(graph, other, pixels_of(4))
        assert found.agreement == 1
        assert max(row.error for row in found.rows) < 1e-4


def test_a_graph_of_pixels_is_imported_with_its_blocks_and_its_type(graphs, tmp_path):
    _, graph, _ = graphs
    found = wb.import_onnx(graph.path, tmp_path, preprocessing=Preprocessing(32, antialias=False))
    assert found.preprocessing == graph.preprocessing
    assert dataclasses.replace(found.spec, name="") == dataclasses.replace(graph.spec, name="")
    names = [{node.name for node in model_file.load(each.path).graph} for each in (graph, found)]
    assert names[0] == names[1]
    np.testing.assert_array_equal(logits(found.path, pixels_of(3)), logits(graph.path, pixels_of(3)))


def test_a_study_measures_a_graph_of_pixels(graphs, tmp_path):
    _, graph, _ = graphs
    examples = wb.images("shapes", split="evaluation", count=8, preprocessing=preparation(graph))
    study = wb.Study(
        graph,
        tmp_path,
        recipes=[wb.Recipe("fp32")],
        images=examples.x,
        labels=examples.labels,
        seconds=0.01,
        batches=(2,),
    )
    frame = study.run().frame()
    assert list(frame.execution) == ["executed"]
    assert list(frame.agreement) == [1.0]
