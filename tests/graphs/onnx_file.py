"""ONNX files by the names in them, and what ONNX Runtime computes of them without the workbench."""

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
import onnxruntime
from onnx import numpy_helper


class File:
    """An ONNX file by names."""

    def __init__(self, path):
        self.model = onnx.load(path)
        self.nodes = {node.name: node for node in self.model.graph.node}
        self.weights = {t.name: numpy_helper.to_array(t) for t in self.model.graph.initializer}
        self.makers = {name: node for node in self.model.graph.node for name in node.output}
        self.kinds = [node.op_type for node in self.model.graph.node]

    def quantized_inputs(self, name):
        """Which inputs of a node come from DequantizeLinear."""
        made = [self.makers.get(tensor) for tensor in self.nodes[name].input]
        return [index for index, maker in enumerate(made) if maker and maker.op_type == "DequantizeLinear"]


def parsed(text, opset=20, **constants):
    """A model in ONNX's textual form; those of the constants that it reads become its weights."""
    domains = ', "com.microsoft": 1' if "com.microsoft" in text else ""
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": {opset}{domains}]> {text}')
    used = {name for node in model.graph.node for name in node.input}
    weights = {name: np.asarray(value) for name, value in constants.items() if name in used}
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in weights.items())
    return model


def inferred(text, opset=20, **constants):
    """The same with every shape that can be known, as the package reads it."""
    model = ir.from_proto(parsed(text, opset, **constants))
    passes.ShapeInferencePass()(model)
    return model


def element_types(path):
    """Tensor name -> element type, inferred strictly; initializers included."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True, data_prop=True)
    graph = model.graph
    types = {v.name: v.type.tensor_type.elem_type for v in [*graph.value_info, *graph.input, *graph.output]}
    return types | {t.name: t.data_type for t in graph.initializer}


def _session(source, optimized=False, written=None):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if written:
        options.optimized_model_filepath = str(written)
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(_bytes(source), options, providers=["CPUExecutionProvider"])


def _bytes(model):
    """A path as it is; what ONNX Runtime reads of a model in memory."""
    return ir.to_proto(model).SerializeToString() if isinstance(model, ir.Model) else model


def fused_kinds(model, folder):
    """The operators of a file, or of a model in memory, once ONNX Runtime has optimized it."""
    _session(model, optimized=True, written=folder / "optimized.onnx")
    return [node.op_type for node in onnx.load(folder / "optimized.onnx").graph.node]


def tensors(path, images, *names, optimized=False):
    """Tensors of a file, as they are written unless ONNX Runtime may optimize the graph first."""
    model = onnx.load(path)
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    session = _session(model.SerializeToString(), optimized)
    return session.run(list(names), {session.get_inputs()[0].name: images})


def logits(model, images):
    """The one output of a file or of a model in memory, with ONNX Runtime's own optimizations off."""
    session = _session(model)
    return session.run(None, {session.get_inputs()[0].name: images})[0]


def error(ours, reference):
    """‖ours - reference‖ / ‖reference‖."""
    return np.linalg.norm(ours - reference) / np.linalg.norm(reference)
