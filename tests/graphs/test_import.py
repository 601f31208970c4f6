"""ViTs that torch exported: they come in with names by role and compute what torch computed."""

from collections import Counter

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from tests.graphs.drawn import TINY, draw, scaled
from tests.graphs.onnx_file import logits, parsed
from tests.graphs.references import EXPORTS, VITS
from workbench.errors import WorkbenchError
from workbench.graphs import model_file
from workbench.graphs.import_ import import_onnx
from workbench.graphs.structure.attention import find_attentions
from workbench.graphs.structure.values import array
from workbench.places import place_of
from workbench.records import ModelSpec, Preprocessing

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
    np.testing.assert_allclose(logits(graph.path, images()), torchs_answer(name), rtol=0, atol=1e-4)
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
def test_a_distilled_vit_has_an_extra_token_and_the_spec_says_that_its_second_head_is_left_out(name, imported):
    graph = imported(name)
    assert graph.spec == ModelSpec(name, 32, 8, 16, 2, 2, 32, 10, extra_tokens=1)
    assert any("leaves out: that the head reads more than one token" in note for note in graph.notes)
    heads = [node.name for node in model_file.load(graph.path).graph if node.name.startswith("head")]
    assert len(heads) >= 6  # two products, two biases, their sum and its half


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_what_is_no_vit_comes_in_without_invented_blocks(name, imported):
    graph = imported(name)
    assert graph.spec is None
    assert all(place_of(node.name) is None for node in model_file.load(graph.path).graph)
    assert any("No block of attention and MLP was found" in note for note in graph.notes)


def test_registers_are_extra_tokens_of_the_spec(imported):
    assert imported("registers_legacy").spec == ModelSpec(
        "registers_legacy", 32, 8, 16, 2, 2, 32, 10, extra_tokens=3
    )


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
    model = ir.load(EXPORTS / "fused_dynamo.onnx")
    ir.save(model, tmp_path / "model.onnx", external_data="weights.bin")
    first = import_onnx(tmp_path / "model.onnx", tmp_path / "ws")
    np.testing.assert_allclose(logits(first.path, images()), torchs_answer("fused_dynamo"), rtol=0, atol=1e-4)
    weights = bytearray((tmp_path / "weights.bin").read_bytes())
    weights[:4] = np.float32(0.25).tobytes()
    (tmp_path / "weights.bin").write_bytes(weights)
    assert import_onnx(tmp_path / "model.onnx", tmp_path / "ws").digest != first.digest
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(WorkbenchError, match="cannot be read"):
        import_onnx(tmp_path / "model.onnx", tmp_path / "ws")


# ---- attentions that are not quite one ---------------------------------------------------------------------------


RNG = np.random.default_rng(1)
WEIGHTS = {
    name: RNG.standard_normal(shape).astype(np.float32)
    for name, shape in dict(
        kernel=(8, 3, 4, 4), wqkv=(8, 24), wproj=(8, 8), w1=(8, 16), w2=(16, 8), wgated=(8, 8), whead=(8, 5)
    ).items()
}
WEIGHTS |= {"scale": np.ones(8, np.float32), "key_scale": np.full(4, 1.5, np.float32), "root": np.float32(0.5)}
WEIGHTS["causal"] = np.triu(np.full((4, 4), -1e4, np.float32), 1)
SHAPES = {"flat": [0, 8, -1], "heads_last": [0, 0, 3, 2, 4], "heads_first": [0, 0, 2, 3, 4], "back": [0, 0, 8]}
SHAPES = {name: np.array(value) for name, value in {**SHAPES, "one": [1, 1, 1], "first": [0], "token": [1]}.items()}
VIT = """one_block (float[n, 3, 8, 8] pixels) => (float[n, 5] scores) {{
    conv = Conv<strides = [4, 4]>(pixels, kernel)  rows = Reshape(conv, flat)  x = Transpose<perm = [0, 2, 1]>(rows)
    n1 = LayerNormalization(x, scale)  qkv = MatMul(n1, wqkv)  {cut}
    a0, a1, a2 = Split<axis = 0>(apart, one)
    {q} = Squeeze(a0, first)  {k} = Squeeze(a1, first)  {v} = Squeeze(a2, first)  {key}
    kt = Transpose<perm = [0, 1, 3, 2]>(key)  s0 = MatMul(q, kt)  s1 = Mul(s0, root)  {mask}
    p = Softmax<axis = -1>(s)  c = MatMul(p, v)  ct = Transpose<perm = [0, 2, 1, 3]>(c)
    cr = Reshape(ct, back)  o = MatMul(cr, wproj)  x1 = Add(o, x)
    n2 = LayerNormalization(x1, scale)  h = MatMul(n2, w1)  {mlp}
    x2 = Add(x1, f)  m = ReduceMean<keepdims = 0>(x2, token)  scores = MatMul(m, whead) }}"""
USUAL = {
    "cut": "r = Reshape(qkv, heads_last) apart = Transpose<perm = [2, 0, 3, 1, 4]>(r)",
    **{"q": "q", "k": "k", "v": "v", "key": "key = Identity(k)", "mask": "s = Identity(s1)"},
    "mlp": "g = Relu(h) f = MatMul(g, w2)",
}
HEADS_FIRST = dict(cut="r = Reshape(qkv, heads_first) apart = Transpose<perm = [3, 0, 2, 1, 4]>(r)")
GATED = dict(
    mlp="h1, h2 = Split<axis = -1, num_outputs = 2>(h) r2 = Relu(h2) g = Mul(h1, r2) f = MatMul(g, wgated)"
)
MASKED = dict(mask="s = Add(s1, causal)")
KEYS_NORMED = dict(key="key = LayerNormalization(k, key_scale)")


