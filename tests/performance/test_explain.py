"""The difference between two engines, cause by cause, from layer lists whose causes are known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests.graphs.drawn import TINY, draw
from workbench.backends import build_engine
from workbench.backends.tensorrt.layers import Layer
from workbench.errors import WorkbenchError
from workbench.graphs.quantization.recipe import apply_recipe
from workbench.performance.explain import compare_layers, explain
from workbench.performance.layer_estimate import estimate_layers
from workbench.performance.layers import Timed, main_place, places_of
from workbench.records import Batches, Measurement, Recipe

#: Heads of 64 channels: TensorRT for RTX fuses them.
SPEC = dataclasses.replace(TINY, image_size=32, width=128, mlp=256, depth=2)
IMAGES = np.random.default_rng(0).standard_normal((4, 32, 32, 3)).astype(np.float32)


def layer(name, kind, nodes, inputs=("fp16",), outputs=("fp16",), seconds=1e-3):
    return Timed(Layer(name, kind, tuple(f"block00/{node}" for node in nodes), inputs, outputs), seconds)


#: One block as TensorRT writes it: products with bias, GELU and residual in one kernel each.
HALF = [
    layer("__myl_CastMeanSub_1", "kgen", ["norm1"]),
    layer("qkv_2", "gemm", ["attention/qkv"], seconds=4e-3),
    layer("_gemm_mha_v2_3", "kgen", ["attention/scores", "attention/softmax", "attention/context"], seconds=3e-3),
    layer("__myl_FcAddAdd_4", "runtime_fusion", ["attention/proj", "residual1"], seconds=2e-3),
    layer("__myl_CastMeanSub_5", "kgen", ["norm2"]),
    layer("__myl_FcAddTanh_6", "runtime_fusion", ["mlp/fc1", "mlp/gelu"], seconds=5e-3),
]
#: The same in 8 bits: the products are faster, but GELU and residual are kernels of their own.
EIGHT = [
    layer("__myl_MulMinMaxRounCast_1", "kgen", ["attention/qkv/input0/quantize"], seconds=0.5e-3),
    layer("qkv_2", "gemm", ["attention/qkv"], ("int8",), seconds=2e-3),
    layer("_gemm_mha_v2_3", "kgen", ["attention/scores", "attention/softmax", "attention/context"], seconds=3e-3),
    layer("__myl_MoveReshTran_4", "kgen", ["attention/merge"], seconds=0.25e-3),
    layer("proj_5", "gemm", ["attention/proj"], ("int8",), seconds=1e-3),
    layer("__myl_MulAddAddMeanMulMinMaxRounCast_6", "kgen", ["attention/proj", "residual1", "norm2"], seconds=4e-3),
    layer("fc1_7", "gemm", ["mlp/fc1"], ("int8",), seconds=2.5e-3),
    layer("__myl_MulAddTanhMul_8", "kgen", ["mlp/gelu"], seconds=1.5e-3),
]


def total(layers):
    return sum(one.seconds for one in layers)


@pytest.fixture(scope="module")
def waterfall():
    ours, theirs = (HALF, total(HALF) + 1e-3), (EIGHT, total(EIGHT) + 3e-3)
    return compare_layers("half", "eight", ours, theirs, measured=True, note="By hand.")


def test_each_cause_has_the_change_of_its_layers(waterfall):
    change = dict(waterfall.steps().set_index("step").ms)
    assert change["products"] == pytest.approx(2 + 1 + 2.5 - (4 + 2 + 5))
    assert change["attention"] == pytest.approx(0)
    assert change["quantize"] == pytest.approx(0.5)
    assert change["reformat"] == pytest.approx(0.25)
    assert change["fusion lost"] == pytest.approx(4 + 1.5 - 1)  # residual1 with norm2, and GELU; norm2 was there
    assert change["rest"] == pytest.approx(-1)  # norm1 on its own
    assert change["between layers"] == pytest.approx(2)
    assert waterfall.frame.set_index(["role", "cause"]).change_ms["qkv", "products"] == pytest.approx(-2)
    assert set(waterfall.frame.block) == {"block00", ""}
    assert all(words in str(waterfall) for words in ("fusion lost +4.5 ms", "products -5.5 ms"))
    assert str(waterfall).endswith("By hand.")


def test_a_layer_is_counted_where_its_own_nodes_stand_not_where_its_rounding_is_for():
    mha = layer(
        "_gemm_mha_v2_3", "kgen", ["attention/scores", "attention/softmax", "attention/proj/input0/quantize"]
    )
    gelu = layer("__myl_MulAddTanhMulMinMaxRounCast_8", "kgen", ["mlp/gelu", "mlp/fc2/input0/quantize"])
    pair = layer("__myl_MulMinMaxRounCast_1", "kgen", ["attention/qkv/input0/quantize"])
    start = layer("__mye1_0", "shape_call", [])
    places = [main_place(each) for each in places_of([start, mha, gelu, pair])]
    assert [place.role for place in places] == ["unnamed", "scores", "gelu", "qkv"]
    waterfall = compare_layers("a", "b", ([start], 1), ([start], 1), measured=True, note="")
    assert set(waterfall.frame.cause) == {"rest", "between layers"}


@pytest.mark.parametrize("by", ["cause", "role", "block"])
def test_the_steps_lead_from_one_total_to_the_other(by, waterfall):
    steps = waterfall.steps(by)
    assert list(steps.kind[[0, len(steps) - 1]]) == ["total", "total"]
    assert steps.ms.iloc[:-1].sum() == pytest.approx(steps.ms.iloc[-1])
    assert steps.ms.iloc[-1] == pytest.approx(1e3 * (total(EIGHT) + 3e-3))
    changes = steps.set_index("step").ms
    assert changes["between layers"] == pytest.approx(2)
    if by != "cause":  # of qkv, the product and the pair before it
        name, change = {"role": ("qkv", 2 + 0.5 - 4), "block": ("block00", 1e3 * (total(EIGHT) - total(HALF)))}[by]
        assert changes[name] == pytest.approx(change)


def test_an_engine_beside_itself_differs_in_nothing():
    same = compare_layers("a", "a", (HALF, 1), (HALF, 1), measured=True, note="")
    assert np.allclose(same.frame.change_ms, 0)
    assert list(same.steps("role").step) == ["a", "all others", "a"]
    assert "No cause differs" in str(same)


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory):
    """FP32 and INT8 in ONNX Runtime."""
    folder = tmp_path_factory.mktemp("cpu")
    graph = draw(folder, SPEC)
    variants = [apply_recipe(graph, recipe, folder, IMAGES) for recipe in (Recipe(), Recipe("int8", layout="cpu"))]
    return [build_engine(variant, "onnxruntime", folder, batches=Batches(2, 2, 2)) for variant in variants]


def test_engines_of_onnx_runtime_are_explained_by_their_own_layer_times(on_cpu):
    made = explain(*on_cpu)
    assert made.measured
    frame = made.frame.set_index(["role", "cause"])
    assert (frame[frame.index.get_level_values("cause") == "quantize"].base_ms == 0).all()
    assert frame.xs("quantize", level="cause").other_ms.sum() > 0
    assert {"qkv", "proj", "fc1", "fc2"} <= set(frame.xs("products", level="cause").index)
    steps = made.steps()
    assert steps.ms.iloc[:-1].sum() == pytest.approx(steps.ms.iloc[-1])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Engines for an A10 that nothing here can run."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT for RTX is missing: pip install tensorrt-rtx")
    folder = tmp_path_factory.mktemp("built")
    graph = draw(folder, SPEC)
    return {
        recipe.label: build_engine(apply_recipe(graph, recipe, folder, IMAGES), "tensorrt-rtx", folder, card="L4")
        for recipe in (Recipe("fp16"), Recipe("int8"), Recipe("int8", high_precision="fp32"))
    }


def test_without_a_gpu_the_difference_is_estimated_and_says_so(built):
    made = [explain(built["fp16"], built[name], batch=32) for name in ("int8 tensorrt", "int8 tensorrt with fp32")]
    linear, everything = (one.frame.groupby("cause").change_ms.sum() for one in made)
    assert not any(one.measured for one in made)
    assert all("Estimated for L4" in str(one) for one in made)
    assert linear["products"] < 0 < linear["fusion lost"]
    assert everything["fusion lost"] > 0
    assert everything["attention"] > 0  # in FP32 it is not fused


def test_an_estimate_is_never_faster_than_products_at_the_peak(built):
    layers, whole_s = estimate_layers(built["fp16"], 32, "L4")
    tokens, width = SPEC.tokens - 1, SPEC.width  # the drawn model has no class token
    macs = SPEC.depth * (4 * tokens * width**2 + 2 * tokens**2 * width + 2 * tokens * width * SPEC.mlp)
    assert whole_s > 32 * 2 * macs / 121e12
    assert whole_s == pytest.approx(total(layers))


def test_what_cannot_be_explained_is_refused(built, waterfall, tmp_path):
    fp16, int8 = built["fp16"], built["int8 tensorrt"]
    cardless = [dataclasses.replace(engine, card=None) for engine in (fp16, int8)]
    narrow = apply_recipe(draw(tmp_path, dataclasses.replace(SPEC, mlp=128)), Recipe(), tmp_path)
    refused = {
        "kind of step": lambda: waterfall.steps("layer"),
        "neither be run here nor estimated": lambda: explain(*cardless),
        "No published peak": lambda: explain(fp16, int8, card="A10"),
        "not of the same model": lambda: explain(fp16, build_engine(narrow, "onnxruntime", tmp_path)),
    }
    for reason, call in refused.items():
        with pytest.raises(WorkbenchError, match=reason):
            call()


def in_turns(recipe, seconds):
    """A measurement of 20 rounds, each of one call."""
    times = tuple(seconds * (1 + 0.01 * (number % 3)) for number in range(20))
    facts = {"interleaved": "by hand"}
    return Measurement("onnxruntime", "m", recipe, 4, "", times, rounds=tuple(range(20)), environment=facts)


@pytest.mark.parametrize(("speedup", "verdict"), [(1.5, "faster"), (0.8, "slower"), (1.0, "cannot tell")])
def test_a_waterfall_ends_where_the_comparison_of_whole_calls_ends(on_cpu, speedup, verdict):
    base, other = in_turns(Recipe(), 0.03), in_turns(Recipe("int8", layout="cpu"), 0.03 / speedup)
    made = explain(*on_cpu, calls=(base, other))
    assert made.ratio == pytest.approx(made.comparison.speedup) == pytest.approx(speedup)
    assert made.outcome.startswith(verdict)
    assert made.outcome in str(made)
    first, *between, last = made.steps()["ms"]
    assert first == pytest.approx(base.p50_ms)
    assert first + sum(between) == pytest.approx(last) == pytest.approx(base.p50_ms / speedup)
    assert made.by_role_and_cause().to_numpy().sum() == pytest.approx(last - first, abs=0.02)
