"""Layers at the roofline of a card, against products and tensors counted by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from workbench.backends.hardware.peaks import Peak
from workbench.backends.tensorrt.layers import Layer
from workbench.errors import WorkbenchError
from workbench.performance import layer_estimate
from workbench.performance.layer_estimate import estimate_layers
from workbench.records import ModelSpec

SPEC = ModelSpec("one block", image_size=64, patch=8, width=128, depth=1, heads=2, mlp=256, classes=10)
TOKENS, WIDTH, BATCH = 65, 128, 3
HALF, BYTES = ("fp16", "fp16"), ("int8", "int8")


def gemm(*nodes, inputs=HALF, name="gemm"):
    return Layer(name, "gemm", tuple(f"block00/{node}" for node in nodes), inputs, ("fp16",))


@pytest.fixture
def seconds(monkeypatch):
    """Layers -> seconds of each, on a card with a given FLOP/s in fp16 (twice in int8) and bytes/s."""

    def estimate(layers, flops, bandwidth):
        peak = Peak("a card", {"fp16": flops, "int8": 2 * flops}, bandwidth, "made up")
        monkeypatch.setattr(layer_estimate, "peak_of", lambda card: peak)
        monkeypatch.setattr(layer_estimate, "layers_of", lambda engine: layers)
        engine = SimpleNamespace(label="an engine", variant=SimpleNamespace(graph=SimpleNamespace(spec=SPEC)))
        timed, whole_s = estimate_layers(engine, BATCH, "a card")
        assert whole_s == pytest.approx(sum(one.seconds for one in timed))
        return [one.seconds for one in timed]

    return estimate


def test_a_product_takes_its_macs_at_the_peak_of_the_type_that_it_reads(seconds):
    flop = 2 * BATCH * TOKENS * WIDTH * 256
    fc1, eight = seconds([gemm("mlp/fc1"), gemm("mlp/fc1", inputs=BYTES)], flops=1e9, bandwidth=1e30)
    assert fc1 == pytest.approx(flop / 1e9)
    assert eight == pytest.approx(flop / 2e9)


def test_both_products_of_an_attention_cost_the_same_fused_and_apart(seconds):
    nodes = ("attention/scores", "attention/softmax", "attention/context")
    fused = gemm(*nodes, name="_gemm_mha_v2_3")
    first, second, whole = seconds([gemm(nodes[0]), gemm(nodes[2]), fused], flops=1e9, bandwidth=1e30)
    assert whole == pytest.approx(2 * BATCH * 2 * TOKENS**2 * WIDTH / 1e9)
    assert first == second == pytest.approx(whole / 2)


def test_a_layer_without_a_product_takes_its_tensors_once_through_memory(seconds):
    norm = Layer("norm", "kgen", ("block00/norm1",), ("fp16",), ("int8",))
    softmax = Layer("softmax", "kgen", ("block00/attention/softmax",), ("fp16",), ("fp16",))
    index = Layer("gather", "kgen", ("block00/norm1",), ("int64",), ("bool",))
    unknown = Layer("shape", "shape_call", (), ("fp32",), ("fp32",))
    found = seconds([norm, softmax, index, unknown], flops=1e30, bandwidth=1e9)
    numbers = BATCH * TOKENS * WIDTH
    assert found == pytest.approx([3 * numbers / 1e9, 4 * BATCH * 2 * TOKENS**2 / 1e9, 0, 0])


def test_layers_that_hide_their_contents_are_refused(seconds):
    region = Layer("{ForeignNode[block00/norm1...head]}", "Myelin", ("block00/norm1", "head"), (), ())
    for layers in ([region], []):
        with pytest.raises(WorkbenchError, match="cannot be estimated"):
            seconds(layers, flops=1.0, bandwidth=1.0)
