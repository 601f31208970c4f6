"""``wfp4``: weights alone in FP4 blocks, against ONNX's own reference and a count by hand."""

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import workbench as wb
from tests.graphs.drawn import TINY
from tests.graphs.onnx_file import File, error, logits, tensors
from workbench.errors import WorkbenchError
from workbench.graphs.quantization.emulation import emulated

PRODUCT = "block01/mlp/fc1"


def expanded(path):
    """What ONNX's reference implementation makes of the weights of ``PRODUCT``, scales, cast and all."""
    model, prefix = onnx.load(path), f"{PRODUCT}/weight"
    nodes = [node for node in model.graph.node if node.name.startswith(prefix)]
    (read,) = (node.input[1] for node in model.graph.node if node.name == PRODUCT)
    constants = [tensor for tensor in model.graph.initializer if tensor.name.startswith(prefix)]
    kind = {"Cast": nodes[-1].attribute[0].i}.get(nodes[-1].op_type, onnx.TensorProto.FLOAT)
    graph = onnx.helper.make_graph(
        nodes, "weight", [], [onnx.helper.make_tensor_value_info(read, kind, None)], constants
    )
    (found,) = ReferenceEvaluator(onnx.helper.make_model(graph, opset_imports=model.opset_import)).run(None, {})
    return found.astype(np.float32)


def rounded_by_hand(weight):
    """NVFP4's rounding of a (K, N) weight: 16 numbers along K share an FP8 scale, all share one float32 scale."""
    blocks = weight.reshape(len(weight) // 16, 16, -1)
    whole = np.float32(np.abs(weight).max() / (6 * 448))
    steps = (np.abs(blocks).max(axis=1, keepdims=True) / np.float32(6) / whole).astype(ml_dtypes.float8_e4m3fn)
    steps = steps.astype(np.float32) * whole
    low = np.clip(blocks / steps, -6, 6).astype(ml_dtypes.float4_e2m1fn).astype(np.float32)
    return (low * steps).reshape(weight.shape)


@pytest.mark.parametrize(("high", "numpy"), [("fp16", np.float16), ("fp32", np.float32)])
def test_the_emulated_product_multiplies_what_onnx_expands_and_the_activation_as_it_is(
    drawn, pictures, shelf, high, numpy
):
    variant = wb.apply_recipe(drawn, wb.Recipe("wfp4", high_precision=high), shelf)
    weight = File(drawn.path).weights[f"{PRODUCT}/kernel"]
    wanted = expanded(variant.path)
    np.testing.assert_array_equal(wanted, rounded_by_hand(weight).astype(numpy).astype(np.float32))
    path = emulated(variant, shelf).path
    read = {node.name: node.input for node in onnx.load(path).graph.node}[PRODUCT]
    x, w, y = tensors(path, pictures, read[0], read[1], f"{PRODUCT}:out", optimized=False)
    np.testing.assert_array_equal(w, wanted)
    np.testing.assert_allclose(y, x @ wanted, rtol=max(1e-4, np.finfo(numpy).eps), atol=1e-5)  # y is rounded


def test_it_is_emulated_without_a_card_and_says_so(drawn, pictures, shelf):
    variant = wb.apply_recipe(drawn, wb.Recipe("wfp4"), shelf)
    with pytest.raises(WorkbenchError, match="no FP4 kernels for the CPU"):
        wb.build_engine(variant, "onnxruntime", shelf)
    alone = emulated(variant, shelf)
    assert 0.02 < error(logits(alone.path, pictures), logits(drawn.path, pictures)) < 0.3
    engine = wb.build_engine(alone, "onnxruntime", shelf)
    assert wb.measure(engine, images=pictures, batch=8, seconds=0).execution == "emulated"


def test_its_file_holds_four_bits_a_weight_and_no_operator_of_tensorrt(drawn, shelf):
    file = onnx.load(wb.apply_recipe(drawn, wb.Recipe("wfp4"), shelf).path)
    onnx.checker.check_model(file)
    assert {node.domain for node in file.graph.node} == {""} == {each.domain for each in file.opset_import}
    kinds = [tensor.data_type for tensor in file.graph.initializer]
    assert kinds.count(onnx.TensorProto.FLOAT4E2M1) == 4 * TINY.depth
    (low,) = (t for t in file.graph.initializer if t.name == f"{PRODUCT}/weight/quantized")
    assert 2 * len(low.raw_data) == TINY.width * TINY.mlp
