"""What a recipe makes of a graph: runtimes, names, digests, refusals and notes."""

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto

import workbench as wb
from tests.graphs.drawn import TINY, draw
from tests.graphs.onnx_file import File, element_types, error, logits
from workbench.dtypes import HALVES
from workbench.errors import WorkbenchError
from workbench.graphs.quantization.emulation import emulated
from workbench.graphs.quantization.recipe import foreseen
from workbench.places import place_of

EXPORTS = Path(__file__).parents[1] / "torch_exports"
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
]
#: The numbers of element types in an ONNX file.
ELEMENTS = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}


@pytest.fixture(params=RUNTIMES, ids=lambda pair: pair[0].label)
def case(request):
    return request.param


def test_a_variant_names_its_runtimes_and_onnx_runtime_runs_what_it_is_named_for(drawn, pictures, shelf, case):
    recipe, runtimes = case
    variant = wb.apply_recipe(drawn, recipe, shelf, calibration=pictures)
    assert variant.runtimes == runtimes
    if "onnxruntime" in runtimes:
        session = onnxruntime.InferenceSession(variant.path)
        assert np.isfinite(session.run(None, {"images": pictures})[0]).all()


def test_names_of_outputs_and_places_survive(drawn, pictures, shelf, case):
    graph = onnx.load(wb.apply_recipe(drawn, case[0], shelf, calibration=pictures).path).graph
    tensors = {name for node in graph.node for name in node.output}
    assert {"embedding/output", *(f"block{i:02d}/output" for i in range(TINY.depth))} <= tensors
    assert [v.name for v in graph.input] == ["images"]
    assert [v.name for v in graph.output] == ["logits"]
    assert all(place_of(node.name) or node.name.startswith("logits/") for node in graph.node)


def test_record_file_and_prediction_have_one_high_precision(drawn, pictures, shelf, case):
    recipe, runtimes = case
    variant, high = wb.apply_recipe(drawn, recipe, shelf, calibration=pictures), recipe.resolved_high_precision
    assert element_types(variant.path)["block00/residual1:out"] == ELEMENTS[high]
    if recipe.scope == "linear" and runtimes != CPU:  # attention computes in the type around it
        predicted = wb.predict_fusion(drawn.spec, recipe, "SM89").attention_type
        assert set(predicted) == {high if high in HALVES else None}


@pytest.mark.parametrize("opset", [17, 20])
def test_a_variant_is_foreseen_as_it_is_then_made(drawn, drawn17, pictures, shelf, case, opset):
    graph = drawn if opset == 20 else drawn17
    before, made = foreseen(graph, case[0]), wb.apply_recipe(graph, case[0], shelf, calibration=pictures)
    assert (before.runtimes, before.opset) == (made.runtimes, made.opset)


def test_fp32_is_the_graphs_own_file(drawn, shelf):
    variant = wb.apply_recipe(drawn, wb.Recipe(), shelf)
    assert (variant.path, variant.opset) == (drawn.path, 20)


def test_the_same_inputs_find_the_same_file_and_make_nothing(drawn, pictures, shelf):
    first = wb.apply_recipe(drawn, wb.Recipe("int8"), shelf, calibration=pictures)
    before = first.path.stat().st_mtime_ns
    assert wb.apply_recipe(drawn, wb.Recipe("int8"), shelf, calibration=pictures.copy()) == first
    assert first.path.stat().st_mtime_ns == before


def test_calibration_bytes_count_only_where_something_is_calibrated(drawn, pictures, shelf):
    def digest(precision, calibration):
        return wb.apply_recipe(drawn, wb.Recipe(precision), shelf, calibration=calibration).digest

    assert digest("int8", pictures) != digest("int8", pictures[1:])
    for precision in ("fp32", "fp16", "int8-dynamic"):
        assert digest(precision, pictures) == digest(precision, None)


def test_graph_and_recipe_are_part_of_the_digest(drawn, drawn17, pictures, shelf):
    recipes = [wb.Recipe("int8"), wb.Recipe("int8", exclude=("block00",)), wb.Recipe("int8", scope="attention")]
    made = [wb.apply_recipe(g, r, shelf, calibration=pictures).digest for g in (drawn, drawn17) for r in recipes]
    assert len(set(made)) == len(made)


def test_the_range_of_weights_is_part_of_the_digest(drawn, pictures, tmp_path, monkeypatch):
    from workbench.graphs.quantization import saturation

    digests = set()
    for saturates in (True, False):
        monkeypatch.setattr(saturation, "saturates", lambda: saturates)  # noqa: B023
        for recipe in (wb.Recipe("int8", layout="cpu"), wb.Recipe("int8-dynamic")):
            digests.add(wb.apply_recipe(drawn, recipe, tmp_path, calibration=pictures).digest)
    assert len(digests) == 4


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16", "int8-dynamic"])
def test_a_name_that_the_graph_lacks_is_refused_with_the_nearest(drawn, shelf, precision):
    with pytest.raises(WorkbenchError, match="did you mean 'block01/fc2'"):
        wb.apply_recipe(drawn, wb.Recipe(precision, exclude=("block01/fc3",)), shelf)


