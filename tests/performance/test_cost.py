import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

import workbench as wb
from workbench.models import vit
from workbench.performance import cost
from workbench.performance.crossover import attention_overtakes_mlp, tokens_at
from workbench.places import PLACES


def test_products_are_those_of_the_hand_counts():
    gmac = {"B/32": 4.41, "B/16": 17.6, "L/16": 61.6, "H/14": 167.3}  # at 224 px
    counted = {size: wb.cost(wb.model_spec(size)).total_macs / 1e9 for size in gmac}
    assert counted == pytest.approx(gmac, rel=0.003)


def test_one_block_of_b32_is_counted_by_hand():
    frame = wb.cost(wb.model_spec("B/32")).frame()
    block = frame[frame.block == "block07"].set_index("role")
    assert block.macs["qkv"] == 50 * 768 * 2304
    assert block.macs["scores"] == 2 * 12 * 50 * 50 * 64
    assert block.macs["proj"] == 50 * 768 * 768
    assert block.macs["fc1"] == block.macs["fc2"] == 50 * 768 * 3072
    assert block.parameters.sum() == 7_087_872  # torchvision's EncoderBlock of ViT-B
    assert block.bytes_written["softmax"] == 4 * 12 * 50 * 50


def test_parameters_are_those_of_the_parameter_tree():
    for size in vit.SIZES:
        spec = wb.model_spec(size, representation=96)
        tree = vit.parameter_shapes(spec)
        assert wb.cost(spec).parameters == sum(math.prod(shape) for shape in tree.values()), size


