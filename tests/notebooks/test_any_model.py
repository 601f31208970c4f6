"""Every notebook with a ViT that torch exported, on photographs of its own in folders, prepared in its own way.

The model is random, so a folder's name is the class that it gives most of the pictures in it.
"""

import numpy as np
import pytest
from PIL import Image

import workbench as wb
from tests.graphs.references import EXPORTS
from workbench.backends import backend
from workbench.graphs.evaluation_images import BY_FP32
from workbench.graphs.quantization.activations import logits_of
from workbench.graphs.quantization.emulation import load_widened
from workbench.graphs.quantization.images import graph_input
from workbench.progress import silent

pytestmark = [pytest.mark.notebooks, pytest.mark.timeout(600)]
MODEL = EXPORTS / "library_legacy.onnx"
CLASSES = 10
#: Neither vit_jax's nor any preset's.
PREPROCESSING = {"mean": [110.0, 120.0, 130.0], "std": [60.0, 50.0, 40.0], "resize": 40, "keep_aspect": True}
PICTURES = 400


@pytest.fixture(scope="module")
def photographs(shared_workspace, tmp_path_factory):
    """A folder with a folder for each class; one picture of eight lies in the wrong one."""
    folder, rng = tmp_path_factory.mktemp("photographs"), np.random.default_rng(0)
    light = rng.uniform(0, 255, (PICTURES, 1, 1, 3)).repeat(48, 1).repeat(60, 2)
    pixels = np.clip(light + rng.normal(0, 12, light.shape), 0, 255).astype(np.uint8)
    for index, one in enumerate(pixels):
        Image.fromarray(one).save(folder / f"{index:03d}.png")
    graph = wb.load_graph(MODEL, shared_workspace, PREPROCESSING)
    flat = wb.evaluation_images(graph, str(folder), PICTURES)
    assert flat.name.endswith(BY_FP32)
    classes = logits_of(graph, load_widened(graph.path), graph_input(graph, flat.x), silent).argmax(axis=1)
    assert len(set(classes.tolist())) > 2, "the model must tell the pictures apart"
    for index, label in enumerate(classes):
        label = rng.integers(CLASSES) if index % 8 == 0 else label
        (folder / f"class {label}").mkdir(exist_ok=True)
        (folder / f"{index:03d}.png").rename(folder / f"class {label}" / f"{index:03d}.png")
    assert len(list(folder.glob("class *"))) == CLASSES
    return str(folder)


@pytest.fixture
def run_own(run, photographs):
    """Run a notebook with the model, its preprocessing and its photographs."""
    own = {"checkpoint": str(MODEL), "preprocessing": PREPROCESSING, "dataset": photographs}
    return lambda notebook, /, **parameters: run(notebook, **own | parameters)


def test_00_shows_the_pictures_and_counts_the_right_answers(run_own):
    found = run_own("00_start_here", images=24)
    assert (found["model"], found["classes"], found["tokens"]) == ("library_legacy", CLASSES, 17)
    assert 24 * 0.6 < found["correct"] <= 24


def test_00_counts_no_right_answers_where_the_labels_are_of_other_classes(run_own):
    found = run_own("00_start_here", images=8, dataset="shapes")
    assert (found["classes"], found["correct"]) == (CLASSES, None)


def test_07_chooses_among_engines_of_the_model(run_own):
    found = run_own("07_trade_offs", images=100, samples=16, seconds=0.1, batches=[4], name="own", max_drop=20)
    assert found["cells"] == 3
    assert 0.7 < found["top1"] < 1


@pytest.mark.slow
def test_07_takes_fp32s_answers_for_labels_of_other_classes(run_own):
    given = {"dataset": "shapes", "precisions": ["fp32"], "images": 32, "seconds": 0.1, "batches": [4]}
    found = run_own("07_trade_offs", **given, name="shapes")
    assert (found["top1"], found["drop_points"]) == (1, 0)


@pytest.mark.slow
def test_01_takes_the_shape_of_the_file(run):
    found = run("01_profile_attention", model=str(MODEL), depth=1, sizes=[16, 24, 32, 40, 48], seconds=0.05)
    assert found["crossover_tokens_by_mac"] == 0  # its MLP is as narrow as twice its width


@pytest.mark.slow
def test_02_imports_the_file_and_compares_it_with_itself_as_it_came(run_own):
    found = run_own("02_export_to_onnx", images=16)
    assert found["cleaned"] < found["traced"]
    assert (found["agreement"], found["jump"]) == (1, None)
    assert found["nodes_a_block"] <= 28


@pytest.mark.slow
def test_03_finds_the_blocks(run_own):
    found = run_own("03_inspect_graph", images=2, samples=16, seconds=0.2)
    assert found["blocks"] == 2
    assert found["nodes_quantized"] > found["nodes"]


@pytest.mark.slow
def test_04_measures_the_methods_on_the_photographs(run_own):
    found = run_own("04_choose_precision", images=64, samples=16, block="block01", max_drop=20)
    assert found["worst_place"].startswith("block0")
    assert found["agreement_w8"] > 0.9


@pytest.mark.slow
def test_05_builds_and_reads_the_fusion(run_own):
    if missing := backend("tensorrt-rtx").missing():
        pytest.skip(f"no TensorRT for RTX: {missing}")
    found = run_own("05_build_engines", samples=16)
    assert found["blocks"] == 2


@pytest.mark.slow
def test_06_times_both_engines(run_own):
    found = run_own("06_benchmark", images=64, samples=16, seconds=0.3, streams=[1, 2], precision="int8")
    assert found["speed"] in ("faster", "slower", "cannot tell")
    assert found["agreement"] > 0.7


@pytest.mark.slow
def test_08_serves_the_model_and_rolls_back(run_own):
    found = run_own("08_deploy_and_roll_back", images=48, seconds=3.0)
    assert (found["sound"], found["rolled_back"], found["failed"]) == (True, True, 0)
