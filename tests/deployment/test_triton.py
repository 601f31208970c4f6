import dataclasses
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import tritonclient
from google.protobuf import text_format

from tests.deployment.bundles import replace_file, tiny_engine
from tests.tiny import CLASSES, SIZE, some_images
from workbench.deployment.bundle import export_bundle
from workbench.deployment.manifest import bundle_digest
from workbench.deployment.triton import CONFIG, export_triton
from workbench.errors import WorkbenchError
from workbench.records import Batches, Measurement, Window


@pytest.fixture(scope="module")
def schema():
    """Triton's own model_config.proto, compiled in its client package; the rest of that module needs gRPC."""
    path = Path(tritonclient.__file__).parent / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def config_of(version, schema):
    """The model's configuration, read by Triton's schema, which refuses unknown fields and wrong types."""
    return text_format.Parse((version.parent / CONFIG).read_text(), schema.ModelConfig())


def plan_bundle(folder, targets=("SM90",), **options):
    engine = tiny_engine(folder)
    facts = {"runtime": "TensorRT 10.9.0.34", "targets": list(targets)}
    plan = engine.path.with_name("engine.plan")
    plan.write_bytes(b"a plan")
    engine = dataclasses.replace(
        engine, backend="tensorrt", path=plan, environment=facts, options=options, checksums={}
    )
    return export_bundle(engine, folder / "bundle", images=some_images(4))


def test_an_onnx_engine_becomes_a_model_that_tritons_schema_takes(packed, tmp_path, schema, tiny):
    version = export_triton(packed, tmp_path / "repository", delay_s=0.005, queue=50)
    assert version == tmp_path / "repository" / "tiny" / "1"
    config = config_of(version, schema)
    assert (config.name, config.backend, config.max_batch_size) == ("tiny", "onnxruntime", Batches().max)
    (images,), (logits,) = config.input, config.output
    assert (images.name, images.data_type, list(images.dims)) == ("images", schema.TYPE_FP32, [SIZE, SIZE, 3])
    assert (logits.name, logits.data_type, list(logits.dims)) == ("logits", schema.TYPE_FP32, [CLASSES])
    batching = config.dynamic_batching
    assert list(batching.preferred_batch_size) == [Batches().opt]
    assert batching.max_queue_delay_microseconds == 5000
    assert batching.default_queue_policy.max_queue_size == 50
    assert config.version_policy.latest.num_versions == 2
    assert [warmup.batch_size for warmup in config.model_warmup] == [1, 8, 32]
    assert config.model_warmup[0].inputs["images"].random_data
    assert (config.instance_group[0].count, config.instance_group[0].kind) == (
        1,
        schema.ModelInstanceGroup.KIND_CPU,
    )
    session = onnxruntime.InferenceSession(version / config.default_model_filename)
    found = session.run([logits.name], {images.name: some_images(3)})[0]
    np.testing.assert_allclose(found, tiny.logits(some_images(3)), atol=1e-4)


def test_each_export_is_a_new_version_and_names_its_bundle(packed, tmp_path):
    other = shutil.copytree(packed, tmp_path / "other")
    replace_file(other, "README.md", b"another")
    versions = [export_triton(bundle, tmp_path / "repository") for bundle in (packed, other)]
    assert [version.name for version in versions] == ["1", "2"]
    written = [(version / "bundle.txt").read_text().strip() for version in versions]
    assert written == [bundle_digest(packed), bundle_digest(other)]
    shutil.rmtree(versions[0])
    assert export_triton(packed, tmp_path / "repository").name == "3"  # Triton has seen number 2 already


@pytest.mark.parametrize(
    ("graph", "dims"), [({"batch": 4}, [4, SIZE, SIZE, 3]), ({"layout": "NCHW"}, [3, SIZE, SIZE])]
)
def test_static_batches_and_channels_first_keep_their_shapes(graph, dims, tmp_path, schema):
    bundle = export_bundle(tiny_engine(tmp_path, **graph), tmp_path / "bundle", images=some_images(4))
    config = config_of(export_triton(bundle, tmp_path / "repository"), schema)
    assert list(config.input[0].dims) == dims
    assert (config.max_batch_size == 0) == ("batch" in graph) == (not config.HasField("dynamic_batching"))
    assert list(config.model_warmup[0].inputs["images"].dims) == dims


def test_external_weights_go_along(tmp_path, tiny):
    bundle = export_bundle(tiny_engine(tmp_path, external=True), tmp_path / "bundle", images=some_images(4))
    version = export_triton(bundle, tmp_path / "repository")
    found = onnxruntime.InferenceSession(version / "model.onnx").run(None, {"images": some_images(1)})[0]
    np.testing.assert_allclose(found, tiny.logits(some_images(1)), atol=1e-4)


def test_as_many_instances_run_as_streams_were_measured(tmp_path, schema):
    engine = tiny_engine(tmp_path)
    measured = Measurement(
        "onnxruntime", "tiny", engine.variant.recipe, 8, "v", (0.1,), streams=3, end_to_end=Window((1,), (0.1,))
    )
    bundle = export_bundle(engine, tmp_path / "bundle", images=some_images(4), measurement=measured)
    assert config_of(export_triton(bundle, tmp_path / "repository"), schema).instance_group[0].count == 3


def test_a_plan_goes_only_to_its_own_version_of_tensorrt(tmp_path, schema):
    bundle = plan_bundle(tmp_path, targets=("SM90", "SM120"))
    for wrong in (None, "10.8.0", "11.0"):
        with pytest.raises(WorkbenchError, match=r"built by TensorRT 10\.9\.0\.34"):
            export_triton(bundle, tmp_path / "repository", tensorrt=wrong)
    assert not (tmp_path / "repository").exists()
    version = export_triton(bundle, tmp_path / "repository", tensorrt="10.9.0")
    config = config_of(version, schema)
    assert (config.backend, config.instance_group[0].kind) == ("tensorrt", schema.ModelInstanceGroup.KIND_GPU)
    assert dict(config.cc_model_filenames) == {"9.0": "model.plan", "12.0": "model.plan"}
    assert (version / "model.plan").read_bytes() == b"a plan"


def test_what_triton_cannot_serve_and_what_is_damaged_is_refused_and_nothing_is_written(packed, tmp_path):
    engine = dataclasses.replace(tiny_engine(tmp_path), backend="tensorrt-rtx", checksums={})
    bundle = export_bundle(engine, tmp_path / "rtx", images=some_images(4))
    with pytest.raises(WorkbenchError, match="none for tensorrt-rtx"):
        export_triton(bundle, tmp_path / "repository")
    broken = shutil.copytree(packed, tmp_path / "broken")
    (broken / "engine/model.onnx").write_bytes(b"changed")
    with pytest.raises(WorkbenchError, match="not what was written"):
        export_triton(broken, tmp_path / "repository")
    with pytest.raises(WorkbenchError, match="trusted"):
        export_triton(packed, tmp_path / "repository", trust="0" * 64)
    assert not (tmp_path / "repository").exists()


def test_a_model_with_other_inputs_is_not_mixed_into_one_that_is_there(packed, tmp_path):
    export_triton(packed, tmp_path / "repository")
    (tmp_path / "nchw").mkdir()
    other = export_bundle(tiny_engine(tmp_path / "nchw", layout="NCHW"), tmp_path / "bundle", images=some_images(4))
    with pytest.raises(WorkbenchError, match="another model of this name"):
        export_triton(other, tmp_path / "repository")
    assert sorted(path.name for path in (tmp_path / "repository/tiny").iterdir()) == ["1", CONFIG]
