"""What a recipe makes of a graph: runtimes, names, digests, refusals and notes."""

import dataclasses

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

import workbench as wb
from tests.graphs.drawn import TINY, draw, retouch, scaled
from tests.graphs.onnx_file import File, element_types, error, logits
from tests.graphs.references import EXPORTS
from workbench.dtypes import HALVES
from workbench.errors import WorkbenchError
from workbench.graphs import model_file
from workbench.graphs.quantization import saturation
from workbench.graphs.quantization.emulation import emulated
from workbench.graphs.quantization.recipe import foreseen
from workbench.places import place_of

EVERYWHERE, GPUS, CPU = ("onnxruntime", "tensorrt", "tensorrt-rtx"), ("tensorrt", "tensorrt-rtx"), ("onnxruntime",)
RUNTIMES = [
    (wb.Recipe(), EVERYWHERE),
    (wb.Recipe("fp32", layout="cpu", high_precision="bf16"), EVERYWHERE),
    (wb.Recipe("fp16"), EVERYWHERE),
    (wb.Recipe("bf16"), GPUS),
    (wb.Recipe("int8"), EVERYWHERE),
    (wb.Recipe("int8", scope="attention"), EVERYWHERE),
    (wb.Recipe("int8", scope="everything"), EVERYWHERE),
    (wb.Recipe("int8", high_precision="fp32"), EVERYWHERE),
    (wb.Recipe("int8", high_precision="bf16"), GPUS),
    (wb.Recipe("int8", layout="cpu"), CPU),
    (wb.Recipe("int8-dynamic", high_precision="bf16"), CPU),
    (wb.Recipe("fp8"), GPUS),
    (wb.Recipe("fp8", layout="cpu"), GPUS),
    (wb.Recipe("fp8", high_precision="fp32"), GPUS),
    (wb.Recipe("nvfp4"), GPUS),
    (wb.Recipe("mxfp8", high_precision="bf16"), GPUS),
    (wb.Recipe("w8"), EVERYWHERE),
    (wb.Recipe("w8", layout="cpu"), CPU),
    (wb.Recipe("w4"), EVERYWHERE),
    (wb.Recipe("w4", layout="cpu"), CPU),
    (wb.Recipe("wfp4"), GPUS),
]
#: The numbers of element types in an ONNX file.
ELEMENTS = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


def recipes():
    return pytest.mark.parametrize(("recipe", "runtimes"), RUNTIMES, ids=lambda v: getattr(v, "label", ""))


@recipes()
def test_a_variant_has_the_runtimes_the_type_and_the_names_that_its_record_promises(
    drawn, pictures, shelf, recipe, runtimes
):
    variant, high = wb.apply_recipe(drawn, recipe, shelf, calibration=pictures), recipe.resolved_high_precision
    assert variant.runtimes == runtimes
    if "onnxruntime" in runtimes:
        session = onnxruntime.InferenceSession(variant.path)
        assert np.isfinite(session.run(None, {"images": pictures})[0]).all()
    assert element_types(variant.path)["block00/residual1:out"] == ELEMENTS[high]
    if recipe.scope == "linear" and runtimes != CPU:  # attention computes in the type around it
        predicted = wb.predict_fusion(drawn.spec, recipe, "SM120").attention_type
        assert set(predicted) == {high if high in HALVES else None}
    graph = onnx.load(variant.path).graph
    tensors = {name for node in graph.node for name in node.output}
    assert {"embedding/output", *(f"block{i:02d}/output" for i in range(TINY.depth))} <= tensors
    assert [v.name for v in (*graph.input, *graph.output)] == ["images", "logits"]
    assert all(place_of(node.name) or node.name.startswith("logits/") for node in graph.node)


@pytest.mark.parametrize("opset", [17, 20])
@recipes()
def test_a_variant_is_foreseen_as_it_is_then_made(drawn, drawn17, pictures, shelf, recipe, runtimes, opset):
    graph = drawn if opset == 20 else drawn17
    before, made = foreseen(graph, recipe), wb.apply_recipe(graph, recipe, shelf, calibration=pictures)
    assert (before.runtimes, before.opset) == (made.runtimes, made.opset)


