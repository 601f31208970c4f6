"""Kernels joined to blocks and roles: certain where products match one to one, a guess where they do not."""

from __future__ import annotations

import pytest

from tests.backends.hardware import traces
from workbench.backends.hardware.kernels import Kernel
from workbench.performance.kernel_places import Product, between, fits, kernels_of_rows, place_kernels
from workbench.records import ModelSpec
from workbench.studies.recorded import recorded

#: Four blocks of B/32, whose kernels ``traces`` holds, at batch 32.
SPEC = ModelSpec("four of B/32", 224, 32, 768, 4, 12, 3072, 1000)
BATCH = 32


def roles(placed, block):
    return [one.place.role for one in placed if one.place.block == block and one.kernel.is_product]


def test_attention_apart_gives_two_products_and_a_softmax_to_every_block():
    placed = place_kernels(traces.int8_attention_apart(), SPEC, BATCH)
    for block in ("block00", "block01", "block02", "block03"):
        assert roles(placed, block) == ["qkv", "scores", "scores", "proj", "fc1", "fc2"]
        (softmax,) = [one for one in placed if one.place.block == block and one.place.role == "softmax"]
        assert softmax.kernel.name == traces.SOFTMAX
    assert [one.place.role for one in placed if one.kernel.name == traces.TF32] == ["head"]
    assert not any(one.guess for one in placed if one.kernel.is_product)
    assert all(one.guess for one in placed if not one.kernel.is_product)


def test_a_fused_attention_is_all_three_nodes_of_its_block():
    placed = place_kernels(traces.fp16_fused(), SPEC, BATCH)
    fused = [one for one in placed if one.kernel.is_attention]
    assert [one.kernel.name for one in fused] == ["mha0", "mha1", "mha2", "mha3"]
    assert [one.place.block for one in fused] == ["block00", "block01", "block02", "block03"]
    assert fused[2].nodes == tuple(f"block02/attention/{node}" for node in ("scores", "softmax", "context"))
    assert not any(one.guess for one in fused)


def test_kernels_between_products_stand_where_the_model_has_other_operators():
    placed = place_kernels(traces.fp16_fused(), SPEC, BATCH)
    found = [(one.place.name, one.kernel.operations[:1]) for one in placed if one.kernel.operations]
    assert found[:5] == [
        ("block00/norm1", ("Resh",)),
        ("block00/split", ("Tran",)),
        ("block00/residual", ("Resh",)),
        ("block00/gelu", ("Mul",)),
        ("block00/residual", ("Resh",)),
    ]
    assert {one.place.name for one in placed[:5]} == {"embedding"}


def test_three_products_for_q_k_and_v_and_one_block_with_attention_apart_are_told():
    def block(attention):
        linear = 3 * [Kernel(traces.F16_WIDE, 1e-6)]
        return [*linear, *attention, *linear]

    apart, fused = 2 * [Kernel(traces.F32, 1e-6)], [Kernel("mha0", 1e-6)]
    kernels = [*block(fused), *block(apart), *block(fused), *block(fused), Kernel(traces.F16_HEAD, 1e-6)]
    placed = place_kernels(kernels, SPEC, BATCH)
    assert roles(placed, "block00") == ["qkv", "qkv", "qkv", "proj", "fc1", "fc2"]
    assert roles(placed, "block01") == ["qkv", "qkv", "qkv", "scores", "scores", "proj", "fc1", "fc2"]
    assert not any(one.guess for one in placed)


def test_a_product_too_many_or_too_few_makes_every_place_a_guess():
    whole = traces.fp16_fused()
    products = [index for index, kernel in enumerate(whole) if kernel.is_product]
    few = [kernel for index, kernel in enumerate(whole) if index != products[6]]
    many = [*whole[:20], Kernel(traces.F32, 1e-6), *whole[20:]]
    for kernels in (few, many):
        placed = place_kernels(kernels, SPEC, BATCH)
        assert [one.kernel for one in placed] == kernels
        assert all(one.guess for one in placed)
        attention = [one.place.block for one in placed if one.kernel.is_attention]
        assert attention == ["block00", "block01", "block02", "block03"]  # they still hold the blocks apart


def test_a_grid_that_contradicts_its_product_makes_that_place_a_guess():
    kernels = traces.fp16_fused()
    first = next(index for index, kernel in enumerate(kernels) if kernel.name == traces.F16_WIDE)
    # qkv of B/32 at 32: 1600 x 2304 in tiles of 64 x 256, 25 rows rounded up to clusters of four: 28 x 9
    for grid, guess in (((28, 9, 1), False), ((28, 9, 3), False), ((132, 1, 1), False), ((409, 1, 1), True)):
        changed = [*kernels[:first], kernels[first]._replace(grid=grid), *kernels[first + 1 :]]
        assert place_kernels(changed, SPEC, BATCH)[first].guess is guess


@pytest.mark.parametrize(
    ("grid", "expected"),
    [((28, 9, 1), True), ((132, 1, 1), None), ((36, 7, 1), True), ((28, 9, 2), True), ((1000, 1, 1), False)],
)
def test_thread_blocks_fit_a_product_its_transpose_or_a_split_of_it(grid, expected):
    kernel = Kernel(traces.I8_WIDE, 1e-6, grid)
    # transposed, 2304 rows are 36 tiles of 64 and 1600 columns 7 tiles of 256
    assert fits(kernel, Product("block00/attention/qkv", 1600, 2304)) is expected


def test_without_a_grid_or_a_tile_the_shape_says_nothing():
    product = Product("head", 32, 1000)
    assert fits(Kernel(traces.I8_WIDE, 1e-6), product) is None
    assert fits(Kernel("ampere_sgemm_32x128_tn", 1e-6, (7, 7, 7)), product) is None


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("", "embedding/patches", ("embedding/patches",)),
        ("block00/mlp/fc2", "block01/attention/qkv", ("block00/residual2", "block01/norm1")),
        ("block03/mlp/fc2", "head", ("block03/residual2", "norm")),
        ("pre_logits", "head", ("pre_logits",)),
        ("head", "", ("head",)),
        ("block00/attention/context", "block00/attention/proj", ("block00/attention/merge",)),
        ("block00/attention/qkv", "block02/mlp/fc1", ()),
    ],
)
def test_what_stands_between_two_products(before, after, expected):
    assert between(before, after) == expected


def test_rows_of_a_session_become_kernels_again():
    kernels = [kernel._replace(grid=(1, 2, 3)) for kernel in traces.fp16_fused()]
    assert kernels_of_rows([kernel.row() for kernel in kernels]) == kernels


def test_on_real_calls_every_product_of_every_block_has_its_certain_place():
    run = recorded("h200")
    traced = [case for case in run.cases.values() if case.kernels]
    assert len(traced) > 3
    for case in traced:
        spec, placed = case.engine.variant.graph.spec, case.placed()
        products = [one for one in placed if one.kernel.is_product or one.kernel.is_attention]
        assert not any(one.guess for one in products), case.name
        for index in range(spec.depth):
            found = [one.place.role for one in products if one.place.block == f"block{index:02}"]
            fused, apart = (["qkv", *count * ["scores"], "proj", "fc1", "fc2"] for count in (1, 2))
            assert found in (fused, apart), case.name
