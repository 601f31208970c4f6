"""Kernels of an engine, read from beside it or refused with the remedy; what fusion and explain make of them."""

from __future__ import annotations

import dataclasses

import pytest

from tests.backends.hardware import traces
from tests.performance.engines import BATCH, engine_of_86
from tests.tiny import Tiny, variant_of
from workbench.backends import build_engine
from workbench.backends.kernel_record import KERNELS, record_kernels, recorded_kernels
from workbench.backends.tensorrt.layers import Layer
from workbench.errors import Refusal, WorkbenchError
from workbench.performance import engine_kernels
from workbench.performance import explain as explaining
from workbench.performance import fusion as fusing
from workbench.performance.engine_kernels import kernels, trace_kernels
from workbench.performance.explain import explain
from workbench.performance.fusion import attention_fused, fusion
from workbench.performance.layers import Timed
from workbench.records import Recipe


@pytest.fixture
def half(tmp_path):
    return engine_of_86(tmp_path / "half", Recipe("fp16"), traces.fp16_fused(12))


@pytest.fixture
def eight(tmp_path):
    return engine_of_86(tmp_path / "eight", Recipe("int8"), traces.int8_attention_apart(12))


@pytest.fixture
def untraced(tmp_path):
    return engine_of_86(tmp_path / "untraced", Recipe("fp16"))


def test_the_table_holds_every_kernel_of_the_traced_call(half):
    frame = kernels(half)
    assert list(frame.name) == [kernel.name for kernel in traces.fp16_fused(12)]
    assert frame[frame.attention].block.tolist() == [f"block{i:02d}" for i in range(12)]
    assert frame.iloc[0].block is None
    assert frame.iloc[0].type is None
    assert frame.seconds.sum() == pytest.approx(sum(kernel.seconds for kernel in traces.fp16_fused(12)))


def test_calls_of_several_batches_are_kept_beside_each_other(half):
    record_kernels(half, 8, [kernel.row() for kernel in traces.fp16_fused(12)[:9]])
    assert sorted(recorded_kernels(half)) == [8, BATCH]
    assert len(kernels(half, batch=8)) == 9
    assert len(kernels(half)) == len(traces.fp16_fused(12))


def test_a_damaged_list_is_refused_with_the_file(half):
    half.path.with_name(KERNELS).write_text('{"32": [')
    with pytest.raises(WorkbenchError, match="no list of kernels"):
        kernels(half)


@pytest.mark.parametrize("given", ["untraced", "another batch", "path"])
def test_kernels_that_nobody_traced_are_refused_with_the_remedy(given, half, untraced):
    with pytest.raises(WorkbenchError) as error:
        {
            "untraced": lambda: kernels(untraced),
            "another batch": lambda: kernels(half, batch=7),
            "path": lambda: kernels("engine.plan"),
        }[given]()
    assert ("build_engine" if given == "path" else "layers=True") in error.value.remedy


def test_an_engine_on_a_cpu_and_a_model_of_unknown_shape_have_no_kernels(half, tmp_path):
    graph = Tiny.of().graph(tmp_path)
    on_cpu = build_engine(variant_of(graph), "onnxruntime", tmp_path / "workspace")
    with pytest.raises(WorkbenchError, match="shape of its model is not known"):
        kernels(on_cpu)
    known = dataclasses.replace(graph, spec=half.variant.graph.spec)
    on_cpu = dataclasses.replace(on_cpu, variant=dataclasses.replace(on_cpu.variant, graph=known))
    with pytest.raises(WorkbenchError, match="onnxruntime launches no kernels"):
        trace_kernels(on_cpu, 2)


def test_an_engine_that_runs_here_is_traced_once_and_kept(untraced, monkeypatch):
    class Session:
        calls = 0

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

        def kernels(self, feeds):
            Session.calls += 1
            assert feeds["images"].shape[0] == BATCH
            return [kernel.row() for kernel in traces.fp16_fused(12)]

    monkeypatch.setattr(engine_kernels, "runs_here", lambda engine: True)
    monkeypatch.setattr(engine_kernels, "open_engine", lambda engine: Session())
    assert len(kernels(untraced)) == len(kernels(untraced)) == len(traces.fp16_fused(12))
    assert Session.calls == 1


# ---- fusion ------------------------------------------------------------------------------------------------------


def test_fusion_on_86_answers_from_kernels(half, eight):
    fused, apart = fusion(half), fusion(eight)
    assert list(fused.block) == list(apart.block) == [f"block{i:02d}" for i in range(12)]
    assert (fused.attention_fused.tolist(), apart.attention_fused.tolist()) == (12 * [True], 12 * [False])
    assert set(fused.attention_type) == {"fp16"}
    assert set(apart.attention_type) == {None}
    assert (set(fused.linear_types), set(apart.linear_types)) == ({"fp16"}, {"int8"})
    assert all("32 images" in note and "recipe" in note for note in fused.note)
    assert not any("guess" in note for note in [*fused.note, *apart.note])
    assert attention_fused(half) == "12 of 12, fp16"
    assert attention_fused(eight) == "0 of 12"


