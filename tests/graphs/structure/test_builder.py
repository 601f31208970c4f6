"""New nodes and constants, and a new tensor in the place of an old one."""

import numpy as np
import onnx_ir as ir

from tests.graphs.onnx_file import inferred
from workbench.graphs.structure.builder import Builder, constant, take_place
from workbench.graphs.structure.values import array

TEXT = "g (float[n,3] x) => (float[n,3] y) { h = Relu(x) y = Neg(h) }"


def test_a_constant_takes_no_name_that_is_taken():
    model = inferred(TEXT)
    first, second = (constant(model, "twice", np.full(2, value)) for value in (1, 2))
    assert first.name == "twice" != second.name
    assert [array(value)[0] for value in (first, second)] == [1, 2]


def test_a_tensor_takes_the_name_the_shape_and_the_readers_of_another_and_keeps_a_type_of_its_own():
    model = inferred(TEXT)
    relu, negation = model.graph
    double = Builder(model, negation, "new").op("Mul", "double", relu.outputs[0], 2.0)
    take_place(double, relu.outputs[0], but=double.producer())
    relu.outputs[0].dtype = ir.DataType.FLOAT16
    assert (double.name, double.shape, double.dtype) == ("h", relu.outputs[0].shape, ir.DataType.FLOAT)
    assert negation.inputs[0] is double
    assert double.producer().inputs[0] is relu.outputs[0]
