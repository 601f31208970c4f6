"""What is read from the layers of engines that are built here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.backends.vits import ALL_SITES, Block, draw
from workbench.backends import build_engine
from workbench.backends.tensorrt.layers import Layer
from workbench.errors import WorkbenchError
from workbench.performance.fusion import fusion, rows_of
from workbench.performance.products import products
from workbench.records import Batches

pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is missing: pip install tensorrt-rtx")


def build(folder, blocks, card, **drawing):
    return build_engine(draw(folder, blocks, **drawing), "tensorrt-rtx", folder / "workspace", card=card)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """One engine of a block in half, one with INT8 linear layers, and one with half-quantized attention."""
    blocks = [Block(), Block(linear="int8"), Block(low="int8", sites=ALL_SITES[:3])]
    return build(tmp_path_factory.mktemp("mixed"), blocks, "SM86")


def test_the_table_says_how_linear_layers_read_and_that_attention_apart_costs_more_layers(mixed):
    fused, eight, apart = fusion(mixed).itertuples()
    assert (fused.linear_types, eight.linear_types, apart.linear_types) == ("fp16", "int8", "fp16")
    assert apart.layers > fused.layers
    assert apart.reformats > fused.reformats


def test_a_block_in_fp32_names_the_roles_that_compute_in_it(tmp_path):
    (row,) = fusion(build(tmp_path, [Block()], "A10", high="fp32")).itertuples()
    assert {"qkv", "scores", "softmax", "proj", "fc1", "fc2"} <= set(row.fp32.split())
    assert row.attention_fused is False
    assert row.attention_type is None


def test_batches_do_not_change_what_is_fused(tmp_path):
    variant = draw(tmp_path, [Block()])
    for batches in (Batches(1, 1, 1), Batches(1, 64, 128)):
        engine = build_engine(variant, "tensorrt-rtx", tmp_path, batches=batches, card="A100")
        assert list(fusion(engine).attention_fused) == [True]


def test_what_has_no_list_of_layers_is_refused(mixed):
    gone = mixed.log_path.with_suffix(".away")
    unknown = [replace(mixed, log_path=path) for path in (None, gone)]
    for given, reason in (*((engine, "are not known") for engine in unknown), ("engine.plan", "given was str")):
        for table in (fusion, products):
            with pytest.raises(WorkbenchError, match=reason):
                table(given)


@pytest.mark.parametrize(
    ("inputs", "kind"),
    [
        (("fp16", "int8", "int8", "int8"), "int8"),  # an additive bias comes first, as in BEiT
        (("int8", "int8", "int8", "fp16"), "int8"),
        (("fp16", "int8"), "int8"),  # queries, keys and values in one tensor
        (("fp32", "fp16", "fp16", "fp16"), "fp16"),  # a mask in float32
        (("fp16", "fp16", "fp16", "int8"), "fp16"),
        (("fp16", "fp16", "fp16"), "fp16"),
        ((), None),
    ],
)
def test_the_type_of_attention_is_that_of_queries_keys_and_values_not_of_a_bias(inputs, kind):
    nodes = tuple(f"block00/attention/{node}" for node in ("scores", "softmax", "context"))
    (row,) = rows_of([Layer("_gemm_mha_v2_0", "kgen", nodes, inputs, ("fp16",))], 1)
    assert row["attention_fused"] is True
    assert row["attention_type"] == kind
