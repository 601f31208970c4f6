"""From each layer of an engine to its ONNX nodes, and to the lines of Python that they come from."""

from __future__ import annotations

import math

import pandas as pd

from ..backends.tensorrt.layers import layers_of
from ..errors import refuse_unless
from ..graphs.analysis.inspect import inspect
from ..records import Engine
from .layers import Timed, main_place, node_of, places_of, runs_here, time_layers

COLUMNS = ("layer", "block", "role", "nodes", "source", "ms")


def layer_sources(engine: Engine, batch: int = 1) -> pd.DataFrame:
    """The layers of an engine with the lines of code that they compute.

    Args:
        engine: what a backend built.
        batch: images per call, where the engine can be run here.

    Returns:
        A row per layer, in the order of execution: ``layer``, the runtime's name; ``block`` and ``role``;
        ``nodes``, the names of its ONNX nodes, empty where the runtime gives none; ``source``, the lines of those
        nodes, such as ``models/vit.py:42``, or of all nodes of its place where the runtime names none, or None
        where no line is known; ``ms``, NaN where the engine cannot run here.

    Raises:
        WorkbenchError: the engine cannot run here, and its build left no list of its layers.
    """
    layers = time_layers(engine, batch)[0] if runs_here(engine) else [Timed(x, math.nan) for x in layers_of(engine)]
    refuse_unless(
        bool(layers),
        f"The layers of {engine.label} are not known",
        why="it cannot be run here, and its build left no list of them",
        remedy="build it anew, or run it on its own GPU",
    )
    nodes = inspect(engine, runtimes=()).nodes
    stamped = nodes.dropna(subset="source").fillna({"block": ""})
    known, by_name = set(nodes.name), dict(zip(stamped.name, stamped.source))
    by_place = stamped.groupby(["block", "role"]).source.unique().to_dict()
    rows = []
    for (layer, seconds), places in zip(layers, places_of(layers)):
        place = main_place(places)
        named = [name for each in layer.nodes if (name := each if each in known else node_of(each)) in known]
        lines = [by_name[name] for name in named if name in by_name]
        lines = lines or by_place.get((place.block or "", place.role), ())
        source = ", ".join(dict.fromkeys(lines)) or None
        rows.append((layer.name, place.block, place.role, ", ".join(named), source, 1e3 * seconds))
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype({"block": object, "source": object})
