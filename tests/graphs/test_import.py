"""ViTs that torch exported: they come in with names by role and compute what torch computed."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.graphs.references import run
from workbench.errors import WorkbenchError
from workbench.graphs import model_file
from workbench.graphs.import_ import import_onnx
from workbench.graphs.structure.attention import find_attentions
from workbench.graphs.structure.values import array
from workbench.places import place_of
from workbench.records import ModelSpec, Preprocessing

EXPORTS = Path(__file__).parent / "torch_exports"
VITS = (
    "attention_op",
    "distilled_dynamo",
    "distilled_legacy",
    "fused_dynamo",
    "fused_dynamo_static",
    "fused_legacy",
    "library_legacy",
    "masked_dynamo",
    "masked_op",
    "registers_legacy",
    "separate_dynamo",
    "separate_legacy",
    "separate_mean_legacy",
)
#: Dense layers, moves, products, norms and residuals of a canonical block; GELU's nodes are counted apart.
NODES_WITHOUT_GELU = 22
GELU_NODES = {"none": 5, "tanh": 6}


def images():
    """The batch that ``torch_exports/make.py`` gave torch."""
    return np.random.default_rng(0).standard_normal((3, 3, 32, 32)).astype(np.float32)


def torchs_answer(name):
    with np.load(EXPORTS / "expected.npz") as file:
        return file[name]


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    workspace, graphs = tmp_path_factory.mktemp("imported"), {}

    def get(name):
        if name not in graphs:
            graphs[name] = import_onnx(EXPORTS / f"{name}.onnx", workspace)
        return graphs[name]

    return get


@pytest.mark.parametrize("name", [*VITS, "cnn", "mlp"])
def test_an_import_computes_what_torch_computed(name, imported):
    graph = imported(name)
    np.testing.assert_allclose(run(graph.path, images()), torchs_answer(name), rtol=0, atol=1e-4)
    assert graph.parity.max_abs_error < 1e-4
    assert graph.preprocessing.layout == "NCHW"
    assert graph.image_shape == (3, 32, 32)
    model = onnx.load(graph.path)
    assert [model.graph.input[0].name, model.graph.output[0].name] == ["images", "logits"]


@pytest.mark.parametrize("name", VITS)
def test_blocks_and_roles_are_found_by_structure(name, imported):
    graph = imported(name)
    model = model_file.load(graph.path)
    places = [place_of(node.name) for node in model.graph]
    assert None not in places
    for block in ("block00", "block01"):
        count = Counter(place.role for place in places if place.block == block)
        gelu = 1 if graph.opset >= 20 else GELU_NODES["tanh" if name == "distilled_legacy" else "none"]
        assert count.pop("gelu") == gelu
        assert count.total() == NODES_WITHOUT_GELU
        products = {
            place.role
            for node, place in zip(model.graph, places)
            if node.op_type == "MatMul" and place.block == block
        }
        assert products == {"qkv", "scores", "proj", "fc1", "fc2"}
    outside = {place.role for place in places if place.block is None}
    assert outside == {"embedding", "norm", "pool", "head"}
    tensors = {value.name for node in model.graph for value in node.outputs}
    assert {"embedding/output", "block00/output", "block01/output", "norm/output"} <= tensors


@pytest.mark.parametrize("name", [name for name in VITS if not name.startswith(("distilled", "registers"))])
def test_the_spec_is_read_off_the_graph(name, imported):
    classifier = "gap" if "mean" in name else "token"
    assert imported(name).spec == ModelSpec(name, 32, 8, 16, 2, 2, 32, 10, classifier)


@pytest.mark.parametrize("name", ["distilled_dynamo", "distilled_legacy"])
def test_a_distilled_vit_has_blocks_but_no_spec(name, imported):
    graph = imported(name)
    assert graph.spec is None
    assert any("No ModelSpec describes this model" in note for note in graph.notes)
    heads = [node.name for node in model_file.load(graph.path).graph if node.name.startswith("head")]
    assert len(heads) >= 6  # two products, two biases, their sum and its half


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_what_is_no_vit_comes_in_without_invented_blocks(name, imported):
    graph = imported(name)
    assert graph.spec is None
    assert all(place_of(node.name) is None for node in model_file.load(graph.path).graph)
    assert any("No block of attention and MLP was found" in note for note in graph.notes)


def test_a_static_batch_is_kept(imported):
    assert imported("fused_dynamo_static").batch == 3
    assert imported("fused_dynamo").batch is None


def test_the_preprocessing_is_the_models_own_and_a_guess_is_called_one(imported, tmp_path):
    assert any("cannot be read off a file" in note for note in imported("fused_dynamo").notes)
    given = Preprocessing(32, keep_aspect=True, mean=(123.7, 116.3, 103.5), std=(58.4, 57.1, 57.4))
    graph = import_onnx(EXPORTS / "fused_dynamo.onnx", tmp_path, preprocessing=given)
    assert graph.preprocessing.mean == given.mean
    assert graph.preprocessing.layout == "NCHW"
    assert graph.notes == ("The model takes NCHW images; the given preprocessing makes NHWC.",)


def test_an_import_is_found_again_and_follows_the_files_bytes(tmp_path):
    source = tmp_path / "model.onnx"
    source.write_bytes((EXPORTS / "fused_dynamo.onnx").read_bytes())
    first = import_onnx(source, tmp_path / "ws")
    assert import_onnx(source, tmp_path / "ws") == first
    source.write_bytes((EXPORTS / "fused_legacy.onnx").read_bytes())
    assert import_onnx(source, tmp_path / "ws").digest != first.digest


def test_external_weights_come_along_and_count_in_the_digest(tmp_path):
    import onnx_ir as ir

    model = ir.load(EXPORTS / "fused_dynamo.onnx")
    ir.save(model, tmp_path / "model.onnx", external_data="weights.bin")
    first = import_onnx(tmp_path / "model.onnx", tmp_path / "ws")
    np.testing.assert_allclose(run(first.path, images()), torchs_answer("fused_dynamo"), rtol=0, atol=1e-4)
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[:4] = np.float32(0.25).tobytes()
    (tmp_path / "weights.bin").write_bytes(weights)
    assert import_onnx(tmp_path / "model.onnx", tmp_path / "ws").digest != first.digest
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(WorkbenchError, match="cannot be read"):
        import_onnx(tmp_path / "model.onnx", tmp_path / "ws")


# ---- attentions that are not quite one ---------------------------------------------------------------------------


def vit(tmp_path, *, order=(0, 1, 2), scores=(), heads_first=True, mask=False, norm_keys=False, gated=False):
    """One block whose attention is written in an unusual way; (path, model)."""
    rng = np.random.default_rng(1)
    size, width, heads = 4, 8, 2
    weights = {
        "kernel": rng.standard_normal((width, 3, 4, 4)),
        "scale": np.ones(width),
        "wqkv": rng.standard_normal((width, 3 * width)),
        "wproj": rng.standard_normal((width, width)),
        "w1": rng.standard_normal((width, 16)),
        "w2": rng.standard_normal((8 if gated else 16, width)),
        "whead": rng.standard_normal((width, 5)),
        "mask": np.triu(np.full((size, size), -1e4), 1),
        "root": np.array(size**-0.5),
        "key_scale": np.full(size, 1.5),
    }
    shapes = {
        "flat": [0, width, -1],
        "cut": [0, 0, 3, heads, width // heads] if heads_first else [0, 0, heads, 3, width // heads],
        "back": [0, 0, width],
        "one": [1, 1, 1],
        "first": [0],
        "tokens": [1],
    }
    nodes, count = [], iter(range(1000))

    def op(kind, *inputs, outputs=1, **attributes):
        names = [f"v{next(count)}" for _ in range(outputs)]
        nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names[0] if outputs == 1 else names

    x = op("Transpose", op("Reshape", op("Conv", "pixels", "kernel", strides=[4, 4]), "flat"), perm=[0, 2, 1])
    y = op("MatMul", op("LayerNormalization", x, "scale"), "wqkv")
    y = op("Transpose", op("Reshape", y, "cut"), perm=[2, 0, 3, 1, 4] if heads_first else [3, 0, 2, 1, 4])
    parts = [op("Squeeze", part, "first") for part in op("Split", y, "one", outputs=3, axis=0)]
    q, k, v = (parts[i] for i in order)
    k = op("LayerNormalization", k, "key_scale") if norm_keys else k
    s = op("Mul", op("MatMul", q, op("Transpose", k, perm=[0, 1, 3, 2])), "root")
    s = op("Add", s, "mask") if mask else s
    y = op("MatMul", op("Softmax", s, axis=-1), v)
    y = op("MatMul", op("Reshape", op("Transpose", y, perm=[0, 2, 1, 3]), "back"), "wproj")
    x = op("Add", y, x)
    y = op("MatMul", op("LayerNormalization", x, "scale"), "w1")
    gate, y = op("Split", y, outputs=2, axis=-1, num_outputs=2) if gated else (None, y)
    y = op("MatMul", op("Mul", gate, op("Relu", y)) if gated else op("Relu", y), "w2")
    x = op("ReduceMean", op("Add", x, y), "tokens", keepdims=0)
    nodes.append(helper.make_node("MatMul", [x, "whead"], ["scores"]))
    used = {name for node in nodes for name in node.input}
    constants = {k: v.astype(np.float32) for k, v in weights.items()} | {k: np.array(v) for k, v in shapes.items()}
    graph = helper.make_graph(
        nodes,
        "unusual",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.mark.parametrize("unusual", [dict(order=(2, 0, 1)), dict(heads_first=False), dict(order=(1, 2, 0))])
def test_columns_of_qkv_are_put_in_the_usual_order(unusual, tmp_path):
    path = vit(tmp_path, **unusual)
    graph = import_onnx(path, tmp_path / "ws")
    model = model_file.load(graph.path)
    assert len(find_attentions(model)) == 1
    split = next(node for node in model.graph if node.op_type == "Split")
    assert split.name == "block00/attention/split"
    assert array(split.inputs[1]).tolist() == [2, 2, 2]
    x = np.random.default_rng(5).standard_normal((2, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(run(graph.path, x), run(path, x), rtol=0, atol=1e-4)
    assert graph.spec is not None


def test_no_spec_describes_a_gated_mlp(tmp_path):
    graph = import_onnx(vit(tmp_path, gated=True), tmp_path / "ws")
    assert graph.spec is None
    assert "the MLP of block00 is gated" in graph.notes[-1]


@pytest.mark.parametrize("unusual", [dict(mask=True), dict(norm_keys=True)])
def test_an_attention_that_does_more_keeps_its_nodes_and_gets_its_names(unusual, tmp_path):
    path = vit(tmp_path, **unusual)
    graph = import_onnx(path, tmp_path / "ws")
    model = model_file.load(graph.path)
    kinds = Counter(node.op_type for node in model.graph)
    assert kinds["Squeeze"] == 3  # not rewritten
    roles = Counter(place_of(node.name).role for node in model.graph if node.op_type == "MatMul")
    assert roles == {"qkv": 1, "scores": 2, "proj": 1, "fc1": 1, "fc2": 1, "head": 1}
    x = np.random.default_rng(5).standard_normal((2, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(run(graph.path, x), run(path, x), rtol=0, atol=1e-5)


# ---- bad input ---------------------------------------------------------------------------------------------------


def small(inputs, outputs, nodes, opset=20, constants=()):
    values = [
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in side]
        for side in (inputs, outputs)
    ]
    graph = helper.make_graph(nodes, "small", *values, list(constants))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


FLOAT, IMAGE = TensorProto.FLOAT, ["n", 3, 8, 8]
FLATTEN = helper.make_node("Flatten", ["x"], ["y"])
MODELS = {
    "several inputs": (
        small(
            [("x", FLOAT, IMAGE), ("z", FLOAT, IMAGE)],
            [("y", FLOAT, ["n", 192])],
            [helper.make_node("Add", ["x", "z"], ["s"]), helper.make_node("Flatten", ["s"], ["y"])],
        ),
        "it has 2: x, z",
    ),
    "several outputs": (
        small(
            [("x", FLOAT, IMAGE)],
            [("y", FLOAT, ["n", 192]), ("z", FLOAT, IMAGE)],
            [FLATTEN, helper.make_node("Relu", ["x"], ["z"])],
        ),
        "one float32 output",
    ),
    "features for an output": (
        small([("x", FLOAT, IMAGE)], [("y", FLOAT, IMAGE)], [helper.make_node("Relu", ["x"], ["y"])]),
        "one row of logits",
    ),
    "an open image size": (
        small([("x", FLOAT, ["n", 3, "h", "w"])], [("y", FLOAT, ["n", "c"])], [FLATTEN]),
        "one size",
    ),
    "an image that is not square": (
        small([("x", FLOAT, ["n", 3, 8, 6])], [("y", FLOAT, ["n", 144])], [FLATTEN]),
        "square",
    ),
    "one channel": (small([("x", FLOAT, ["n", 1, 8, 8])], [("y", FLOAT, ["n", 64])], [FLATTEN]), "three channels"),
    "uint8 images": (
        small([("x", TensorProto.UINT8, IMAGE)], [("y", TensorProto.UINT8, ["n", 192])], [FLATTEN]),
        "float32 images",
    ),
    "quantized weights": (
        small(
            [("x", FLOAT, IMAGE)],
            [("y", FLOAT, ["n", 192])],
            [
                helper.make_node("QuantizeLinear", ["x", "s"], ["q"]),
                helper.make_node("DequantizeLinear", ["q", "s"], ["d"]),
                helper.make_node("Flatten", ["d"], ["y"]),
            ],
            constants=[numpy_helper.from_array(np.float32(0.1), "s")],
        ),
        "quantized already",
    ),
}


@pytest.mark.parametrize("case", MODELS)
def test_a_model_that_cannot_be_used_is_refused_with_the_reason(case, tmp_path):
    model, message = MODELS[case]
    onnx.save(model, tmp_path / "model.onnx")
    with pytest.raises(WorkbenchError, match=message) as error:
        import_onnx(tmp_path / "model.onnx", tmp_path / "ws")
    assert error.value.remedy
    assert not list((tmp_path / "ws").rglob("*.onnx"))


FILES = {
    "a text": b"This is no model, only a line of text.\n" * 50,
    "nothing": b"",
    "rubbish": bytes(range(256)) * 20,
    "half a model": (EXPORTS / "fused_dynamo.onnx").read_bytes()[:20_000],
    "an archive": b"PK\x03\x04" + b"\0" * 200,
}


@pytest.mark.parametrize("case", FILES)
def test_a_file_that_is_no_model_is_refused(case, tmp_path):
    (tmp_path / "model.onnx").write_bytes(FILES[case])
    with pytest.raises(WorkbenchError, match="cannot be read as an ONNX model"):
        import_onnx(tmp_path / "model.onnx", tmp_path / "ws")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    for path in (tmp_path / "missing.onnx", tmp_path):
        with pytest.raises(WorkbenchError, match="cannot be read as an ONNX model"):
            import_onnx(path, tmp_path / "ws")


def test_a_preprocessing_of_another_size_is_refused(tmp_path):
    with pytest.raises(WorkbenchError, match="images of 32 pixels"):
        import_onnx(EXPORTS / "fused_dynamo.onnx", tmp_path, preprocessing=Preprocessing(224))
