"""ONNX files by the names in them, and what ONNX Runtime computes of them without the workbench."""

import numpy as np
import onnx
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


def element_types(path):
    """Tensor name -> element type, inferred strictly; initializers included."""
    model = onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True, data_prop=True)
    graph = model.graph
    types = {v.name: v.type.tensor_type.elem_type for v in [*graph.value_info, *graph.input, *graph.output]}
    return types | {t.name: t.data_type for t in graph.initializer}


def tensors(path, images, *names, optimized=False):
    """Tensors of a file, as they are written unless ONNX Runtime may optimize the graph first."""
    model = onnx.load(path)
    known = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if not optimized:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return session.run(list(names), {session.get_inputs()[0].name: images})


def logits(path, images, optimized=False):
    """The file's one output."""
    (name,) = (value.name for value in onnx.load(path, load_external_data=False).graph.output)
    return tensors(path, images, name, optimized=optimized)[0]


def error(ours, reference):
    """‖ours - reference‖ / ‖reference‖."""
    return np.linalg.norm(ours - reference) / np.linalg.norm(reference)
