"""One door for every model, and labels that mean something for it."""

import json

import numpy as np
import pytest
from PIL import Image

import workbench as wb
from tests.graphs.references import EXPORTS, REFERENCE
from workbench.datasets import preprocessing
from workbench.errors import WorkbenchError
from workbench.graphs.any_model import original_of, shape_of
from workbench.graphs.evaluation_images import BY_FP32

FOREIGN = EXPORTS / "separate_legacy.onnx"
CHECKPOINT = REFERENCE / "vit_tiny_token.npz"


def test_a_checkpoint_is_exported_and_an_onnx_file_imported(shelf):
    exported, imported = (wb.load_graph(path, shelf) for path in (CHECKPOINT, FOREIGN))
    assert exported.traced
    assert not imported.traced
    assert (imported.spec.depth, imported.classes, imported.preprocessing.layout) == (2, 10, "NCHW")


@pytest.mark.parametrize("path", [CHECKPOINT, FOREIGN])
def test_a_preset_takes_the_size_of_the_model(shelf, path):
    found = wb.load_graph(path, shelf, "deit").preprocessing
    assert (found.size, found.resize, found.mean) == (32, 36, preprocessing.IMAGENET_MEAN)


def test_a_config_file_and_a_table_say_how_images_are_prepared(shelf, tmp_path):
    config = {"pretrained_cfg": {"input_size": [3, 32, 32], "mean": [0.1] * 3, "std": [0.2] * 3, "crop_pct": 0.8}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    by_file = wb.load_graph(FOREIGN, shelf, str(tmp_path / "config.json")).preprocessing
    assert (by_file.size, by_file.resize, by_file.mean) == (32, 40, (25.5, 25.5, 25.5))
    table = {"mean": [1, 2, 3], "std": [4, 5, 6], "resize": 48, "keep_aspect": True}
    by_table = wb.load_graph(FOREIGN, shelf, table).preprocessing
    assert (by_table.size, by_table.resize, by_table.std) == (32, 48, (4.0, 5.0, 6.0))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("diet", "deit"),
        ({"mean": [1, 2]}, "mean"),
        ({"resize": 3}, "crop must fit"),
        ({"meen": 3}, "how images are prepared"),
    ],
)
def test_what_is_no_preprocessing_is_refused_with_what_there_is(shelf, given, words):
    with pytest.raises(WorkbenchError, match=words):
        wb.load_graph(FOREIGN, shelf, given)


def test_an_onnx_file_keeps_its_size(shelf):
    with pytest.raises(WorkbenchError, match="images of its own size"):
        wb.load_graph(FOREIGN, shelf, image_size=64)


def test_the_shape_comes_from_a_name_a_checkpoint_or_a_file(shelf):
    shapes = [shape_of(str(model), shelf) for model in ("S/16", CHECKPOINT, FOREIGN)]
    assert [shape.width for shape in shapes] == [384, wb.load_checkpoint(CHECKPOINT)[0].width, 16]


def test_a_file_without_a_plain_shape_says_how_it_is_profiled(shelf):
    with pytest.raises(WorkbenchError, match=r"wb\.cost"):
        shape_of(str(EXPORTS / "cnn.onnx"), shelf)


@pytest.mark.parametrize("path", [CHECKPOINT, FOREIGN])
def test_a_graph_agrees_with_its_original_and_the_self_test_says_so(shelf, path):
    graph = wb.load_graph(path, shelf)
    examples = wb.evaluation_images(graph, "shapes", 24)
    checks = wb.check_evaluator(examples, graph=graph, model=original_of(path)).checks
    assert any(check.what.startswith("FP32 graph against") for check in checks)


def test_another_original_than_the_graphs_is_refused(shelf):
    graph = wb.load_graph(FOREIGN, shelf)
    images = wb.evaluation_images(graph, "shapes", 4)
    with pytest.raises(WorkbenchError, match=r"fused_legacy\.onnx and the FP32 graph differ"):
        wb.check_evaluator(images, graph=graph, model=EXPORTS / "fused_legacy.onnx")


# ---- labels ----------------------------------------------------------------------------------------------------


def folder_of(path, classes, each=12):
    """Grey noise in folders; the split of a file follows from its bytes."""
    rng = np.random.default_rng(0)
    for name in classes:
        (path / name).mkdir(parents=True)
        for index in range(each):
            Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(path / name / f"{index}.png")
    return str(path)


def test_labels_of_shapes_are_not_used_for_a_model_of_other_classes(shelf):
    graph = wb.load_graph(FOREIGN, shelf, "deit")
    found = wb.evaluation_images(graph, "shapes", 16)
    assert found.name.endswith(BY_FP32)
    assert found.classes == tuple(f"class {index}" for index in range(10))
    engine = wb.build_engine(wb.apply_recipe(graph, wb.Recipe(), shelf), "onnxruntime", shelf)
    assert wb.measure(engine, found.x, found.labels, batch=4, seconds=0).top1 == 1


def test_labels_of_shapes_are_not_used_for_a_foreign_model_of_as_many_classes(shelf, tmp_path):
    """Sixteen logits make no model of the sixteen shapes."""
    other = wb.ModelSpec("sixteen", image_size=32, patch=16, width=16, depth=1, heads=2, mlp=32, classes=16)
    from workbench.models.vit import init

    graph = wb.export_onnx(other, init(other), shelf)
    assert wb.evaluation_images(graph, "shapes", 64).name.endswith(BY_FP32)


def test_labels_of_a_folder_with_the_models_number_of_classes_stay(shelf, tmp_path):
    graph = wb.load_graph(FOREIGN, shelf)
    found = wb.evaluation_images(graph, folder_of(tmp_path / "ten", [f"c{index}" for index in range(10)]), 10)
    assert found.classes == tuple(f"c{index}" for index in range(10))
    assert BY_FP32 not in found.name


def test_pictures_without_folders_are_labelled_by_fp32(shelf, tmp_path):
    folder_of(tmp_path, ["flat"])
    graph = wb.load_graph(FOREIGN, shelf)
    found = wb.evaluation_images(graph, str(tmp_path / "flat"), 100)
    assert len(found) == 12
    assert found.name.endswith(BY_FP32)