def test_the_same_inputs_find_the_same_file_and_fp32_is_the_graphs_own(drawn, pictures, shelf):
    first = wb.apply_recipe(drawn, wb.Recipe("int8"), shelf, calibration=pictures)
    before = first.path.stat().st_mtime_ns
    assert wb.apply_recipe(drawn, wb.Recipe("int8"), shelf, calibration=pictures.copy()) == first
    assert first.path.stat().st_mtime_ns == before
    assert wb.apply_recipe(drawn, wb.Recipe(), shelf).path == drawn.path


def test_the_digest_covers_graph_recipe_range_of_weights_and_images_where_they_count(
    drawn, drawn17, pictures, tmp_path, monkeypatch
):
    def digest(recipe, graph=drawn, images=pictures):
        return wb.apply_recipe(graph, recipe, tmp_path, calibration=images).digest

    recipes = [wb.Recipe("int8", **fields) for fields in ({}, {"exclude": ("block00",)}, {"scope": "attention"})]
    found = [digest(recipe, graph) for recipe in recipes for graph in (drawn, drawn17)]
    found.append(digest(wb.Recipe("int8"), images=pictures[1:]))
    for saturates in (True, False):
        monkeypatch.setattr(saturation, "saturates", lambda: saturates)  # noqa: B023
        found += [digest(recipe) for recipe in (wb.Recipe("int8", layout="cpu"), wb.Recipe("int8-dynamic"))]
    assert len(set(found)) == len(found)
    for precision in ("fp32", "fp16", "int8-dynamic"):
        assert digest(wb.Recipe(precision)) == digest(wb.Recipe(precision), images=None)


# ---- refusals ----------------------------------------------------------------------------------------------------


def unreadable(content):
    def of(graph, folder):
        (folder / "broken.onnx").write_bytes(content)
        return dataclasses.replace(graph, path=folder / "broken.onnx", digest="broken")

    return of


def made_by(recipe):
    """The graph of which the file of a variant would make one."""

    def of(graph, folder):
        images = np.random.default_rng(0).standard_normal((4, 16, 16, 3)).astype(np.float32)
        variant = wb.apply_recipe(graph, recipe, folder / "made", calibration=images)
        return dataclasses.replace(graph, path=variant.path, digest=variant.digest)

    return of


def foreign(graph, folder):
    """One GELU is an operator that is not ONNX's."""

    def change(proto, nodes):
        nodes["block00/mlp/gelu"].op_type, nodes["block00/mlp/gelu"].domain = "FastGelu", "com.microsoft"
        del nodes["block00/mlp/gelu"].attribute[:]

    return retouch(graph, folder, change, domain="com.microsoft")


def itself(graph, folder):
    return graph


