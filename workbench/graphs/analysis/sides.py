"""The sides of a comparison: a graph or the JAX model, each of which computes tensors by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ...datasets.preprocessing import as_float
from ...errors import WorkbenchError
from ...places import OUTPUT, block_name
from ...progress import Progress, silent
from ...records import Graph, ModelSpec, Preprocessing, Variant
from .. import model_file
from ..quantization.activations import batches, open_model
from ..quantization.emulation import load_widened
from ..quantization.images import BATCH, graph_input

LOGITS = "logits"
#: Images (N, H, W, 3) to tensors by name, float32.
Compute = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True, eq=False)
class GraphSide:
    """A graph, or a variant of it, in a file; its 16-bit types are emulated."""

    graph: Graph
    path: Path

    def names(self) -> list[str]:
        """The outputs of embedding, blocks and last LayerNorm in the order of computation; the logits come last."""
        found = [value.name for node in model_file.load(self.path).graph for value in node.outputs]
        return [n for n in found if n and n.endswith(f"/{OUTPUT}") and n.count("/") == 1] + [self.graph.output_name]

    def outputs(self, names: list[str]) -> Compute:
        """A function that computes the named tensors."""
        session = open_model(load_widened(self.path), names)
        return lambda images: self._run(session, names, images)

    def outputs_alone(self, names: list[str]) -> Callable[[np.ndarray, Mapping[str, np.ndarray]], dict]:
        """A function that computes each named tensor from given values of the tensors before it."""
        model = load_widened(self.path)
        made = {value.name: value for each in model.graph for value in each.outputs}
        for name in names[:-1]:
            given = ir.Value(name=f"{name}/given", shape=made[name].shape, type=ir.TensorType(ir.DataType.FLOAT))
            ir.convenience.replace_all_uses_with(made[name], given)
            model.graph.inputs.append(given)
        session = open_model(model, names)

        def compute(images: np.ndarray, others: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            return self._run(session, names, images, {f"{name}/given": others[name] for name in names[:-1]})

        return compute

    def _run(self, session, names: list[str], images: np.ndarray, given: Mapping[str, np.ndarray] | None = None):
        if self.graph.preprocessing.input == "float32":
            images = as_float(images, self.graph.preprocessing)
        parts = list(batches(self.graph, session, graph_input(self.graph, images), silent, "", given=given))
        return {name: np.concatenate([part[name] for part in parts]) for name in names}


@dataclass(frozen=True, eq=False)
class JaxSide:
    """The JAX model."""

    spec: ModelSpec
    params: dict

    def names(self) -> list[str]:
        """As ``GraphSide.names``."""
        blocks = [block_name(index) for index in range(self.spec.depth)]
        return [f"{place}/{OUTPUT}" for place in ("embedding", *blocks, "norm")] + [LOGITS]

    def outputs(self, names: list[str]) -> Compute:
        """A function that computes the named tensors, and others."""
        from ...models.vit import intermediates

        return functools.partial(intermediates, self.spec, self.params)


def side_of(version) -> GraphSide | JaxSide:
    """The side that a Variant, a Graph, or the pair (spec, params) stands for.

    Raises:
        WorkbenchError: it is none of these.
    """
    if isinstance(version, Variant | Graph):
        return GraphSide(version.graph if isinstance(version, Variant) else version, version.path)
    if isinstance(version, tuple) and len(version) == 2 and isinstance(version[0], ModelSpec):
        return JaxSide(*version)
    raise WorkbenchError(
        "diff compares variants, graphs and JAX models",
        why=f"it was given a {type(version).__name__}",
        remedy="give a Variant, a Graph, or the pair (spec, params)",
    )


def both_sides(
    left: GraphSide | JaxSide, right: GraphSide | JaxSide, names: list[str], images: np.ndarray, progress: Progress
) -> Iterator[tuple[np.ndarray, dict, dict]]:
    """A few images at a time, and the named tensors that both sides compute of them.

    Pixels are normalised for a side that takes float32, as the other side's graph has it where the side is JAX.
    """
    graph = next(side.graph for side in (left, right) if isinstance(side, GraphSide))
    ours, theirs = (_of_pixels(side, side.outputs(names), graph.preprocessing) for side in (left, right))
    for start in range(0, len(images), BATCH):
        progress("compare", start, len(images))
        batch = images[start : start + BATCH]
        yield batch, ours(batch), theirs(batch)
    progress("compare", len(images), len(images))


def _of_pixels(side: GraphSide | JaxSide, compute: Compute, preprocessing: Preprocessing) -> Compute:
    """The same function, for images that may be pixels; a graph's side knows its own preprocessing."""
    return compute if isinstance(side, GraphSide) else lambda images: compute(as_float(images, preprocessing))
