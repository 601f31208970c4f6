"""Layer lists of every version, read into one form; the samples in tests/data/inspector say where they are from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from workbench.backends.tensorrt.layers import Layer, from_inspector, from_log, timed_rows
from workbench.performance.fusion import rows_of

SAMPLES = Path(__file__).parents[2] / "data" / "inspector"


def sample(version: str) -> list[Layer]:
    # 8.6 writes line breaks into strings
    return from_inspector(json.loads((SAMPLES / f"{version}.json").read_text(), strict=False))


@pytest.mark.parametrize("version", ["10", "11"])
def test_the_inspectors_of_10_and_11_list_the_same_layers(version):
    layers = sample(version)
    assert [layer.is_attention for layer in layers] == [False, False, False, True, False, False]
    assert [layer.is_reformat for layer in layers] == [True, False, False, False, False, True]
    assert layers[0].inputs == ("fp32",)
    assert layers[3].inputs == ("fp16",) * 3
    (row,) = rows_of(layers)
    assert (row["block"], row["attention_fused"], row["attention_type"]) == ("block00", True, "fp16")
    assert row["linear_types"] == "fp16"
    assert row["reformats"] == 1


@pytest.mark.parametrize("version", ["8.6", "8.6-names"])
def test_a_region_of_myelin_on_86_leaves_the_fusion_of_every_block_unknown_with_a_note(version):
    rows = rows_of(sample(version), depth=12)
    assert [row["block"] for row in rows] == [f"block{i:02d}" for i in range(12)]
    assert {(row["attention_fused"], row["attention_type"]) for row in rows} == {(None, None)}
    assert all("Myelin" in row["note"] for row in rows)
    assert {layer.inputs for layer in sample("8.6")} == {()}  # types that a dynamic batch hides


@pytest.mark.parametrize("version", ["8.6", "8.6-names"])
def test_a_region_on_86_is_timed_as_the_whole_encoder_and_a_reformat_as_what_it_serves(version):
    layers = sample(version)
    rows = timed_rows([(layer.name, 1e-3) for layer in layers], layers)
    region = next(row for row in rows if row["name"].startswith("{ForeignNode["))
    assert (region["block"], region["role"]) == (None, "block00 to logits")
    assert [row["role"] for row in rows[:7]] == ["embedding"] * 7


@pytest.mark.parametrize(
    ("name", "depth", "expected"),
    [
        ("{ForeignNode[block01/norm1...block03/residual2]}", 12, ["block01", "block02", "block03"]),
        ("{ForeignNode[block10/norm1 + (Unnamed Layer* 1)...head/bias_160]}", 12, ["block10", "block11"]),
        ("{ForeignNode[embedding/patches...block01/mlp/fc1]}", 12, ["block00", "block01"]),
        ("{ForeignNode[block02/norm1...logits/fp32]}", None, ["block02"]),
        ("{ForeignNode[embedding/cast...head/cast]}", 2, ["block00", "block01"]),
        ("{ForeignNode[images/fp16...block00/norm1]}", 2, ["block00"]),
        ("{ForeignNode[norm/scale...head]}", 2, []),
        ("{ForeignNode[embedding/layout...embedding/tokens]}", 2, []),
        ("block01/mlp/fc1 + block01/mlp/gelu", 2, ["block01"]),
    ],
)
def test_a_region_covers_the_blocks_between_its_ends(name, depth, expected):
    (layer,) = from_inspector({"Layers": [name]})
    assert list(layer.blocks(depth)) == expected


LINE = (
    "Name: {name}, LayerType: kgen, Inputs: [ {{ Name: a, Dimensions: [-1,65], Strides: [65,1], StrideOrder: [1,0],"
    " Datatype: Half, Format: (Linear) Row major linear format }}], Constants: [ {{ Name: c, Dimensions: [1],"
    " Datatype: Float, Format: (Linear) Row major linear format }}], Outputs: [ {{ Name: b, Dimensions: [-1,65],"
    " Datatype: Int8, Format: (Linear) Row major linear format }}], TacticName: _gemm_mha_v2_0x1, StreamId: 0,"
    " Metadata: [ONNX Layer: block00/attention/softmax][ONNX Layer: block01/norm1]"
)


def log_of(*names: str) -> str:
    return "\n".join(["[VERBOSE] Layers:", *(LINE.format(name=name) for name in names), "", "I/O Tensors:"])


def test_a_line_of_the_log_gives_types_of_activations_apart_from_constants():
    (layer,) = from_log(log_of("__myl_ReshTran_myl0_3"))
    assert (layer.inputs, layer.constants, layer.outputs) == (("fp16",), ("fp32",), ("int8",))
    assert layer.nodes == ("block00/attention/softmax", "block01/norm1")
    assert layer.operations == ("Resh", "Tran")


def test_a_tactic_of_attention_in_a_layer_of_another_name_is_no_proof():
    assert not from_log(log_of("__myl_ReshTran_myl0_3"))[0].is_attention
    assert from_log(log_of("_gemm_mha_v2_myl0_3"))[0].is_attention


def test_of_several_lists_the_last_counts_and_a_log_without_one_has_no_layers():
    layers = from_log(log_of("first_myl0_0", "second_myl0_1") + "\n" + log_of("third_myl0_0"))
    assert [layer.name for layer in layers] == ["third_myl0_0"]
    assert from_log("[INFO] nothing here\nName: of something else") == from_log("") == []


def test_seconds_are_joined_to_block_and_role():
    rows = timed_rows([("_gemm_mha_v2_myl0_3", 2e-3), ("__myl_FcAdd_myl0_4", 1e-3), ("new", 5e-4)], sample("10"))
    assert [(row["block"], row["role"], row["seconds"]) for row in rows] == [
        ("block00", "scores softmax", 2e-3),
        ("block00", "proj", 1e-3),
        (None, "unnamed", 5e-4),
    ]


def test_a_region_over_several_blocks_has_a_span_and_old_names_that_join_nodes_by_plus_are_taken_apart():
    region = Layer("{ForeignNode[a...b]}", "Myelin", tuple(f"block{i:02d}/mlp/fc1" for i in range(12)), (), ())
    rows = timed_rows([(region.name, 1e-3), ("block02/mlp/fc1 + block02/mlp/gelu", 1e-3)], [region])
    assert [(row["block"], row["role"]) for row in rows] == [(None, "block00 to block11"), ("block02", "fc1 gelu")]