EVERY, ONCE = ("fp32", "fp16", "bf16", "int8-dynamic"), ("fp16", "int8", "int8-dynamic")
NOWHERE = wb.Recipe("int8", calibration=wb.Calibration(dataset="/nowhere/photos"))
BF16_ON_CPU = wb.Recipe("int8", layout="cpu", high_precision="bf16")
#: What is given for a graph, for recipes, and words of the refusal.
REFUSALS = {
    "an empty file": (unreadable(b""), EVERY, r"broken\.onnx"),
    "a text": (unreadable(b"not a model"), EVERY, r"broken\.onnx"),
    "rubbish": (unreadable(b"\x08\x0a" * 50), EVERY, r"broken\.onnx"),
    "a path": (lambda graph, folder: graph.path, EVERY, "applied to a Graph"),
    "a variant": (lambda graph, folder: foreseen(graph, wb.Recipe("fp16")), EVERY, "applied to a Graph"),
    "nothing": (lambda graph, folder: None, EVERY, "applied to a Graph"),
    "no recipe": (itself, [None], "by a Recipe"),
    "a quantized graph": (made_by(wb.Recipe("int8", layout="cpu")), ONCE, "quantized already"),
    "a graph in 16 bits": (made_by(wb.Recipe("fp16")), ONCE, "16 bits already"),
    "an operator that is not ONNX's": (foreign, ["fp16"], "block00/mlp/gelu"),
    "a place that is not there": (
        itself,
        [wb.Recipe(precision, exclude=("block01/fc3",)) for precision in EVERY],
        "did you mean 'block01/fc2'",
    ),
    "images that lie nowhere": (itself, [NOWHERE], "nowhere"),
    "BF16 on a CPU": (itself, [BF16_ON_CPU], "cannot have BF16 as its high precision"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_changed_is_refused_and_leaves_nothing(drawn, pictures, tmp_path, case):
    given, recipes, words = REFUSALS[case]
    graph = given(drawn, tmp_path)
    for recipe in recipes:
        images = None if recipe == NOWHERE else pictures
        recipe = wb.Recipe(recipe) if isinstance(recipe, str) else recipe
        with pytest.raises(WorkbenchError, match=words):
            wb.apply_recipe(graph, recipe, tmp_path / "workspace", calibration=images)
    assert not list((tmp_path / "workspace").rglob("record.json"))


def test_what_is_refused_for_its_recipe_or_for_what_it_is_cannot_be_foreseen_or_calibrated(drawn, pictures, shelf):
    with pytest.raises(WorkbenchError, match="cannot have BF16 as its high precision"):
        foreseen(drawn, BF16_ON_CPU)
    for wrong in (drawn.path, foreseen(drawn, wb.Recipe("fp16")), None):
        with pytest.raises(WorkbenchError, match="applied to a Graph"):
            wb.calibrate(wrong, pictures, shelf)


# ---- notes -------------------------------------------------------------------------------------------------------


def test_activations_beyond_fp16_are_reported_where_the_high_precision_is_fp16(tmp_path, pictures):
    graph = draw(tmp_path, edit=scaled({"block01/norm2/scale": 1e5, "block01/mlp/fc1/kernel": 1e-5}))

    def notes(high):
        made = wb.apply_recipe(graph, wb.Recipe("int8", high_precision=high), tmp_path, calibration=pictures)
        return [note for note in made.notes if "beyond FP16's" in note]

    assert len(notes("fp16")) == 1
    assert "block01/norm2:out" in notes("fp16")[0]
    assert notes("fp32") == notes("bf16") == []


def test_what_a_recipe_does_not_reach_and_what_tensorrt_8_does_not_read_are_noted(drawn, drawn17, shelf):
    for graph, recipe, words, noted in (
        (drawn, wb.Recipe("int8-dynamic", scope="attention"), "scope attention changes nothing", True),
        (drawn, wb.Recipe("fp16"), "8.6", True),  # reads opset 17
        (drawn17, wb.Recipe("fp16"), "8.6", False),
    ):
        assert any(words in note for note in wb.apply_recipe(graph, recipe, shelf).notes) == noted


def test_products_whose_place_is_unknown_are_quantized_and_noted(drawn, tmp_path):
    def rename(graph, nodes):
        for name in ("block01/mlp/fc2", "block01/mlp/fc2/bias"):
            nodes[name].name = name.replace("block01/mlp/fc2", "/encoder/mystery")

    variant = wb.apply_recipe(retouch(drawn, tmp_path, rename), wb.Recipe("int8-dynamic"), tmp_path)
    assert any("1 products" in note and "/encoder/mystery" in note for note in variant.notes)
    assert File(variant.path).kinds.count("MatMulInteger") == 4 * TINY.depth


@pytest.mark.parametrize("name", ["separate_dynamo", "fused_legacy", "attention_op"])
def test_a_vit_that_torch_exported_takes_every_precision(name, tmp_path):
    graph = wb.import_onnx(EXPORTS / f"{name}.onnx", tmp_path)
    images = np.random.default_rng(0).uniform(-1, 1, (6, *graph.image_shape)).astype(np.float32)
    reference = logits(graph.path, images)
    for recipe in (wb.Recipe("fp16"), wb.Recipe("int8", scope="attention"), wb.Recipe("int8-dynamic")):
        variant = emulated(wb.apply_recipe(graph, recipe, tmp_path, calibration=images), tmp_path)
        assert error(logits(variant.path, images), reference) < 0.08
        products = [node for node in File(variant.path).nodes.values() if node.op_type.startswith("MatMul")]
        assert {place_of(node.name).role for node in products} >= {"qkv", "scores", "proj", "fc1", "fc2"}


def test_a_model_without_attention_has_nothing_to_quantize_there(tmp_path):
    graph = wb.import_onnx(EXPORTS / "cnn.onnx", tmp_path)
    images = np.random.default_rng(0).uniform(-1, 1, (6, *graph.image_shape)).astype(np.float32)
    variant = wb.apply_recipe(graph, wb.Recipe("int8", scope="attention"), tmp_path, calibration=images)
    assert any("no known block" in note for note in variant.notes)
    assert File(variant.path).kinds.count("DequantizeLinear") == 2  # the inputs of the head


def test_weights_beyond_two_gigabytes_go_beside_the_file(drawn, tmp_path, pictures, monkeypatch):
    monkeypatch.setattr(model_file, "LARGEST_FILE", 1000)
    variant = wb.apply_recipe(drawn, wb.Recipe("fp16"), tmp_path)
    assert (variant.path.parent / "model.onnx.data").stat().st_size > 10_000
    session = onnxruntime.InferenceSession(variant.path)
    assert np.isfinite(session.run(None, {"images": pictures})[0]).all()


CARDS = ("SM75", "SM80", "SM86", "SM89", "SM120")
#: Recipe, the first card that takes it, and the type that fused attention computes in, None where none is fused.
KINDS = [
    (wb.Recipe(), "SM80", None),
    (wb.Recipe("fp16"), "SM75", "Half"),
    (wb.Recipe("bf16"), "SM80", "BFloat16"),
    (wb.Recipe("fp16", exclude=("block00/fc2", "block01/qkv")), "SM80", "Half"),
    (wb.Recipe("int8"), "SM75", "Half"),
    (wb.Recipe("int8", scope="attention"), "SM75", "Int8"),
    (wb.Recipe("int8", scope="attention", high_precision="bf16"), "SM80", "Int8"),
    (wb.Recipe("int8", scope="everything"), "SM75", None),
    (wb.Recipe("fp8"), "SM89", "Half"),
    (wb.Recipe("fp8", scope="attention"), "SM89", "FP8"),
]


def builds():
    """Every kind for every card and opset; quick is one of each kind, and the cards and the opsets take turns."""
    for number, (recipe, first, kind) in enumerate(KINDS):
        cases = [(recipe, opset, card, kind) for opset in (17, 20) for card in CARDS[CARDS.index(first) :]]
        for index, case in enumerate(cases):
            yield pytest.param(*case, marks=[] if index == 3 * number % len(cases) else pytest.mark.slow)


@pytest.mark.parametrize(("recipe", "opset", "card", "kind"), list(builds()), ids=lambda v: getattr(v, "label", v))
def test_tensorrt_for_rtx_builds_every_variant_and_fuses_its_attention(tmp_path, recipe, opset, card, kind):
    pytest.importorskip("tensorrt_rtx", reason="pip install tensorrt-rtx")
    spec = wb.ModelSpec("heads of 64", 32, 4, width=128, depth=2, heads=2, mlp=256, classes=10)
    graph = draw(tmp_path, spec=spec, opset=opset)
    images = np.random.default_rng(0).uniform(-1, 1, (4, 32, 32, 3)).astype(np.float32)
    variant = wb.apply_recipe(graph, recipe, tmp_path, calibration=images)
    engine = wb.build_engine(variant, "tensorrt-rtx", tmp_path, card=card, batches=wb.Batches(1, 2, 4))
    fused = [line for line in engine.log_path.read_text().splitlines() if line.startswith("Name: _gemm_mha_v2")]
    assert len(fused) == (spec.depth if kind else 0)
    assert all(f"Datatype: {kind}," in line.split("Constants")[0] for line in fused)
