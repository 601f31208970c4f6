import dataclasses
import json
import math
import pickle
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from workbench import records
from workbench.dtypes import PRODUCT_TYPES
from workbench.errors import WorkbenchError
from workbench.records import (
    Batches,
    Calibration,
    Engine,
    Graph,
    Measurement,
    ModelSpec,
    Parity,
    Preprocessing,
    Recipe,
    Variant,
    decode,
    encode,
    quantile,
    wilson,
)

SPEC = ModelSpec("S/16", image_size=224, patch=16, width=384, depth=12, heads=6, mlp=1536, classes=1000)


def replaced(record, **changes):
    return dataclasses.replace(record, **changes)


# ---- a record is valid from the moment it exists -----------------------------------------------------------------


def test_a_spec_knows_its_grid_tokens_and_head_size():
    assert (SPEC.grid, SPEC.tokens, SPEC.head_size) == (14, 197, 64)
    assert replaced(SPEC, classifier="gap").tokens == 196


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: replaced(SPEC, image_size=225), "no multiple of the patch of 16"),
        (lambda: replaced(SPEC, heads=7), "divides the width"),
        (lambda: replaced(SPEC, depth=0), "positive whole number"),
        (lambda: replaced(SPEC, depth=12.0), "positive whole number"),
        (lambda: replaced(SPEC, depth=True), "positive whole number"),
        (lambda: replaced(SPEC, classifier="tok"), "did you mean 'token'"),
        (lambda: replaced(SPEC, representation=0), "positive whole number"),
        (lambda: Preprocessing(size=224, resize=200), "crop must fit"),
        (lambda: Preprocessing(size=224, std=(1.0, 0.0, 1.0)), "std above zero"),
        (lambda: Preprocessing(size=224, mean=(1.0, 1.0)), "three numbers"),
        (lambda: Preprocessing(size=224, layout="HWC"), "did you mean 'NHWC'"),
        (lambda: Preprocessing(size=224, interpolation="bicubical"), "did you mean 'bicubic'"),
        (lambda: Calibration(method="max"), "'minmax'"),
        (lambda: Calibration(variant="darker"), "did you mean 'dark'"),
        (lambda: Calibration(samples=0), "positive whole number"),
        (lambda: Recipe("int9"), "did you mean 'int8'"),
        (lambda: Recipe(scope="all"), "'everything'"),
        (lambda: Recipe(layout="gpu"), "'tensorrt', 'cpu'"),
        (lambda: Recipe(high_precision="int8"), "'fp32', 'fp16', 'bf16'"),
        (lambda: Recipe(exclude="block03"), 'exclude=("block03",)'),
        (lambda: Recipe(exclude=None), "tuple of names"),
        (lambda: Recipe(exclude=(3,)), "tuple of names"),
        (lambda: Recipe(smooth=1.5), "0...1"),
        (lambda: Recipe(smooth="half"), "0...1"),
        (lambda: Recipe(smooth=math.nan), "0...1"),
        (lambda: Recipe(calibration="shapes"), 'Calibration(dataset="shapes")'),
        (lambda: Recipe(calibration=None), "Calibration"),
        (lambda: Batches(8, 4, 16), "min <= opt <= max"),
        (lambda: Batches(1, 8, 4), "min <= opt <= max"),
        (lambda: Batches(0, 1, 1), "positive whole number"),
        (lambda: Measurement("b", "m", Recipe(), 0, "v", ()), "positive whole number"),
        (lambda: Measurement("b", "m", Recipe(), 1, "v", (), execution="guessed"), "'executed'"),
    ],
)
def test_a_value_that_makes_no_sense_is_refused_when_the_record_is_made(make, words):
    with pytest.raises(WorkbenchError) as caught:
        make()
    assert words in str(caught.value)


# ---- recipes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("recipe", "layout", "high", "products"),
    [
        (Recipe("fp32", layout="cpu", high_precision="bf16"), None, "fp32", {"fp32"}),
        (Recipe("fp16"), None, "fp16", {"fp16"}),
        (Recipe("bf16", exclude=("block00",)), None, "bf16", {"bf16", "fp32"}),
        (Recipe("int8"), "tensorrt", "fp16", {"int8", "fp16"}),
        (Recipe("int8", layout="cpu"), "cpu", "fp32", {"int8", "fp32"}),
        (Recipe("int8", high_precision="bf16", exclude=("block00",)), "tensorrt", "bf16", {"int8", "bf16"}),
        (Recipe("fp8", layout="cpu"), "tensorrt", "fp16", {"fp8", "fp16"}),  # fp8 exists for TensorRT only
        (Recipe("int8-dynamic", high_precision="fp16"), "cpu", "fp32", {"int8", "fp32"}),
    ],
    ids=lambda value: value.label if isinstance(value, Recipe) else None,
)
def test_a_recipe_resolves_what_it_leaves_open_and_ignores_what_means_nothing(recipe, layout, high, products):
    assert recipe.resolved_layout == layout
    assert recipe.resolved_high_precision == high
    assert recipe.product_types == products


def test_every_precision_is_made_of_known_types():
    for precision in records.PRECISIONS.values():
        types = (precision.weights, precision.inputs, precision.multiplies_in, precision.elsewhere)
        assert set(types) <= set(PRODUCT_TYPES)