def test_the_type_of_a_fused_attention_is_int8_only_where_the_recipe_quantizes_all_of_it(tmp_path):
    for recipe, expected in (
        (Recipe("int8", scope="attention"), "int8"),
        (Recipe("int8", scope="attention", exclude=("block00/attention/context",)), "fp16"),
    ):
        engine = engine_of_86(tmp_path / expected, recipe, traces.fp16_fused(12))
        assert fusion(engine).attention_type[0] == expected


def test_fusion_says_that_blocks_are_guessed_where_products_do_not_match(tmp_path):
    few = engine_of_86(tmp_path / "few", Recipe("fp16"), traces.fp16_fused(11))
    assert all("guess" in note for note in fusion(few).note)


def test_without_kernels_fusion_on_86_stays_unknown_and_names_the_remedy(untraced):
    rows = fusion(untraced)
    assert set(rows.attention_fused) == {None}
    assert all("ncu" in note or "GPU of the engine" in note for note in rows.note)


# ---- explain -----------------------------------------------------------------------------------------------------


def test_the_waterfall_uses_recorded_kernels(half, eight):
    made = explain(half, eight)
    assert made.measured
    assert "Kernel times recorded" in made.note
    change = dict(made.steps().set_index("step").ms)
    assert change["attention"] == pytest.approx(12 * 1e-3 * (10.1 + 7.8 + 10.1 - 9.3))
    linear = (11.5 + 16.4 + 11.5 + 13.1) - (16 + 16 + 16 + 15)
    assert change["products"] == pytest.approx(1e-3 * (12 * linear + 8.5 - 19.4))
    assert made.frame.set_index(["block", "role", "cause"]).change_ms[
        "block03", "fc2", "products"
    ] == pytest.approx(1e-3 * (13.1 - 15))
    totals = [sum(k.seconds for k in each(12)) for each in (traces.fp16_fused, traces.int8_attention_apart)]
    assert (made.base_s, made.other_s) == pytest.approx(tuple(totals))


def test_an_engine_without_kernels_is_not_compared_by_them(half, untraced):
    with pytest.raises(WorkbenchError, match="cannot be estimated"):
        explain(half, dataclasses.replace(untraced, card="T4"))


def test_where_engines_run_their_kernels_replace_the_layer_that_hides_the_encoder(half, eight, monkeypatch):
    region = Timed(Layer("{ForeignNode[block00/norm1...logits/fp32]}", "Myelin", (), (), ()), 1e-3)
    calls = {half.path: 2e-3, eight.path: 3e-3}
    monkeypatch.setattr(explaining, "runs_here", lambda engine: True)
    monkeypatch.setattr(explaining, "time_layers", lambda engine, batch: ([region], calls[engine.path]))
    made = explain(half, eight)
    assert (made.base_s, made.other_s) == (2e-3, 3e-3)
    kernels_s = [sum(k.seconds for k in each(12)) for each in (traces.fp16_fused, traces.int8_attention_apart)]
    row = made.frame.set_index("cause").loc["between layers"]
    assert (row.base_ms, row.other_ms) == pytest.approx((2 - 1e3 * kernels_s[0], 3 - 1e3 * kernels_s[1]))
    assert {"qkv", "scores", "fc2"} <= set(made.frame.role)


def test_without_kernels_and_without_a_tool_the_hidden_layer_stays(half, untraced, monkeypatch):
    region = Timed(Layer("{ForeignNode[block00/norm1...logits/fp32]}", "Myelin", (), (), ()), 1e-3)
    monkeypatch.setattr(explaining, "runs_here", lambda engine: True)
    monkeypatch.setattr(explaining, "time_layers", lambda engine, batch: ([region], 2e-3))
    monkeypatch.setattr(explaining, "tracer_missing", lambda: Refusal("no tool", "get one"))
    assert "rest" in set(explain(untraced, untraced).frame.cause)


def test_fusion_traces_an_engine_that_runs_here(untraced, monkeypatch):
    def trace(engine, batch):
        record_kernels(engine, batch, [kernel.row() for kernel in traces.fp16_fused(12)])

    monkeypatch.setattr(fusing, "runs_here", lambda engine: True)
    monkeypatch.setattr(fusing, "tracer_missing", lambda: None)
    monkeypatch.setattr(fusing, "trace_kernels", trace)
    assert fusion(untraced).attention_fused.all()
