"""Every notebook under papermill with quick parameters, and what it must find."""

import pytest

from tests.reporting.raw import lines, rate, timed
from workbench.backends import backend
from workbench.deployment.manifest import bundle_digest
from workbench.deployment.verify import read_bundle

pytestmark = pytest.mark.notebooks
#: Multiply-accumulates of ViT-B/32 at 224 px for one image, by hand: 50 tokens of width 768, 12 blocks, an MLP of
#: 3072.
B32_MACS = 12 * (50 * (4 * 768**2 + 2 * 768 * 3072) + 2 * 50**2 * 768) + 49 * 3 * 32**2 * 768 + 768 * 1000
#: FP32 FLOP/s of a T4 (NVIDIA's datasheet of 2019), and images/s of the article in FP32 on one.
T4_FLOPS, ARTICLE_FP32 = 8.1e12, 12.3


def test_00_classifies_most_of_the_images_it_shows_correctly(run):
    found = run("00_start_here", images=16)
    assert found["tokens"] == 145
    assert found["correct"] >= 12


def test_01_counts_measures_and_holds_a_published_table_against_a_roof(run):
    found = run("01_profile_attention", depth=1, sizes=[32, 48, 64, 80, 96], seconds=0.05)
    assert found["crossover_tokens_by_mac"] == 2 * 192
    assert (
        found["crossover_b16"] == "1536 tokens, 627 px"
    )  # M - 2D = 3072 - 2 * 768; 16 * sqrt(1535), a class token
    assert abs(found["extrapolation_error"]) < 1
    assert found["mlp_gflops"] > 0
    if found["roof_holds"]:  # a busy machine may spoil the roof; then the notebook says so and concludes nothing
        assert found["mlp_gflops"] <= found["peak_gflops"]
    assert found["bandwidth_gb_s"] > 0.1
    assert found["article_share_of_limit"] == pytest.approx(ARTICLE_FP32 * 2 * B32_MACS / T4_FLOPS, rel=1e-3)
    assert found["recorded_fp16"] == pytest.approx(rate(timed(lines()["b32-fp16"])[32], "compute"))


def test_02_repeats_jax_with_few_nodes(run):
    found = run("02_export_to_onnx", images=16, seconds=0.4)
    assert found["max_abs_error"] < 1e-4
    assert found["agreement"] == 1
    assert found["nodes_a_block"] <= 28
    assert found["cleaned"] < found["traced"]
    assert 0 < found["on_shapes"] < found["traced"] - 100
    assert "Einsum" in found["became_others"]
    assert found["jump"] is None
    assert found["clean_is"] in ("faster", "slower", "cannot tell")
    assert (found["raw_costs_ms"] > 0) == (found["clean_speedup"] > 1)


@pytest.mark.slow
def test_02_writes_gelu_with_more_nodes_at_opset_17(run):
    found = run("02_export_to_onnx", images=8, opset=17, batch=4, seconds=0.4)
    assert (found["opset"], found["agreement"]) == (17, 1)
    assert found["max_abs_error"] < 1e-4
    assert 23 <= found["nodes_a_block"] <= 36


def test_03_finds_every_block_and_no_hazard_in_a_clean_graph(run):
    found = run("03_inspect_graph", images=2, seconds=0.4)
    assert found["blocks"] == 6
    assert found["hazards"] == 0
    assert found["nodes_quantized"] > found["nodes"]
    assert found["layers_without_line"] == 0
    assert found["int8_speed"] in ("faster", "slower", "cannot tell")
    assert (found["int8_speedup_cpu"] > 1) or found["int8_speed"] != "faster"
    assert abs(found["waterfall_error_ms"]) < 1e-6
    if backend("tensorrt-rtx").missing():
        assert found["int8_speedup_card"] is found["lost_most_in"] is None  # never this CPU's in their place
    else:
        assert found["lost_most_in"] == "fusion lost"  # what takes INT8 from TensorRT's linear layers
        assert found["int8_speedup_card"] < 1.5


