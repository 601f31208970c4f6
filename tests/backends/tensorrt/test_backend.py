"""The backend on TensorRT for RTX, which builds on any machine; what needs a GPU is in tests/gpu."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.backends.vits import Block, draw, variant_of
from workbench.backends import backend, build_engine, open_engine
from workbench.backends.base import BuildRequest
from workbench.backends.hardware.gpu import Gpu
from workbench.backends.tensorrt.layers import from_log
from workbench.backends.tensorrt.options import checked_options
from workbench.errors import Cancelled, WorkbenchError
from workbench.records import Batches, Recipe

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is missing: pip install tensorrt-rtx")

SMALL = [Block(head_size=16)]


@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr("workbench.backends.tensorrt.backend.gpus", lambda: ())


@pytest.fixture
def gpu_is(monkeypatch):
    def install(name, sm):
        monkeypatch.setattr("workbench.backends.tensorrt.backend.gpus", lambda: (Gpu(name, sm, 1 << 34, "580.65"),))

    return install


def one_node(folder, operator, *, inputs=("images",), constants=(), opset=20, name="block03/mlp/fc1", to=1):
    """A variant whose second node is ``operator``; the first does nothing."""
    nodes = [
        helper.make_node("Relu", ["images"], ["first"], name="embedding/relu"),
        helper.make_node(operator, ["first", *inputs[1:]], ["logits"], name=name),
    ]
    graph = helper.make_graph(
        nodes,
        "one",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["B", 4])],
        [helper.make_tensor_value_info("logits", to, None)],
        list(constants),
    )
    path = folder / "variant.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10), path)
    return variant_of(path, Recipe())


def built(variant, folder, card="SM86", **arguments):
    return build_engine(variant, "tensorrt-rtx", folder, card=card, **arguments)


def test_an_engine_is_built_without_a_gpu_as_it_was_asked_for(tmp_path, no_gpu):
    options, stages = {"workspace_gib": 1, "optimization_level": 1}, []
    arguments = {"batches": Batches(2, 5, 77), "options": options, "card": "RTX 3090"}
    engine = built(draw(tmp_path, SMALL), tmp_path, progress=lambda *step: stages.append(step[0]), **arguments)
    assert engine.path.stat().st_size > 10_000
    assert (engine.card, engine.options, engine.environment["targets"]) == ("RTX 3090", options, ["SM86"])
    assert "Building engine" in stages
    log = engine.log_path.read_text()
    assert "[VERBOSE]" in log
    assert "MinShape: [2,50,64], OptShape: [5,50,64], MaxShape: [77,50,64]" in log
    assert any(layer.is_attention for layer in from_log(log))


def test_without_card_and_gpu_an_engine_covers_every_card_that_knows_its_types(tmp_path, no_gpu):
    engine = built(draw(tmp_path, SMALL), tmp_path, card=None)
    assert engine.environment["targets"] == ["SM80", "SM86", "SM89", "SM120"]
    assert "Number of target compute capabilities: 4" in engine.log_path.read_text()
    engine = built(draw(tmp_path, [Block(low="fp8")]), tmp_path, card=None)
    assert engine.environment["targets"] == ["SM89", "SM120"]


def test_a_static_batch_is_the_only_one(tmp_path):
    assert built(draw(tmp_path, SMALL, batch=4), tmp_path).batches == Batches(4, 4, 4)


def test_every_exact_batch_has_a_profile_of_its_own_and_so_has_the_range(tmp_path):
    log = built(draw(tmp_path, SMALL), tmp_path, batches=Batches(1, 8, 32, exact=(1, 4))).log_path.read_text()
    profiles = re.findall(r"MinShape: \[(\d+),.*?OptShape: \[(\d+),.*?MaxShape: \[(\d+),", log)
    assert list(dict.fromkeys(profiles)) == [("1", "1", "1"), ("4", "4", "4"), ("1", "8", "32")]


def test_a_batch_that_is_too_large_is_refused(tmp_path):
    with pytest.raises(WorkbenchError, match="cannot have the shapes") as error:
        built(draw(tmp_path, SMALL), tmp_path, batches=Batches(1, 8, 10**12))
    assert "batches.max" in error.value.remedy


def symbolic_sizes(folder):
    """An average over an image of any size: (B, H, W, 3) -> (B, 3)."""
    nodes = [helper.make_node("ReduceMean", ["images", "axes"], ["logits"], name="pool/mean", keepdims=0)]
    graph = helper.make_graph(
        nodes,
        "sizes",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["B", "H", "W", 3])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 3])],
        [numpy_helper.from_array(np.array([1, 2]), "axes")],
    )
    path = folder / "variant.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return variant_of(path, Recipe())


def test_several_image_sizes_become_several_profiles(tmp_path):
    engine = built(symbolic_sizes(tmp_path), tmp_path, options={"image_sizes": (32, 64)})
    log = engine.log_path.read_text()
    assert "OptShape: [8,32,32,3]" in log
    assert "OptShape: [8,64,64,3]" in log


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"workspace": 1}, "Unknown option of TensorRT 'workspace'"),
        ({"workspace_gib": 0}, "above zero"),
        ({"workspace_gib": True}, "above zero"),
        ({"time_limit_s": float("nan")}, "above zero"),
        ({"optimization_level": 9}, "'optimization_level' must be a whole number from 0 to 5"),
        ({"image_sizes": 32}, "'image_sizes' must be a list"),
        ({"image_sizes": (32, 64)}, "one image size only"),
        ({"cuda_graph": "no"}, "'cuda_graph' must be True or False"),
        ({"version_compatible": True}, "for RTX has no option 'version_compatible'"),
        ({"workspace_gib": 1e-9}, "within workspace limit.*remedy: raise the option workspace_gib"),
        ({"time_limit_s": 1e-6}, "given up"),
        ([("workspace_gib", 1)], "names with values"),
    ],
)
def test_an_option_is_refused(tmp_path, options, complaint):
    with pytest.raises(WorkbenchError, match=f"(?s){complaint}"):
        built(draw(tmp_path, SMALL), tmp_path, options=options)


def test_each_product_has_options_of_its_own():
    assert checked_options({"version_compatible": True, "timings": "t"}, rtx=False)
    with pytest.raises(WorkbenchError, match="TensorRT has no option 'specialization'"):
        checked_options({"specialization": "eager"}, rtx=False)
    assert checked_options({"specialization": "eager"}, rtx=True) == {"specialization": "eager"}


# ---- refusals that cost no build ---------------------------------------------------------------------------------


def refusal(tmp_path, card, high="fp16", blocks=SMALL, **drawing):
    return backend("tensorrt-rtx").refuses(draw(tmp_path, blocks, high=high, **drawing), card)


def test_a_card_that_rtx_does_not_support_is_refused_in_one_line(tmp_path, no_gpu, gpu_is):
    for card in ("H100", "H200", "SM90", "B200"):
        refused = refusal(tmp_path, card)
        assert card in refused.reason
        assert "\n" not in refused.reason
        assert "use tensorrt" in refused.remedy
    with pytest.raises(WorkbenchError, match="does not support"):
        built(draw(tmp_path, SMALL), tmp_path, card="H100")
    assert not list(tmp_path.glob("engines/*"))
    gpu_is("NVIDIA H200", 90)  # the GPU at hand counts when no card is named
    assert "NVIDIA H200 (SM90)" in refusal(tmp_path, None).reason
    assert refusal(tmp_path, "A10") is None


@pytest.mark.parametrize(
    ("card", "high", "low", "words"),
    [
        ("A100", "fp16", "fp8", "SM89"),
        ("L4", "fp16", "fp8", None),
        ("T4", "bf16", None, "SM80"),
        ("T4", "fp32", None, "FP32"),
        ("T4", "fp32", "int8", "FP32"),
        ("T4", "fp16", None, None),
    ],
)
def test_types_that_a_card_lacks_are_refused(tmp_path, no_gpu, card, high, low, words):
    refused = refusal(tmp_path, card, high=high, blocks=[Block(head_size=16, low=low)])
    assert (refused is None) if words is None else (words in refused.reason)


def test_the_builder_agrees_that_turing_has_no_fp32_products(tmp_path):
    runtime = backend("tensorrt-rtx")
    with pytest.raises(WorkbenchError, match="FP32 GEMM is not supported") as error:
        runtime.compile(BuildRequest(draw(tmp_path, SMALL, high="fp32"), Batches(), tmp_path, "run", card="T4"))
    assert "block00, qkv" in error.value.what
    assert "fp16" in error.value.remedy


# ---- errors of the parser ----------------------------------------------------------------------------------------


def constants(**values):
    return [numpy_helper.from_array(value, name) for name, value in values.items()]


def no_model(folder):
    (folder / "variant.onnx").write_bytes(b"no model at all" * 10)
    return variant_of(folder / "variant.onnx", Recipe())


WEIGHT = {"inputs": ("images", "weight"), "constants": constants(weight=np.ones((4, 4), np.float16))}
SITE = {"inputs": ("images", "scale", "zero"), "constants": constants(scale=np.float32(0.1), zero=np.int8(3))}
#: What is wrong with a file -> the file, and words of what happened, why, and the remedy.
UNPARSED = {
    "an operator that is not supported": (
        lambda folder: one_node(folder, "DynamicQuantizeLinear", to=TensorProto.UINT8),
        (
            "TensorRT does not take the DynamicQuantizeLinear at block03/mlp/fc1 (block03, fc1)",
            "",
            "layout='tensorrt'",
        ),
    ),
    "mixed types in a strongly typed network": (
        lambda folder: one_node(folder, "MatMul", **WEIGHT),
        ("(block03, fc1)", "type Float", "mixes types"),
    ),
    "an asymmetric zero point": (
        lambda folder: one_node(folder, "QuantizeLinear", **SITE, to=TensorProto.INT8),
        ("(block03, fc1)", "", "symmetric"),
    ),
    "no ONNX model": (no_model, ("cannot read", "", "damaged")),
}


@pytest.mark.parametrize("wrong", UNPARSED)
def test_a_file_that_the_parser_refuses_is_explained(tmp_path, wrong):
    make, words = UNPARSED[wrong]
    with pytest.raises(WorkbenchError) as error:
        built(make(tmp_path), tmp_path / "workspace")
    for word, text in zip(words, (error.value.what, error.value.why, error.value.remedy)):
        assert word in text


# ---- cancelling, logs --------------------------------------------------------------------------------------------


def test_a_build_can_be_cancelled_and_begun_again(tmp_path):
    calls = []

    def cancel(stage, done, total):
        calls.append(stage)
        if len(calls) == 5:
            raise Cancelled()

    with pytest.raises(Cancelled):
        built(draw(tmp_path, SMALL), tmp_path, progress=cancel)
    assert len(calls) == 5
    assert not list(tmp_path.glob("engines/*"))
    assert built(draw(tmp_path, SMALL), tmp_path).path.exists()


def test_builds_in_two_threads_keep_their_logs_apart(tmp_path):
    def build(head):
        folder = tmp_path / str(head)
        folder.mkdir()
        return built(draw(folder, [Block(head_size=head)], tokens=17), folder)

    with ThreadPoolExecutor(2) as pool:
        logs = [engine.log_path.read_text() for engine in pool.map(build, (16, 24))]
    assert ["17,16]" in log for log in logs] == [True, False]
    assert all(len(from_log(log)) > 5 for log in logs)


# ---- where no GPU is ---------------------------------------------------------------------------------------------


def test_an_engine_is_not_opened_without_a_gpu(tmp_path, no_gpu):
    with pytest.raises(WorkbenchError) as error:
        open_engine(built(draw(tmp_path, SMALL), tmp_path))
    assert "GPU" in error.value.why


def test_tensorrt_without_its_module_or_a_gpu_is_missing_with_a_remedy(no_gpu):
    refused = backend("tensorrt").missing()
    assert refused is not None
    assert "tensorrt" in refused.remedy