@pytest.mark.parametrize(
    ("spec", "batch"),
    [
        *((wb.model_spec(size), 1) for size in ("Ti/16", "B/32", "B/8", "L/16", "H/14", "tutorial")),
        (wb.model_spec("S/16", image_size=512, classes=10), 1),
        (wb.model_spec("S/32", classifier="gap", representation=384), 3),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_flops_are_within_two_percent_of_xlas_own_count(spec, batch):
    spec = dataclasses.replace(spec, depth=2)  # every block costs the same, and tracing takes time
    shapes = vit.parameter_shapes(spec)
    flat = {path: jax.ShapeDtypeStruct(shape, jnp.float32) for path, shape in shapes.items()}
    params = traverse_util.unflatten_dict(flat, sep="/")
    images = jax.ShapeDtypeStruct((batch, spec.image_size, spec.image_size, 3), jnp.float32)
    lowered = jax.jit(vit.forward, static_argnums=0).lower(spec, params, images)
    counted = wb.cost(spec, batch=batch).total_flops
    assert counted == pytest.approx(lowered.cost_analysis()["flops"], rel=0.02)


def test_everything_but_parameters_grows_with_the_batch():
    one, eight = (wb.cost(wb.model_spec("Ti/16"), batch=batch) for batch in (1, 8))
    assert eight.total_macs == 8 * one.total_macs
    assert eight.total_flops == 8 * one.total_flops
    assert eight.parameters == one.parameters
    assert one.total_bytes < eight.total_bytes < 8 * one.total_bytes  # weights are read once
    assert eight.intensity > one.intensity
    assert wb.cost(wb.model_spec("Ti/16"), np.int64(8)) == eight  # as from a table


def test_half_precision_halves_the_bytes_and_int8_reads_weights_and_inputs_of_blocks_as_bytes():
    fp32, fp16, bf16 = (wb.cost(wb.model_spec("Ti/16"), precision=p).total_bytes for p in ("fp32", "fp16", "bf16"))
    assert 2 * fp16 == 2 * bf16 == fp32
    half, whole = (wb.cost(wb.model_spec("B/32"), precision=p).frame() for p in ("fp16", "int8"))
    saved = (half.bytes_read - whole.bytes_read)[half.block == "block00"].groupby(half.role).sum()
    assert saved["fc1"] == 50 * 768 + 768 * 3072
    assert saved["fc2"] == 50 * 3072 + 3072 * 768
    assert saved["softmax"] == saved["norm1"] == 0
    assert (half.bytes_written == whole.bytes_written).all()


@pytest.mark.parametrize(
    ("precision", "read", "weights"),
    [
        ("nvfp4", 4 + 8 / 16, 4 + 8 / 16),  # bits: the number, and its share of a scale in FP8
        ("mxfp8", 8 + 8 / 32, 8 + 8 / 32),
        ("w4", 16, 4 + 16 / 32),
        ("wfp4", 16, 4 + 8 / 16),
        ("w8", 16, 8),  # a scale per channel is not counted
    ],
)
def test_the_scales_of_blocks_are_read_too(precision, read, weights):
    frame = wb.cost(wb.model_spec("B/32"), precision=precision).frame()
    (row,) = frame[(frame.block == "block00") & (frame.role == "fc1")].itertuples()
    assert row.bytes_read == (50 * 768 * read + 768 * 3072 * weights + 3072 * 16) / 8
    assert row.bytes_written == 50 * 3072 * 2


@pytest.mark.parametrize("classifier", ["token", "gap"])
def test_every_role_of_a_block_has_one_row_and_the_rows_add_up(classifier):
    total = wb.cost(wb.model_spec("S/32", classifier=classifier, representation=8), batch=2)
    frame = total.frame()
    assert not frame.duplicated(["block", "role"]).any()
    assert set(frame.role[frame.block == "block00"]) == {*PLACES.values()} - {"activation"}
    assert set(frame.block[~frame.block.str.startswith("block")]) == {
        *("embedding", "norm", "pre_logits", "head"),
        *(["pool"] if classifier == "gap" else []),
    }
    assert frame.macs.sum() == total.total_macs
    assert frame.parameters.sum() == total.parameters
    np.testing.assert_allclose(frame.intensity, frame.flops / (frame.bytes_read + frame.bytes_written))


@pytest.mark.parametrize("size", ["Ti/16", "L/16", "H/14"])
@pytest.mark.parametrize("classifier", ["token", "gap"])
def test_attention_overtakes_the_mlp_where_the_counts_say_so(size, classifier):
    spec = wb.model_spec(size, classifier=classifier)
    point = attention_overtakes_mlp(spec)
    assert point.tokens == 2 * spec.width  # with an MLP of four times the width
    last = math.floor(point.image_size / spec.patch) * spec.patch
    for image_size, attention_leads in ((last, False), (last + spec.patch, True)):
        frame = wb.cost(dataclasses.replace(spec, image_size=image_size)).frame()
        macs = frame.groupby("role").macs.sum()
        attention, mlp = macs[["qkv", "scores", "proj"]].sum(), macs[["fc1", "fc2"]].sum()
        assert (attention > mlp) == attention_leads
        assert tokens_at(spec, image_size) == dataclasses.replace(spec, image_size=image_size).tokens


def test_activation_memory_is_quadratic_only_with_materialized_scores():
    small, large = (wb.model_spec("B/16", image_size=size, classifier="gap") for size in (512, 1024))
    assert (small.tokens, large.tokens) == (1024, 4096)
    # by hand, fp16: x, q, k, v and the context, scores and probabilities
    assert cost.activation_bytes(large, 2, "fp16") == 2 * 2 * (5 * 4096 * 768 + 2 * 12 * 4096**2)
    # by hand, fp16: x and the hidden layer before and after GELU
    assert cost.activation_bytes(large, 2, "fp16", materialized=False) == 2 * 2 * (4096 * 768 + 2 * 4096 * 3072)
    fused = [cost.activation_bytes(spec, materialized=False) for spec in (small, large)]
    assert fused[1] == 4 * fused[0]


@pytest.mark.parametrize("count", [wb.cost, cost.activation_bytes])
def test_what_cannot_be_counted_is_refused(count):
    for arguments in ({"precision": "int4"}, {"batch": 0}, {"batch": 1.5}, {"batch": True}):
        with pytest.raises(wb.WorkbenchError):
            count(wb.model_spec("B/32"), **arguments)
    with pytest.raises(wb.WorkbenchError, match="model_spec"):
        wb.cost("B/32")  # the name of a size
