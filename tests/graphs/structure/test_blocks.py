"""Blocks in the spellings of the field: every product has a role, and nothing is called what it is not."""

from collections import Counter

import onnx_ir as ir
import onnx_ir.passes.common as passes
import pytest

from tests.graphs import spellings
from workbench.graphs.structure.blocks import find_blocks
from workbench.graphs.structure.placement import find_paths
from workbench.graphs.structure.walk import Walker
from workbench.places import place_of

BLOCK = Counter(qkv=3, scores=2, proj=1, fc1=1, fc2=1)
#: Spelling -> how many products have which role in each block, and outside.
EXPECTED = {
    "windows": {"block00": BLOCK, "block01": BLOCK, None: Counter(embedding=1, head=1)},
    "parallel": {"block00": BLOCK, "block01": BLOCK, None: Counter(embedding=1, head=1)},
    "rotary": {"block00": BLOCK, "block01": BLOCK, None: Counter(embedding=1, head=1)},
    "talking_heads": {
        **dict.fromkeys(("block00", "block01"), BLOCK + Counter(scores=1, softmax=1)),
        **dict.fromkeys(("block02", "block03"), BLOCK),
        None: Counter(embedding=1, head=1),
    },
    "attention_pool": {"block00": BLOCK, "block01": BLOCK, None: Counter(embedding=1, pool=7, head=1)},
    "convolutions_between": {"block00": BLOCK, "block01": BLOCK, None: Counter(embedding=1, head=1)},
}


def read(name):
    model = ir.from_proto(spellings.ALL[name]())
    passes.LiftConstantsToInitializersPass()(model)
    passes.ShapeInferencePass()(model)
    return model


@pytest.mark.parametrize("name", EXPECTED)
def test_every_product_is_found_by_its_role(name):
    model = read(name)
    found = {}
    for node, path in find_paths(model).items():
        if node.op_type in ("MatMul", "Conv"):
            place = place_of(path)
            found.setdefault(place.block, Counter())[place.role] += 1
    assert found == EXPECTED[name]


@pytest.mark.parametrize("name", sorted(set(EXPECTED) - {"convolutions_between"}))
def test_no_node_is_left_without_a_place(name):
    model = read(name)
    assert set(find_paths(model)) == set(model.graph)


@pytest.mark.parametrize("name", EXPECTED)
def test_what_is_called_a_norm_or_a_residual_holds_no_product_and_no_softmax(name):
    places = {node: place_of(path) for node, path in find_paths(read(name)).items()}
    norms = {node.op_type for node, place in places.items() if place.role in ("norm", "norm1", "norm2", "residual")}
    assert norms.isdisjoint(("MatMul", "Conv", "Softmax", "Gelu", "Sigmoid"))


def test_a_convolution_between_blocks_gets_no_place():
    model = read("convolutions_between")
    places = find_paths(model)
    between = [node for node in model.graph if node.op_type == "Conv"][1:]
    assert len(between) == 2
    assert not any(node in places for node in between)


def test_relu_is_not_called_gelu():
    places = {
        place_of(path).role
        for node, path in find_paths(read("convolutions_between")).items()
        if "Relu" in node.op_type
    }
    assert places == {"activation"}


def test_the_halves_of_a_parallel_block_end_in_one_addition():
    model = read("parallel")
    blocks = find_blocks(Walker(model))
    assert [block.parallel for block in blocks] == [True, True]
    assert blocks[1].first.stream is blocks[0].output
    places = find_paths(model)
    assert places[blocks[0].first.node] == "block00/residual2"
    assert places[blocks[0].second.node] == "block00/residual1"