def test_04_loses_predictions_to_outliers_and_regains_them_by_smoothing(run):
    found = run("04_choose_precision", images=16, samples=16)
    assert found["agreement"] >= 0.9
    assert found["agreement_smoothed"] >= 0.9
    assert found["agreement_linear"] < 0.8 < found["agreement_smoothed"]
    assert "residual additions" in found["blamed_in_stream"]
    assert "linear layers" not in found["blamed_in_stream"]
    assert (found["blamed_behind_norm"], found["blamed_without_outliers"]) == ("linear layers", "")
    assert found["cells_told_live"] == 0 < found["cells_told_recorded"]  # 16 images decide nothing, the record does
    assert min(found[f"agreement_{name}"] for name in ("w8", "w4", "wfp4", "mxfp8")) >= 0.9
    assert min(found["agreement_nvfp4"], found["agreement_nvfp4, dynamic"]) >= 0.75
    assert found["agreement_outliers, nvfp4"] > found["agreement_linear"]  # half the bits, a scale for 16 numbers
    assert found["jump"] == "block03/output"
    assert found["excluded"] == 0


def test_05_builds_here_and_for_a_card_that_is_not_here(run):
    found = run("05_build_engines")
    assert found["backend"] == "onnxruntime"
    assert found["blocks"] == 6
    if backend("tensorrt-rtx").missing():
        assert found["fp4_blocks"] is found["fused_share"] is found["rtx_mib"] is None
    else:
        assert found["fp4_blocks"] == 6
        assert found["fused_share"] == found["prediction_agrees"] == 1
    exact, spread = (timed(lines()[name]) for name in ("b32-fp16", "b32-fp16-range"))
    gains = [rate(exact[batch], "compute") / rate(spread[batch], "compute") - 1 for batch in spread]
    assert found["recorded_gain"] == pytest.approx(max(gains))


@pytest.mark.slow
def test_05_says_what_is_missing_where_tensorrt_for_rtx_is_not_installed(run, monkeypatch, tmp_path):
    (tmp_path / "tensorrt_rtx.py").write_text("raise ImportError('not installed')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found = run("05_build_engines")
    assert (found["backend"], found["blocks"]) == ("onnxruntime", 6)
    assert found["fp4_blocks"] is found["fused_share"] is found["rtx_mib"] is None


def test_06_keeps_the_predictions_and_says_how_sure_the_speed_is(run):
    found = run("06_benchmark", images=64, seconds=0.6, streams=[1, 2])
    assert found["agreement"] >= 0.95
    assert found["speed"] in ("faster", "slower", "cannot tell")
    assert found["calls"] >= 5
    assert 0.5 < found["recorded_share"] <= 1.05  # tests/reporting computes every row anew
    # one estimator for the chart and the verdict
    assert found["waterfall_ends_at"] == pytest.approx(found["speedup"])
    assert 1 <= found["tuned_batch"] <= 8
    assert found["tuned_streams"] in (1, 2)
    assert found["tuned_points"] <= found["tuned_grid"] / 3


def test_07_chooses_within_the_limit_and_packs_the_engine(run, shared_workspace):
    versions = shared_workspace / "bundles" / "versions"
    others = set(versions.iterdir()) if versions.exists() else set()
    found = run("07_trade_offs", images=160, seconds=0.3, batches=[4], name="quick")
    assert found["cells"] == 3
    assert found["drop_points"] <= 0.5
    assert found["verdict"] in ("holds", "cannot tell")
    assert found["speedup"] > 0
    assert found["recorded_points_lost"] <= 0.5
    made = set(versions.iterdir()) - others  # another worker may pack one in the same workspace meanwhile
    assert all(bundle_digest(bundle) == bundle.name for bundle in made)
    assert engine_label(found) in {read_bundle(bundle).engine.label for bundle in made}


def test_08_loses_no_request_serves_the_original_for_broken_engines_and_rolls_back(run):
    found = run("08_deploy_and_roll_back", images=48, seconds=3.0)
    assert (found["sound"], found["rolled_back"]) == (True, True)
    assert found["answered"] > 0 == found["failed"]
    assert found["canary_agreement"] >= 0.9
    assert found["by_original"] > 0 < found["by_engine"]
    assert found["original_serves"] == 3
    assert found["refused"] == 2
    assert found["shift_after"] > 3


def engine_label(found) -> str:
    recipe, _, _ = found["chosen"].partition(f" on {found['backend']}")
    return f"{found['backend']} {recipe}"
