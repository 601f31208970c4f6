"""What a foreign file takes: open sizes, one channel, 16 bits, functions, loops, and lines that were stamped."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.graphs import spellings
from tests.graphs.onnx_file import logits
from workbench.errors import WorkbenchError
from workbench.graphs.analysis.inspect import inspect
from workbench.graphs.import_ import import_onnx
from workbench.records import ModelSpec, Preprocessing

SPEC = ModelSpec("model", 16, 4, 8, 1, 2, 16, 5, "gap")


def plain(batch=2):
    d = spellings.Drawing()
    return d.model(d.head(d.block(d.embed())), batch)


def saved(model, tmp_path):
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def renamed_axes(model, *names):
    """The model with its input's axes open under these names, as optimum-cli writes them."""
    axes = model.graph.input[0].type.tensor_type.shape.dim
    for axis, name in zip(axes, names):
        axis.ClearField("dim_value")
        axis.dim_param = name
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_param = names[0]
    del model.graph.value_info[:]
    return model


def test_open_axes_are_fixed_from_the_preprocessing(tmp_path):
    opened = renamed_axes(plain("batch_size"), "batch_size", "num_channels", "height", "width")
    path = saved(opened, tmp_path)
    graph = import_onnx(path, tmp_path / "ws", Preprocessing(16, mean=(0, 0, 0), std=(255, 255, 255)))
    assert (graph.image_shape, graph.batch, graph.classes, graph.spec) == ((3, 16, 16), None, 5, SPEC)
    assert any("leaves the image size open" in note for note in graph.notes)
    x = np.random.default_rng(1).standard_normal((3, 3, 16, 16)).astype(np.float32)
    np.testing.assert_allclose(logits(graph.path, x), logits(path, x), atol=1e-5)
    with pytest.raises(WorkbenchError, match="one size") as error:
        import_onnx(path, tmp_path / "ws")
    assert "preprocessing=Preprocessing(size=" in error.value.remedy


def test_a_model_of_one_channel_reads_the_luminance_of_three(tmp_path):
    model = plain()
    kernel = next(each for each in model.graph.initializer if list(each.dims) == [8, 3, 4, 4])
    array = numpy_helper.to_array(kernel)[:, :1]
    kernel.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(array), kernel.name))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 1
    del model.graph.value_info[:]
    path = saved(model, tmp_path)
    graph = import_onnx(path, tmp_path / "ws")
    assert (graph.image_shape, graph.spec) == ((3, 16, 16), SPEC)
    assert any("takes one channel" in note for note in graph.notes)
    x = np.random.default_rng(1).standard_normal((2, 3, 16, 16)).astype(np.float32)
    grey = (np.array([0.299, 0.587, 0.114])[:, None, None] * x).sum(1, keepdims=True).astype(np.float32)
    np.testing.assert_allclose(logits(graph.path, x), logits(path, grey), atol=1e-5)


@pytest.mark.parametrize("half_input", [True, False])
def test_a_file_in_fp16_is_widened_to_float32(half_input, tmp_path):
    model = plain()
    for each in model.graph.initializer:
        if each.data_type == TensorProto.FLOAT:
            each.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(each).astype(np.float16), each.name))
    del model.graph.value_info[:]
    if half_input:
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    else:
        first, last = model.graph.node[0], model.graph.node[-1]
        first.input[0], last.output[0] = "half", "half_scores"
        model.graph.node.insert(0, helper.make_node("Cast", ["pixels"], ["half"], to=TensorProto.FLOAT16))
        model.graph.node.append(helper.make_node("Cast", ["half_scores"], ["scores"], to=TensorProto.FLOAT))
    path = saved(model, tmp_path)
    graph = import_onnx(path, tmp_path / "ws")
    assert graph.spec == SPEC
    assert any("computes in 16 bits" in note for note in graph.notes)
    found = onnx.load(graph.path)
    assert {each.data_type for each in found.graph.initializer} <= {TensorProto.FLOAT, TensorProto.INT64}
    assert [n.op_type for n in found.graph.node if n.op_type == "Cast"] == []
    assert found.graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT


def with_function(model):
    """The model with everything but its first node in a local function, as jax2onnx's @onnx_function writes it."""
    first, *others = model.graph.node
    names = [each.name for each in model.graph.initializer]
    imports = [helper.make_opsetid("", 20), helper.make_opsetid("blocks", 20)]
    body = helper.make_function("blocks", "Rest", [first.output[0], *names], ["scores"], others, imports)
    call = helper.make_node("Rest", [first.output[0], *names], ["scores"], domain="blocks", name="call")
    del model.graph.node[1:]
    model.graph.node.append(call)
    model.functions.append(body)
    model.opset_import.append(helper.make_opsetid("blocks", 1))
    return model


def test_local_functions_are_inlined(tmp_path):
    path = saved(with_function(plain()), tmp_path)
    graph = import_onnx(path, tmp_path / "ws")
    assert graph.spec == SPEC
    assert not onnx.load(graph.path).functions
    assert inspect(path, runtimes=()).blocks.block.tolist() == ["block00"]


def test_source_lines_that_torch_stamps_are_kept(tmp_path):
    model = plain()
    for number, node in enumerate(model.graph.node):
        line = f'File "/home/me/vit.py", line {number + 1}, in forward'
        node.metadata_props.append(onnx.StringStringEntryProto(key="pkg.torch.onnx.stack_trace", value=line))
    graph = import_onnx(saved(model, tmp_path), tmp_path / "ws")
    sources = inspect(graph, runtimes=()).nodes.set_index("name").source
    assert sources["block00/attention/softmax"].startswith("me/vit.py:")
    assert sources["block00/mlp/fc1"].startswith("me/vit.py:")


def test_a_loop_over_blocks_is_written_out(tmp_path):
    text = """loop (float[2,3,4,4] pixels) => (float[2,3] scores) {
        m = ReduceMean<keepdims = 0>(pixels, axes)
        scores = Loop<body = step (int64 i, bool c, float[2,3] s) => (bool go, float[2,3] t) {
            go = Identity(c) w = Gather(stacked, i) t = MatMul(s, w) }>(three, true, m) }"""
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 20]> {text}')
    constants = {"stacked": np.random.default_rng(0).standard_normal((3, 3, 3)).astype(np.float32)}
    constants |= {"three": np.int64(3), "true": np.array(True), "axes": np.array([2, 3])}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    graph = import_onnx(saved(model, tmp_path), tmp_path / "ws")
    assert [node.op_type for node in onnx.load(graph.path).graph.node] == ["ReduceMean"] + ["MatMul"] * 3
