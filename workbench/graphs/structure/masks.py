"""Masks that hide nothing: torch draws one around every attention that could have been masked."""

from __future__ import annotations

import onnx_ir as ir

from .values import array

#: What changes the shape of a mask and nothing in it.
SPREADING = ("Expand", "Reshape", "Unsqueeze", "Squeeze", "Identity", "Cast")


def unmasked(scores: ir.Value) -> ir.Value:
    """The scores behind the addition of a mask that hides nothing, or the scores themselves."""
    node = scores.producer()
    if node is None or node.op_type != "Add":
        return scores
    return next((node.inputs[1 - i] for i in (0, 1) if hides_nothing(node.inputs[i])), scores)


def hides_nothing(mask: ir.Value) -> bool:
    """Whether a mask is the same for every image and is true, or adds zero, everywhere."""
    elements, node = array(mask), mask.producer()
    if elements is not None:
        return bool(elements.all() if elements.dtype == bool else not elements.any())
    if node is None:
        return False
    if node.op_type == "Where":
        return hides_nothing(node.inputs[0]) and hides_nothing(node.inputs[1])
    return node.op_type in SPREADING and hides_nothing(node.inputs[0])


def unguarded(probabilities: ir.Value) -> ir.Value:
    """The tensor that stands for a softmax behind torch's guard against rows that a mask hides wholly.

    The guard is ``Where(IsNaN(p), 0, p)``; without such a row no probability is NaN.
    """
    for use in probabilities.uses():
        node = use.node
        if node.op_type == "Where" and node.inputs[2] is probabilities:
            condition, instead = node.inputs[0].producer(), array(node.inputs[1])
            asks = condition is not None and condition.op_type == "IsNaN" and condition.inputs[0] is probabilities
            if asks and instead is not None and not instead.any():
                return node.outputs[0]
    return probabilities
