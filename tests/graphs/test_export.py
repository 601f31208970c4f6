"""The export: what it promises about the graph, and what it refuses."""

import dataclasses

import jax
import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.graphs.onnx_file import logits
from tests.graphs.references import answers, checkpoint
from workbench.errors import Cancelled, WorkbenchError
from workbench.graphs import export, model_file, parity
from workbench.graphs.canonical import clean
from workbench.graphs.export import export_onnx
from workbench.graphs.structure.values import array
from workbench.records import Preprocessing


def images_of(count, size=32):
    return np.random.default_rng(3).uniform(-1, 1, (count, size, size, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return export_onnx(*checkpoint("token"), tmp_path_factory.mktemp("exported"))


def test_an_export_has_an_open_batch_and_parity_on_64_real_images_in_batches_of_1_and_7(graph):
    model = onnx.load(graph.path)
    shapes = {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"images": ["batch", 32, 32, 3], "logits": ["batch", 10]}
    assert [entry.domain for entry in model.opset_import] == [""]
    assert (graph.batch, graph.classes, graph.opset, graph.notes) == (None, 10, 20, ())
    assert graph.parity.images >= 64
    assert graph.parity.max_abs_error < 1e-4
    assert (graph.parity.batches, graph.parity.agreement) == ((1, 7), 1)


@pytest.mark.parametrize(("kind", "opset"), [("token", 17), ("gap", 23), ("prelogits", 17), ("prelogits", 23)])
def test_the_logits_are_those_of_the_reference(kind, opset, tmp_path):
    images, expected = answers(kind)
    graph = export_onnx(*checkpoint(kind), tmp_path, opset=opset, images=images)
    np.testing.assert_allclose(logits(graph.path, images), expected, rtol=0, atol=1e-4)
    assert (graph.opset, model_file.opset(model_file.load(graph.path))) == (opset, opset)


def test_a_static_batch_is_the_only_one_the_graph_takes(tmp_path):
    images, expected = answers("gap")  # four: the last batch of three is filled up
    graph = export_onnx(*checkpoint("gap"), tmp_path, batch=3, images=images)
    assert (graph.batch, graph.parity.batches, graph.parity.images) == (3, (3,), len(images))
    np.testing.assert_allclose(logits(graph.path, images[:3]), expected[:3], rtol=0, atol=1e-4)
    model = onnx.load(graph.path)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 3


def test_an_export_is_found_again_and_other_arguments_make_another(graph, monkeypatch):
    workspace = graph.path.parents[3]
    spec, params = checkpoint("token")
    monkeypatch.setattr(export, "trace", lambda *_: pytest.fail("exported twice"))
    assert export_onnx(spec, params, workspace) == graph
    with pytest.raises(pytest.fail.Exception, match="exported twice"):
        export_onnx(spec, params, workspace, opset=21)
    changed = {**params, "head": {"kernel": params["head"]["kernel"] * 2, "bias": params["head"]["bias"]}}
    with pytest.raises(pytest.fail.Exception, match="exported twice"):
        export_onnx(spec, changed, workspace)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_parameters_of_another_type_are_exported_in_float32(dtype, tmp_path):
    spec, params = checkpoint("gap")
    params = jax.tree.map(lambda leaf: np.asarray(leaf).astype(dtype), params)
    graph = export_onnx(spec, params, tmp_path, images=images_of(4))
    assert {tensor.data_type for tensor in onnx.load(graph.path).graph.initializer} <= {1, 7}  # float32, int64
    assert graph.parity.max_abs_error < 1e-5


def test_whole_numbers_of_numpy_are_taken_and_the_preprocessing_travels_with_the_graph(tmp_path):
    given = Preprocessing(32, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4), classes=tuple("abcdefghij"))
    arguments = dict(opset=np.int64(17), batch=np.int32(1), preprocessing=given, images=images_of(2))
    graph = export_onnx(*checkpoint("gap"), tmp_path, **arguments)
    assert (graph.opset, graph.batch, graph.preprocessing) == (17, 1, given)


def test_weights_beyond_the_file_limit_lie_beside_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(model_file, "LARGEST_FILE", 1000)
    images, expected = answers("token")
    graph = export_onnx(*checkpoint("token"), tmp_path, images=images)
    data = graph.path.with_name("model.onnx.data")
    assert data.stat().st_size > graph.path.stat().st_size / 4
    np.testing.assert_allclose(logits(graph.path, images), expected, rtol=0, atol=1e-4)
    model = model_file.load(graph.path)
    large = model.graph.initializers["block00/mlp/fc1/weight"].const_value
    assert large.location == "model.onnx.data"


# ---- parity ------------------------------------------------------------------------------------------------------


def test_a_graph_that_computes_something_else_is_refused_and_the_block_named(tmp_path, monkeypatch):
    def spoil(model):
        model, places = real(model)
        weight = model.graph.initializers["block01/mlp/fc2/weight"]
        weight.const_value = ir.tensor(array(weight) * np.float32(1.02), name=weight.name)
        return model, places

    real = clean.clean
    monkeypatch.setattr(clean, "clean", spoil)
    with pytest.raises(WorkbenchError, match="the worst block is block01") as error:
        export_onnx(*checkpoint("token"), tmp_path)
    assert "logits differ by up to" in error.value.why
    assert not list((tmp_path / "artefacts" / "graph").glob("*"))


def test_two_classes_closer_than_the_tolerance_count_as_one():
    expected = np.array([[1.0, 1.00005, 0.0], [1.0, 2.0, 0.0]])
    found = np.array([[1.00006, 1.0, 0.0], [2.1, 2.0, 0.0]])
    assert parity._same_class(found, expected, 1e-4).tolist() == [True, False]


def test_large_logits_are_compared_by_their_size_and_a_note_says_so(tmp_path):
    spec, params = checkpoint("gap")
    head = {"kernel": params["head"]["kernel"] * 1e4, "bias": params["head"]["bias"]}
    graph = export_onnx(spec, {**params, "head": head}, tmp_path, images=images_of(4))
    assert graph.parity.max_abs_error > 1e-4
    assert "parity allows" in graph.notes[0]


# ---- bad input ---------------------------------------------------------------------------------------------------


def spoilt(value):
    """The parameters with one number of the head's bias replaced."""
    params = checkpoint("token")[1]
    bias = np.array(params["head"]["bias"])
    bias[3] = value
    return {**params, "head": {**params["head"], "bias": bias}}


BAD = {
    "a spec that is none": (dict(spec="ViT-B/16"), "given were str"),
    "parameters that are no tree": (dict(params=[1, 2]), "and list"),
    "a parameter that is NaN": (dict(params=spoilt(np.nan)), "head/bias"),
    "a parameter that is infinite": (dict(params=spoilt(-np.inf)), "head/bias"),
    "parameters of another model": (dict(spec_changes=dict(width=32, heads=2)), "expected"),
    "an opset that is too old": (dict(opset=16), "opset"),
    "an opset that is too new": (dict(opset=99), "opset"),
    "an opset in words": (dict(opset="20"), "did you mean 20"),
    "an opset that is no whole number": (dict(opset=20.0), "opset"),
    "a batch of none": (dict(batch=0), "batch of 0"),
    "a negative batch": (dict(batch=-3), "batch of -3"),
    "a batch that is True": (dict(batch=True), "batch of True"),
    "a batch in words": (dict(batch="many"), "batch of 'many'"),
    "a preprocessing of another size": (dict(preprocessing=Preprocessing(64)), "64 pixels"),
    "a preprocessing of another layout": (dict(preprocessing=Preprocessing(32, layout="NCHW")), "NCHW"),
    "images of another size": (dict(images=images_of(1, 16)), r"given was float32 \(1, 16, 16, 3\)"),
    "images that are not float32": (dict(images=np.zeros((1, 32, 32, 3), np.uint8)), "already normalised"),
    "no images": (dict(images=np.zeros((0, 32, 32, 3), np.float32)), "no images"),
    "images with NaN": (dict(images=np.full((1, 32, 32, 3), np.nan, np.float32)), "NaN"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_with_a_remedy_and_leaves_nothing(case, tmp_path):
    arguments, message = dict(BAD[case][0]), BAD[case][1]
    spec, params = checkpoint("token")
    spec = arguments.pop("spec", dataclasses.replace(spec, **arguments.pop("spec_changes", {})))
    params = arguments.pop("params", params)
    with pytest.raises(WorkbenchError, match=message) as error:
        export_onnx(spec, params, tmp_path, **arguments)
    assert error.value.remedy
    assert not list(tmp_path.rglob("*.onnx"))


@pytest.mark.parametrize("stage", ["trace", "clean", "compare"])
def test_a_cancelled_export_leaves_nothing_half_done(stage, tmp_path):
    def progress(at, done, total):
        if at == stage:
            raise Cancelled

    with pytest.raises(Cancelled):
        export_onnx(*checkpoint("gap"), tmp_path, progress=progress)
    assert not list(tmp_path.rglob("*.onnx"))


@pytest.mark.slow
def test_a_model_beyond_2_gib_goes_through_with_external_weights(tmp_path):
    """ViT-H/14 in full width and depth; at 28 pixels, because only the weights are large."""
    from workbench.models.tree import init
    from workbench.models.vit import model_spec

    spec = model_spec("H/14", image_size=28)
    graph = export_onnx(spec, init(spec), tmp_path, images=images_of(2, 28))
    data = graph.path.with_name("model.onnx.data")
    assert data.stat().st_size > 2 << 30
    assert graph.path.stat().st_size < 10 << 20
    assert graph.parity.agreement == 1
