"""From an engine's layer to its ONNX nodes and to the lines of the Flax model."""

from __future__ import annotations

import dataclasses
import linecache

import numpy as np
import pytest

from tests.graphs.drawn import draw
from workbench.backends import build_engine
from workbench.errors import WorkbenchError
from workbench.graphs.export import export_onnx
from workbench.graphs.quantization.recipe import apply_recipe
from workbench.models import vit
from workbench.performance.source_map import layer_sources
from workbench.records import ModelSpec, Recipe

SPEC = ModelSpec("small", image_size=32, patch=8, width=128, depth=1, heads=2, mlp=256, classes=4)
IMAGES = np.random.default_rng(0).standard_normal((4, 32, 32, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    return export_onnx(SPEC, vit.init(SPEC), tmp_path_factory.mktemp("traced"), images=IMAGES)


def lines(source):
    """The text of the lines that a row names."""
    names = source.split(", ")
    assert all(name.startswith("models/vit.py:") for name in names)
    return " ".join(linecache.getline(vit.__file__, int(name.split(":")[1])) for name in names)


@pytest.mark.parametrize("recipe", [Recipe(), Recipe("int8", layout="cpu")], ids=lambda one: one.label)
def test_every_layer_of_onnx_runtime_says_its_time_and_its_line(recipe, graph, tmp_path):
    engine = build_engine(apply_recipe(graph, recipe, tmp_path, IMAGES), "onnxruntime", tmp_path)
    found = layer_sources(engine, batch=2)
    assert (found.ms >= 0).all()
    assert found.ms.sum() > 0
    assert found.source.notna().all()
    for layer in found[found.layer == "block00/mlp/fc1"].itertuples():
        assert 'name="Dense_0"' in lines(layer.source)
    scores = found[found.nodes.str.contains("attention/scores")].iloc[0]
    assert "batch_matmul(q, k)" in lines(scores.source)
    gelu = found[found.role == "gelu"].iloc[0]  # the runtime's own FastGelu bears no name of ours
    assert "nn.gelu" in lines(gelu.source)


def test_a_fused_layer_of_tensorrt_says_the_lines_of_all_its_nodes(graph, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is missing: pip install tensorrt-rtx")
    engine = build_engine(apply_recipe(graph, Recipe("fp16"), tmp_path), "tensorrt-rtx", tmp_path, card="L4")
    found = layer_sources(engine)
    (attention,) = found[found.layer.str.startswith("_gemm_mha_v2")].itertuples()
    assert attention.block == "block00"
    assert {"block00/attention/scores", "block00/attention/softmax"} <= set(attention.nodes.split(", "))
    assert "softmax(" in lines(attention.source)
    assert "batch_matmul(q, k)" in lines(attention.source)
    assert found.ms.isna().all()  # nothing was run
    with pytest.raises(WorkbenchError, match="are not known"):
        layer_sources(dataclasses.replace(engine, log_path=None))


def test_a_graph_without_stamps_has_layers_without_lines(tmp_path):
    found = layer_sources(build_engine(apply_recipe(draw(tmp_path), Recipe(), tmp_path), "onnxruntime", tmp_path))
    assert found.source.isna().all()
    assert found.nodes.str.len().gt(0).mean() > 0.8
