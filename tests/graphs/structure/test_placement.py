"""Blocks and roles found by structure, in graphs as exporters write them."""

from collections import Counter

import numpy as np
import pytest

from tests.graphs.onnx_file import inferred
from tests.graphs.references import EXPORTS, VITS, traced
from workbench.graphs import model_file
from workbench.graphs.structure.placement import find_paths, find_places
from workbench.places import Place

PRODUCTS = ("MatMul", "Gemm", "Einsum")


def products(model, places):
    """Block -> how many products have which role; every node has one."""
    assert set(places) == set(model.graph)
    found = {}
    for node in model.graph:
        if node.op_type in PRODUCTS:
            place = places[node]
            found.setdefault(place.block, Counter())[place.role] += 1
    return found


def expected(qkv, heads=1, pre_logits=0, scores=2):
    block = Counter(qkv=qkv, scores=scores, proj=1, fc1=1, fc2=1)
    outside = Counter(head=heads) + Counter(pre_logits=pre_logits)
    return {"block00": +block, "block01": +block, None: outside}


@pytest.mark.parametrize("name", VITS)
def test_every_node_of_torchs_own_graph_has_a_role(name):
    model = model_file.load(EXPORTS / f"{name}.onnx")
    places = find_places(model)
    assert "other" not in {place.role for place in places.values()}
    separate, distilled = "separate" in name, "distilled" in name
    scores = 0 if name.endswith("_op") else 2
    assert products(model, places) == expected(3 if separate else 1, 2 if distilled else 1, scores=scores)
    curves = [places[node] for node in model.graph if node.op_type in ("Erf", "Gelu", "Tanh")]
    assert curves == [Place("block00", "gelu"), Place("block01", "gelu")]


@pytest.mark.parametrize(("kind", "batch"), [("token", "dynamic"), ("gap", 3), ("prelogits", "dynamic")])
def test_every_node_of_jax2onnxs_own_graph_has_a_role(kind, batch):
    model = traced(kind, batch=batch)
    places = find_places(model)
    assert products(model, places) == expected(1, pre_logits=kind == "prelogits")
    assert {place.role for place in places.values() if place.block is None} >= {"embedding", "norm", "pool", "head"}


def test_layernorm_written_out_belongs_to_its_norm():
    places = find_places(model_file.load(EXPORTS / "separate_mean_legacy.onnx"))
    for place in (Place("block00", "norm1"), Place("block01", "norm2"), Place(None, "norm")):
        kinds = Counter(node.op_type for node, found in places.items() if found == place)
        assert kinds == dict(ReduceMean=2, Sub=1, Pow=1, Add=2, Sqrt=1, Div=1, Mul=1)


def test_names_play_no_part():
    plain = model_file.load(EXPORTS / "fused_legacy.onnx")
    before = [find_places(plain)[node] for node in plain.graph]
    for index, node in enumerate(plain.graph):
        node.name = f"block07/mlp/fc1/{index}"
    assert [find_places(plain)[node] for node in plain.graph] == before


def test_a_softmax_that_is_no_attention_makes_no_block():
    text = "g (float[n,4] x, float[4,4] w) => (float[n,4] y) { p = Softmax(x) z = MatMul(p, w) y = Add(z, x) }"
    assert find_paths(inferred(text)) == {}


def test_a_second_attention_is_no_mlp():
    layer = """{0}t = Transpose<perm=[0, 2, 1]>({1}) {0}h = MatMul({1}, w) {0}s = MatMul({0}h, {0}t)
    {0}p = Softmax({0}s) {0}c = MatMul({0}p, {1}) {0}o = MatMul({0}c, w) {2} = Add({1}, {0}o)"""
    layers = f"{layer.format('a', 'x', 'z')} {layer.format('b', 'z', 'y')}"
    model = inferred(f"g (float[n,6,8] x) => (float[n,6,8] y) {{ {layers} }}", w=np.ones((8, 8), np.float32))
    found = find_places(model).values()
    assert {place.block for place in found} == {"block00", "block01"}
    assert not {"fc1", "gelu", "fc2"} & {place.role for place in found}
