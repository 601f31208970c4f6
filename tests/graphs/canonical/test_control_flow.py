"""Loops of known length and branches of known choice are written out; others are refused, never left in a file."""

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
import pytest
from onnx import numpy_helper

from tests.graphs.onnx_file import logits
from workbench.errors import WorkbenchError
from workbench.graphs.canonical import control_flow

RNG = np.random.default_rng(0)
STACKED = RNG.standard_normal((3, 4, 4)).astype(np.float32)
CONSTANTS = {"stacked": STACKED, "three": np.int64(3), "true": np.array(True), "false": np.array(False)}
CONSTANTS |= {"one": np.float32(1), "huge": np.int64(1 << 62)}
BODY = "body = step (int64 i, bool c, float[2,4] s) => (bool go, float[2,4] t)"
LAYER = "w = Gather(stacked, i) t = MatMul(s, w)"
LOOPS = {
    "a loop over stacked layers": f"y = Loop<{BODY} {{ go = Identity(c) {LAYER} }}>(three, true, x)",
    "a loop without a condition": f"y = Loop<{BODY} {{ go = Identity(c) {LAYER} }}>(three, , x)",
    "a scan of stacked layers": """y = Scan<num_scan_inputs = 1, body = step (float[2,4] s, float[4,4] w)
        => (float[2,4] t) { t = MatMul(s, w) }>(x, stacked)""",
    "a scan backwards": """y = Scan<num_scan_inputs = 1, scan_input_directions = [1], body = step (float[2,4] s,
        float[4,4] w) => (float[2,4] t) { t = MatMul(s, w) }>(x, stacked)""",
    "a scan that writes every step": """s, y = Scan<num_scan_inputs = 1, body = step (float[2,4] s, float[4,4] w)
        => (float[2,4] t, float[2,4] u) { t = MatMul(s, w) u = Identity(t) }>(x, stacked)""",
    "a branch": """y = If<then_branch = yes () => (float[2,4] a) { a = Add(x, one) },
        else_branch = no () => (float[2,4] b) { b = Identity(x) }>(true)""",
    "a branch in a loop": f"""y = Loop<{BODY} {{ go = Identity(c) {LAYER.replace("t =", "v =")}
        t = If<then_branch = yes () => (float[2,4] a) {{ a = Add(v, one) }},
        else_branch = no () => (float[2,4] b) {{ b = Identity(v) }}>(true) }}>(three, true, x)""",
}
UNKNOWN = {
    "a loop that computes its condition": f"""y = Loop<{BODY} {{ m = ReduceMax<keepdims = 0>(s) go = Less(m, one)
        {LAYER} }}>(three, true, x)""",
    "a loop that as many steps as the image says": f"""r = ReduceMax<keepdims = 0>(x) n = Cast<to = 7>(r)
        y = Loop<{BODY} {{ go = Identity(c) {LAYER} }}>(n, true, x)""",
    "a loop without an end": f"y = Loop<{BODY} {{ go = Identity(c) {LAYER} }}>( , true, x)",
    "a loop of 2^62 steps": f"y = Loop<{BODY} {{ go = Identity(c) {LAYER} }}>(huge, true, x)",
    "a branch that the image chooses": """r = ReduceMax<keepdims = 0>(x) c = Less(r, one)
        y = If<then_branch = yes () => (float[2,4] a) { a = Add(x, one) },
        else_branch = no () => (float[2,4] b) { b = Identity(x) }>(c)""",
}


def read(nodes):
    written = "float[3,2,4] y" if "u = Identity" in nodes else "float[2,4] y"
    text = f'<ir_version: 9, opset_import: ["": 20]> g (float[2,4] x) => ({written}) {{ {nodes} }}'
    made = onnx.parser.parse_model(text)  # with constants that only a body reads
    made.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in CONSTANTS.items())
    model = ir.from_proto(made)
    passes.ShapeInferencePass()(model)
    return model


@pytest.mark.parametrize("name", LOOPS)
def test_what_is_known_before_a_run_is_written_out_and_computes_the_same(name):
    before, after = read(LOOPS[name]), read(LOOPS[name])
    control_flow.write_out(after)
    assert {node.op_type for node in after.graph}.isdisjoint(control_flow.CONTROL_FLOW)
    x = RNG.standard_normal((2, 4)).astype(np.float32)
    np.testing.assert_allclose(logits(after, x), logits(before, x), rtol=1e-5)


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_only_a_run_can_tell_is_refused_with_its_name(name):
    with pytest.raises(WorkbenchError, match="cannot be written out") as error:
        control_flow.write_out(read(UNKNOWN[name]))
    assert error.value.remedy