def test_a_graph_that_is_quantized_or_in_16_bits_already_is_refused(drawn, pictures, shelf):
    for first, word in (
        (wb.Recipe("int8", layout="cpu"), "quantized already"),
        (wb.Recipe("fp16"), "16 bits already"),
    ):
        variant = wb.apply_recipe(drawn, first, shelf, calibration=pictures)
        again = dataclasses.replace(drawn, path=variant.path, digest=variant.digest)
        for second in ("fp16", "int8", "int8-dynamic"):
            with pytest.raises(WorkbenchError, match=word):
                wb.apply_recipe(again, wb.Recipe(second), shelf, calibration=pictures)


@pytest.mark.parametrize("content", [b"", b"not a model", b"\x08\x0a" * 50])
def test_a_file_that_is_no_model_is_refused(drawn, tmp_path, content):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    graph = dataclasses.replace(drawn, path=path, digest="broken")
    for precision in ("fp32", "fp16", "int8-dynamic"):
        with pytest.raises(WorkbenchError, match=r"broken\.onnx"):
            wb.apply_recipe(graph, wb.Recipe(precision), tmp_path / "workspace")
    assert not list((tmp_path / "workspace").rglob("record.json"))


def test_what_is_no_graph_or_no_recipe_is_refused(drawn, pictures, shelf):
    variant = wb.apply_recipe(drawn, wb.Recipe("fp16"), shelf)
    for wrong in (drawn.path, variant, None):
        with pytest.raises(WorkbenchError, match="applied to a Graph"):
            wb.apply_recipe(wrong, wb.Recipe("fp16"), shelf)
        with pytest.raises(WorkbenchError, match="applied to a Graph"):
            wb.calibrate(wrong, pictures, shelf)
    with pytest.raises(WorkbenchError, match="by a Recipe"):
        wb.apply_recipe(drawn, "int8", shelf)


def test_activations_beyond_fp16_are_reported_where_the_high_precision_is_fp16(tmp_path, pictures):
    def enlarge(weights):
        weights["block01/norm2/scale"] *= np.float32(1e5)
        weights["block01/mlp/fc1/kernel"] /= np.float32(1e5)

    graph = draw(tmp_path, edit=enlarge)

    def notes(high):
        made = wb.apply_recipe(graph, wb.Recipe("int8", high_precision=high), tmp_path, calibration=pictures)
        return [note for note in made.notes if "beyond FP16's" in note]

    assert len(notes("fp16")) == 1
    assert "block01/norm2:out" in notes("fp16")[0]
    assert notes("fp32") == notes("bf16") == []


def test_a_scope_that_dynamic_quantization_does_not_reach_is_noted(drawn, shelf):
    notes = wb.apply_recipe(drawn, wb.Recipe("int8-dynamic", scope="attention"), shelf).notes
    assert any("scope attention changes nothing" in note for note in notes)


def test_calibration_that_cannot_be_loaded_is_an_error(drawn, tmp_path):
    recipe = wb.Recipe("int8", calibration=wb.Calibration(dataset="/nowhere/photos"))
    with pytest.raises(WorkbenchError, match="nowhere"):
        wb.apply_recipe(drawn, recipe, tmp_path)


def test_bf16_beside_int8_is_refused_for_the_cpu_also_when_it_is_foreseen(drawn, pictures, shelf):
    recipe = wb.Recipe("int8", layout="cpu", high_precision="bf16")
    for make in (
        lambda: wb.apply_recipe(drawn, recipe, shelf, calibration=pictures),
        lambda: foreseen(drawn, recipe),
    ):
        with pytest.raises(WorkbenchError, match="cannot have BF16 as its high precision"):
            make()


def test_opset_20_says_that_tensorrt_8_reads_17(drawn, drawn17, shelf):
    assert any("8.6" in note for note in wb.apply_recipe(drawn, wb.Recipe("fp16"), shelf).notes)
    assert not any("8.6" in note for note in wb.apply_recipe(drawn17, wb.Recipe("fp16"), shelf).notes)


def test_products_whose_place_is_unknown_are_quantized_and_noted(drawn, pictures, tmp_path):
    model = onnx.load(drawn.path)
    for node in model.graph.node:
        if node.name.startswith("block01/mlp/fc2"):
            node.name = node.name.replace("block01/mlp/fc2", "/encoder/mystery")
    path = tmp_path / "foreign.onnx"
    onnx.save(model, path)
    graph = dataclasses.replace(drawn, path=path, digest="foreign")
    variant = wb.apply_recipe(graph, wb.Recipe("int8-dynamic"), tmp_path)
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
    from workbench.graphs import model_file

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
BUILDS = [
    (recipe, opset, card, kind)
    for recipe, first, kind in KINDS
    for opset in (17, 20)
    for card in CARDS[CARDS.index(first) :]
]
#: Of every kind of variant one build; the cards and the opsets take turns.
QUICK = [
    [build for build in BUILDS if build[0] == recipe][3 * index % (2 * len(CARDS[CARDS.index(first) :]))]
    for index, (recipe, first, _) in enumerate(KINDS)
]


@pytest.mark.parametrize(
    ("recipe", "opset", "card", "kind"),
    [case if case in QUICK else pytest.param(*case, marks=pytest.mark.slow) for case in BUILDS],
    ids=lambda v: getattr(v, "label", v),
)
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