def imported_vit(tmp_path, unusual):
    """A ViT of one block that is written in an unusual way, imported; it computes the same. (graph, its model)."""
    path = tmp_path / "model.onnx"
    onnx.save(parsed(VIT.format(**USUAL | unusual), **WEIGHTS, **SHAPES), path)
    graph = import_onnx(path, tmp_path / "ws")
    x = np.random.default_rng(5).standard_normal((2, 3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(logits(graph.path, x), logits(path, x), rtol=0, atol=1e-4)
    return graph, model_file.load(graph.path)


@pytest.mark.parametrize("unusual", [dict(v="q", q="k", k="v"), HEADS_FIRST, dict(k="q", v="k", q="v")])
def test_columns_of_qkv_are_put_in_the_usual_order(unusual, tmp_path):
    graph, model = imported_vit(tmp_path, unusual)
    assert len(find_attentions(model)) == 1
    split = next(node for node in model.graph if node.op_type == "Split")
    assert split.name == "block00/attention/split"
    assert array(split.inputs[1]).tolist() == [2, 2, 2]
    assert graph.spec is not None


def test_no_spec_describes_a_gated_mlp(tmp_path):
    graph, _ = imported_vit(tmp_path, GATED)
    assert graph.spec is None
    assert "the MLP of block00 is gated" in graph.notes[-1]


@pytest.mark.parametrize("unusual", [MASKED, KEYS_NORMED])
def test_an_attention_that_does_more_keeps_its_nodes_and_gets_its_names(unusual, tmp_path):
    _, model = imported_vit(tmp_path, unusual)
    assert Counter(node.op_type for node in model.graph)["Squeeze"] == 3  # not rewritten
    roles = Counter(place_of(node.name).role for node in model.graph if node.op_type == "MatMul")
    assert roles == {"embedding": 1, "qkv": 1, "scores": 2, "proj": 1, "fc1": 1, "fc2": 1, "head": 1}


# ---- bad input ---------------------------------------------------------------------------------------------------


FLATTEN = "y = Flatten(x)"
IMAGE, ROWS = "float[n,3,8,8]", "float[n,192]"
#: A model that cannot be used, what goes in and comes out of it first, and words of the refusal.
MODELS = {
    "several inputs": (f"{IMAGE} x, {IMAGE} z", f"{ROWS} y", "a = Add(x, z) y = Flatten(a)", "it has 2: x, z"),
    "several outputs": (f"{IMAGE} x", f"{ROWS} y, {IMAGE} z", f"{FLATTEN} z = Relu(x)", "one float32 output"),
    "features for an output": (f"{IMAGE} x", f"{IMAGE} y", "y = Relu(x)", "one row of logits"),
    "an open image size": ("float[n,3,h,w] x", "float[n,c] y", FLATTEN, "one size"),
    "an image that is not square": ("float[n,3,8,6] x", "float[n,144] y", FLATTEN, "square"),
    "one channel": ("float[n,1,8,8] x", "float[n,64] y", FLATTEN, "one channel"),
    "int32 images": ("int32[n,3,8,8] x", "int32[n,192] y", FLATTEN, "float32 or uint8 images"),
    "logits of whole numbers": ("uint8[n,3,8,8] x", "uint8[n,192] y", FLATTEN, "one float32 output"),
    "quantized weights": (
        f"{IMAGE} x",
        f"{ROWS} y",
        "q = QuantizeLinear(x, s) d = DequantizeLinear(q, s) y = Flatten(d)",
        "quantized already",
    ),
}
FILES = {
    "a text": b"This is no model, only a line of text.\n" * 50,
    "nothing": b"",
    "rubbish": bytes(range(256)) * 20,
    "half a model": (EXPORTS / "fused_dynamo.onnx").read_bytes()[:20_000],
    "an archive": b"PK\x03\x04" + b"\0" * 200,
    "a missing file": None,
}


@pytest.mark.parametrize("case", [*MODELS, *FILES, "a folder"])
def test_what_cannot_be_used_is_refused_with_the_reason_and_a_remedy(case, tmp_path):
    path, words = tmp_path / "model.onnx", "cannot be read as an ONNX model"
    if case in MODELS:
        inputs, outputs, nodes, words = MODELS[case]
        onnx.save(parsed(f"small ({inputs}) => ({outputs}) {{ {nodes} }}", s=np.float32(0.1)), path)
    elif FILES.get(case) is not None:
        path.write_bytes(FILES[case])
    with pytest.raises(WorkbenchError, match=words) as error:
        import_onnx(tmp_path if case == "a folder" else path, tmp_path / "ws")
    assert error.value.remedy
    assert not list((tmp_path / "ws").rglob("*.onnx"))


def test_a_preprocessing_of_another_size_is_refused(tmp_path):
    with pytest.raises(WorkbenchError, match="images of 32 pixels"):
        import_onnx(EXPORTS / "fused_dynamo.onnx", tmp_path, preprocessing=Preprocessing(224))


def test_a_graph_without_a_trained_head_and_a_scale_of_torchs_are_noted(tmp_path):
    blind = draw(tmp_path, edit=scaled({"head/kernel": 0}))
    torch = Preprocessing(TINY.image_size, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    notes = import_onnx(blind.path, tmp_path / "w", preprocessing=torch).notes
    assert any("does not depend on the image" in note for note in notes)
    assert any("0…1 scale" in note and "mean (123.67, 116.28, 103.53)" in note for note in notes)
    seeing = draw(tmp_path, seed=1)
    notes = import_onnx(seeing.path, tmp_path / "w", preprocessing=Preprocessing(TINY.image_size)).notes
    assert not any("depend on the image" in note or "scale" in note for note in notes)