def test_only_int8_and_fp8_need_ranges():
    needing = [precision for precision in records.PRECISIONS if Recipe(precision).needs_ranges]
    assert needing == ["fp8", "int8"]


def test_recipes_that_differ_have_other_labels():
    recipes = [
        Recipe(),
        Recipe("fp16"),
        Recipe("int8-dynamic"),
        Recipe("int8"),
        Recipe("int8", layout="cpu"),
        Recipe("int8", scope="attention"),
        Recipe("int8", high_precision="fp32"),
        Recipe("int8", smooth=0.5),
        Recipe("int8", exclude=("block00",)),
        Recipe("int8", calibration=Calibration(method="minmax")),
        Recipe("int8", calibration=Calibration(variant="dark")),
    ]
    assert len({recipe.label for recipe in recipes}) == len(recipes)
    assert Recipe().label == "fp32"


def test_whole_numbers_of_numpy_become_pythons_own():
    assert records.encode(Batches(np.int64(1), np.uint8(4), np.int32(8))) == {"min": 1, "opt": 4, "max": 8}
    assert type(replaced(SPEC, depth=np.int64(2)).depth) is int


def test_a_list_of_names_to_exclude_becomes_a_tuple():
    assert Recipe(exclude=["block00", "block03/fc2"]) == Recipe(exclude=("block00", "block03/fc2"))


# ---- measurements ----------------------------------------------------------------------------------------------


def measurement(**fields):
    return Measurement("onnxruntime", "m", Recipe(), 8, "v", **{"latencies_s": (), **fields})


def test_percentiles_are_those_of_numpy():
    # numpy.percentile([10, 20, 30, 40], [50, 90, 99]) = 25, 37, 39.7
    found = measurement(latencies_s=(0.04, 0.01, 0.03, 0.02))
    assert (found.p50_ms, found.p90_ms, found.p99_ms) == pytest.approx((25, 37, 39.7))
    assert quantile([5], 0.9) == 5
    assert math.isnan(quantile([], 0.5))


def test_throughput_is_batch_over_median_latency_and_with_many_streams_over_the_mean():
    latencies_s = (0.01, 0.02, 0.06)
    assert measurement(latencies_s=latencies_s).images_per_second == pytest.approx(8 / 0.02)
    assert measurement(latencies_s=latencies_s, streams=4).images_per_second == pytest.approx(4 * 8 / 0.03)
    assert math.isnan(measurement().images_per_second)


def test_shares_are_hits_over_images_and_nan_without_any():
    found = measurement(
        predictions=(0, 1, 2, 3), labels=(0, 1, 2, 2), reference_predictions=(0, 1, 0, 0), top5_hits=4
    )
    assert (found.images, found.top1, found.top5, found.agreement, found.reference_top1) == (4, 0.75, 1.0, 0.5, 0.5)
    assert math.isnan(measurement(predictions=(0, 1)).top1)
    assert math.isnan(measurement(predictions=(0, 1)).agreement)


def test_wilsons_interval_is_that_of_scipy_and_all_shares_when_nothing_was_counted():
    for hits, total in [(0, 10), (1, 10), (10, 10), (7, 20), (913, 1000), (9412, 10_000)]:
        for confidence in (0.9, 0.95, 0.99):
            expected = stats.binomtest(hits, total).proportion_ci(confidence, method="wilson")
            assert wilson(hits, total, confidence) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert wilson(0, 0) == (0, 1)
    assert measurement().top1_interval == (0, 1)


# ---- to JSON and back --------------------------------------------------------------------------------------------


def every_record():
    graph = Graph(
        Path("/w/graph.onnx"),
        "d",
        20,
        Preprocessing(96, resize=128, classes=("cat", "dog")),
        spec=replaced(SPEC, representation=384),
        parity=Parity(1e-5, 1.0, 64, (1, 7)),
        notes=("a note",),
    )
    recipe = Recipe("int8", exclude=("block03/fc2",), smooth=0.5, calibration=Calibration(samples=7))
    variant = Variant(Path("/w/variant.onnx"), "d", graph, recipe, 20, ("onnxruntime", "tensorrt"))
    engine = Engine(
        "tensorrt",
        Path("/w/engine"),
        variant,
        Batches(1, 2, 4),
        "run",
        card="T4",
        options={"workspace_gib": 2},
        log_path=Path("/w/log"),
        environment={"cpu": "x", "load_average": 0.5},
    )
    measured = measurement(
        latencies_s=(0.1, 0.2), predictions=(1, 2), labels=(1, 1), environment={"a": {"b": [1]}}, notes=("n",)
    )
    return [SPEC, graph, variant, engine, replaced(engine, log_path=None), measured, recipe, Batches()]


@pytest.mark.parametrize("record", every_record(), ids=lambda record: type(record).__name__)
def test_a_record_survives_json_and_pickle(record):
    assert decode(type(record), json.loads(json.dumps(encode(record)))) == record
    assert pickle.loads(pickle.dumps(record)) == record


def test_a_field_of_the_future_is_left_out_and_a_new_field_takes_its_default():
    data = encode(Batches(1, 2, 3))
    del data["max"]
    assert decode(Batches, {**data, "of the future": 1}) == Batches(1, 2, 32)


def test_a_record_is_checked_again_on_the_way_in():
    with pytest.raises(WorkbenchError):
        decode(Batches, {"min": 5, "opt": 2, "max": 3})
