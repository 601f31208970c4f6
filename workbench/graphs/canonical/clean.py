"""The clean-up of an exported graph: every rule in its order, from what an exporter writes to the canonical form.

1. ``slim``: onnxslim folds the shape arithmetic.
2. ``rules``: onnxscript's rewriter turns what is left into the operators that were meant.
3. ``norms``, ``softmax``, ``gelu``, ``einsums``, ``attention``, ``class_token``, ``patches``: recognised by what
   they compute, and brought to their canonical form.
4. ``tidy``: small forms that make shapes and biases easy to read.
5. ``structure.naming``: every node, tensor and weight is named by its place.
"""

from __future__ import annotations

import onnx_ir as ir
import onnx_ir.passes.common as passes
from onnxscript import optimizer

from ..structure import naming
from ..structure.source_lines import OWN_KEY, source_of
from . import attention, class_token, einsums, gelu, norms, patches, rules, softmax
from .slim import slim
from .tidy import infer_anew, keep_batch, lift_constants, tidy_biases

#: Graphs use no newer file format than onnxruntime 1.23 and TensorRT 10 read.
LATEST_IR = 10
#: Packages that shape a cleaned graph, for its digest.
TOOLS = ("onnx", "onnx-ir", "onnxscript", "onnxslim")


def clean(model: ir.Model) -> tuple[ir.Model, dict[ir.Node, str]]:
    """Clean a model up, keeping what it computes.

    Args:
        model: any ViT's graph; nodes that belong to no ViT block are left as they are. It may be changed in place.

    Returns:
        The clean model, and the place of each node that has one.
    """
    lines = {value.name: source_of(node) for node in model.graph for value in node.outputs}
    model = slim(model)
    optimizer.fold_constants(model, input_size_limit=1 << 40, output_size_limit=1 << 40)
    apply_rules(model)
    _restore_lines(model, lines)
    norms.canonicalize(model)
    softmax.canonicalize(model)
    gelu.canonicalize(model)
    einsums.canonicalize(model)
    attention.canonicalize(model)
    class_token.canonicalize(model)
    patches.canonicalize(model)
    keep_batch(model)
    tidy_biases(model)
    passes.RemoveUnusedNodesPass()(model)
    passes.TopologicalSortPass()(model)
    infer_anew(model)
    model.ir_version = min(model.ir_version, LATEST_IR)
    model.graph.name = naming.CLEAN if (places := naming.name(model)) else model.graph.name
    return model, places


def apply_rules(model: ir.Model) -> None:
    """Apply ``rules`` in place until none applies any more."""
    while True:
        lift_constants(model)
        passes.ShapeInferencePass()(model)
        if not rules.RULES.apply_to_model(model):
            return


def _restore_lines(model: ir.Model, lines: dict[str | None, str | None]) -> None:
    """Tensors keep their names under the rules: a node's line of code is found by the name of its output."""
    for node in model.graph:
        node.metadata_props.clear()
        line = next((found for value in node.outputs if (found := lines.get(value.name))), None)
        if line is not None:
            node.metadata_props[OWN_KEY] = line
