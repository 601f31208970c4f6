import dataclasses
import json

import numpy as np
import pytest

from tests.deployment.bundles import tiny_engine
from tests.tiny import CLASSES, SIZE, some_images
from workbench.deployment.bundle import GOLDEN_IMAGES, export_bundle
from workbench.deployment.manifest import bundle_digest, read_manifest
from workbench.deployment.verify import verify_bundle
from workbench.errors import WorkbenchError
from workbench.records import Batches, Measurement, Window, decode


def contents(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def engine(tmp_path):
    return tiny_engine(tmp_path)


def test_the_same_engine_and_images_give_the_same_bytes_wherever_they_are_written(engine, tmp_path):
    folders = [export_bundle(engine, tmp_path / name, images=some_images(20)) for name in ("a", "deeper/b")]
    assert contents(folders[0]) == contents(folders[1])
    assert bundle_digest(folders[0]) == bundle_digest(folders[1])
    assert str(tmp_path).encode() not in b"".join(contents(folders[0]).values())


def test_a_bundle_stands_on_its_own(tmp_path):
    away = tmp_path / "away"
    away.mkdir()
    folder = export_bundle(tiny_engine(away, external=True), tmp_path / "bundle", images=some_images(4))
    for path in sorted(away.rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    moved = folder.rename(tmp_path / "moved")
    assert verify_bundle(moved) == []


def test_the_golden_logits_are_the_originals_and_the_reference_describes_all_images(packed, tiny):
    manifest, images = read_manifest(packed), some_images(40)
    golden = np.load(packed / "golden/logits.npy")
    np.testing.assert_allclose(golden, tiny.logits(images[:GOLDEN_IMAGES]), atol=1e-4)
    assert np.array_equal(np.load(packed / "golden/images.npy"), images[:GOLDEN_IMAGES])
    assert manifest.classes == CLASSES
    assert manifest.reference.images == sum(manifest.reference.class_counts) == 40
    expected = np.bincount(tiny.logits(images).argmax(axis=1), minlength=CLASSES)
    assert list(manifest.reference.class_counts) == list(expected)
    np.testing.assert_allclose(manifest.reference.channel_means, images.mean(axis=(0, 1, 2)), atol=1e-6)


def test_pixels_are_normalised_as_the_graph_says(engine, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, SIZE, SIZE, 3), dtype=np.uint8)
    folder = export_bundle(engine, tmp_path / "bundle", images=pixels)
    np.testing.assert_allclose(
        np.load(folder / "golden/images.npy"), (pixels.astype(np.float32) - 127.5) / 127.5, atol=1e-6
    )


@pytest.mark.parametrize("graph", [{"batch": 4}, {"layout": "NCHW"}])
def test_static_batches_and_channels_first_are_packed_too(graph, tmp_path):
    folder = export_bundle(tiny_engine(tmp_path, **graph), tmp_path / "bundle", images=some_images(6))
    assert verify_bundle(folder) == []


def test_the_measurement_travels_whole(engine, tmp_path):
    recipe = engine.variant.recipe
    window = Window((2,), (0.3,))
    measured = Measurement(
        "onnxruntime",
        "tiny",
        recipe,
        8,
        engine.variant.digest,
        (0.1, 0.2),
        labels=(0, 1),
        end_to_end=window,
        compute=window,
    )
    folder = export_bundle(engine, tmp_path / "b", images=some_images(2), measurement=measured, licence="CC0-1.0")
    assert decode(Measurement, json.loads((folder / "measurement.json").read_text())) == measured
    assert "CC0-1.0" in (folder / "README.md").read_text()
    assert "measurement.json" in read_manifest(folder).files


def test_nothing_is_overwritten_and_a_refused_export_leaves_nothing(engine, tmp_path):
    folder = tmp_path / "bundle"
    folder.mkdir()
    (folder / "mine.txt").write_text("kept")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(WorkbenchError, match="something is there already"):
        export_bundle(engine, folder, images=some_images(2))
    bad = some_images(2)
    bad[1, 0, 0, 0] = np.nan
    for images in (bad, some_images(2)[:, :4], np.empty((0, SIZE, SIZE, 3), np.float32), "images"):
        with pytest.raises(WorkbenchError):
            export_bundle(engine, tmp_path / "other", images=images)
    assert sorted(tmp_path.iterdir()) == before
    assert (folder / "mine.txt").read_text() == "kept"


def test_a_changed_engine_or_a_lost_original_is_refused(engine, tmp_path):
    lost = dataclasses.replace(engine.variant.graph, path=tmp_path / "lost.onnx")
    without = dataclasses.replace(engine, variant=dataclasses.replace(engine.variant, graph=lost))
    with pytest.raises(WorkbenchError, match="original model is missing"):
        export_bundle(without, tmp_path / "b", images=some_images(2))
    engine.path.write_bytes(b"other")
    with pytest.raises(WorkbenchError, match="is not what was built"):
        export_bundle(engine, tmp_path / "b", images=some_images(2))
    with pytest.raises(WorkbenchError, match="made of an engine"):
        export_bundle(engine.variant, tmp_path / "b", images=some_images(2))


def test_an_engine_that_cannot_run_here_is_packed_with_the_tolerance_of_its_precision(engine, tmp_path):
    plan = dataclasses.replace(engine, backend="tensorrt", environment={"runtime": "TensorRT 10.0.0"})
    manifest = read_manifest(export_bundle(plan, tmp_path / "b", images=some_images(8)))
    assert not manifest.golden.executed
    assert manifest.golden.engine_tolerance > manifest.golden.original_tolerance
    assert manifest.engine.batches == Batches()
