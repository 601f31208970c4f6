"""A name says in which block and role a node stands."""

import pytest

from workbench.places import Place, block_index, block_name, place_of


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("block03/attention/qkv", Place("block03", "qkv")),
        ("block03/attention/qkv/bias", Place("block03", "qkv")),
        ("block03/attention/scale", Place("block03", "scores")),
        ("block11/mlp/fc1/kernel", Place("block11", "fc1")),
        ("block11/mlp/fc10", Place("block11", "other")),
        ("block03", Place("block03", "other")),
        ("block03/output", Place("block03", "other")),
        ("embedding/patches", Place(None, "embedding")),
        ("head", Place(None, "head")),
        ("headless", None),
        ("my_block03/qkv", None),
        ("", None),
    ],
)
def test_the_place_is_read_off_the_beginning_of_a_name(name, place):
    assert place_of(name) == place


def test_the_name_of_a_block_and_its_index_belong_together():
    assert [block_index(block_name(index)) for index in (0, 7, 31, 100)] == [0, 7, 31, 100]
    assert block_name(3) == "block03"
