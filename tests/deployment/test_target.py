import dataclasses
import shlex
import subprocess

import numpy as np
import pytest

from tests.tiny import SIZE, Tiny, some_images, variant_of
from workbench.backends import backend
from workbench.cli.commands import main
from workbench.deployment.bundle import build_bundle, export_bundle
from workbench.deployment.fallback import ORIGINAL
from workbench.deployment.manifest import bundle_digest, read_manifest
from workbench.deployment.service import deploy
from workbench.deployment.target import Target, build_command, is_built, trtexec_command
from workbench.deployment.triton import BUILD, CONFIG, export_triton
from workbench.deployment.verify import verify_bundle
from workbench.errors import WorkbenchError
from workbench.records import Batches

RTX = pytest.mark.skipif(
    bool(backend("tensorrt-rtx").missing()), reason="no tensorrt-rtx. Remedy: pip install tensorrt-rtx"
)


def variant(folder, **graph):
    """The tiny classifier as a variant that TensorRT takes."""
    made = variant_of(Tiny.of().graph(folder, **graph))
    return dataclasses.replace(made, runtimes=("tensorrt", "tensorrt-rtx"))


@pytest.fixture
def unbuilt(tmp_path):
    target = Target("tensorrt-rtx", Batches(1, 4, 8), {"optimization_level": 0})
    return export_bundle(variant(tmp_path), tmp_path / "unbuilt", images=some_images(20), target=target)


def test_a_bundle_of_a_variant_is_sound_and_serves_its_original_with_the_command_that_builds(unbuilt, tiny):
    assert verify_bundle(unbuilt, trust=bundle_digest(unbuilt)) == []
    assert not is_built(read_manifest(unbuilt).engine)
    with deploy(unbuilt) as service:
        np.testing.assert_allclose(service.predict(some_images(3)), tiny.logits(some_images(3)), atol=1e-4)
        assert service.active == ORIGINAL
        assert build_command(unbuilt) in service.reason
    assert "workbench bundle build" in (unbuilt / "README.md").read_text()


def test_the_same_variant_and_target_give_the_same_bytes(unbuilt, tmp_path):
    (tmp_path / "again").mkdir()
    target = Target("tensorrt-rtx", Batches(1, 4, 8), {"optimization_level": 0})
    again = export_bundle(variant(tmp_path / "again"), tmp_path / "b", images=some_images(20), target=target)
    assert bundle_digest(again) == bundle_digest(unbuilt)


@RTX
def test_the_command_builds_a_bundle_with_the_engine_and_what_travelled_along(unbuilt, tmp_path):
    words = shlex.split(build_command(unbuilt, tmp_path / "built"))
    assert words[0] == "workbench"
    assert main([*words[1:], "--trust", bundle_digest(unbuilt)]) == 0
    before, after = read_manifest(unbuilt), read_manifest(tmp_path / "built")
    assert is_built(after.engine)
    assert (after.engine.batches, after.engine.options["optimization_level"]) == (Batches(1, 4, 8), 0)
    assert after.engine.environment["runtime"].startswith("TensorRT for RTX")
    kept = [(m.name, m.classes, m.licence, m.reference) for m in (before, after)]
    assert kept[0] == kept[1]
    golden = [(folder / "golden/images.npy").read_bytes() for folder in (unbuilt, tmp_path / "built")]
    assert golden[0] == golden[1]
    assert verify_bundle(tmp_path / "built") == []


def test_a_bundle_that_has_an_engine_and_one_that_is_not_trusted_are_not_built(packed, unbuilt, tmp_path):
    with pytest.raises(WorkbenchError, match="has an engine"):
        build_bundle(packed, tmp_path / "built")
    with pytest.raises(WorkbenchError, match="trusted"):
        build_bundle(unbuilt, tmp_path / "built", trust="0" * 64)
    assert not (tmp_path / "built").exists()


def test_trtexec_gets_every_profile_and_option(tmp_path):
    options = {"workspace_gib": 1.5, "version_compatible": True, "hardware_compatible": False, "time_limit_s": 9}
    engine = Target("tensorrt", Batches(1, 8, 32, (4,)), options).engine(variant(tmp_path, layout="NCHW"))
    assert trtexec_command(engine, "a b.onnx", "x.plan") == (
        "trtexec '--onnx=a b.onnx' --saveEngine=x.plan --stronglyTyped"
        f" --profile=0 --minShapes=images:4x3x{SIZE}x{SIZE} --optShapes=images:4x3x{SIZE}x{SIZE}"
        f" --maxShapes=images:4x3x{SIZE}x{SIZE}"
        f" --profile=1 --minShapes=images:1x3x{SIZE}x{SIZE} --optShapes=images:8x3x{SIZE}x{SIZE}"
        f" --maxShapes=images:32x3x{SIZE}x{SIZE}"
        " --memPoolSize=workspace:1536M --versionCompatible"
    )
    (tmp_path / "static").mkdir()
    static = Target("tensorrt", Batches(4, 4, 4)).engine(variant(tmp_path / "static", batch=4))
    assert "Shapes" not in trtexec_command(static, "m.onnx", "x.plan")


def test_triton_gets_the_variant_and_the_script_that_builds_the_plan_in_its_container(tmp_path):
    bundle = export_bundle(variant(tmp_path), tmp_path / "b", images=some_images(4))
    version = export_triton(bundle, tmp_path / "repository")
    assert sorted(path.name for path in version.iterdir()) == [BUILD, "bundle.txt", "model.onnx"]
    config = (version.parent / CONFIG).read_text()
    assert 'backend: "tensorrt"' in config
    assert 'default_model_filename: "model.plan"' in config
    trtexec = tmp_path / "trtexec"  # as TensorRT's: it writes the file that --saveEngine names
    trtexec.write_text(
        '#!/bin/sh\nfor word; do case $word in --saveEngine=*) echo "$@" >"${word#*=}";; esac; done\n'
    )
    trtexec.chmod(0o755)
    path = f"{tmp_path}:/usr/bin:/bin"
    subprocess.run(["sh", str(version / BUILD)], check=True, env={"PATH": path}, cwd=tmp_path)
    assert "--onnx=model.onnx" in (version / "model.plan").read_text()
    assert not (version / "building.plan").exists()


def test_a_variant_that_the_backend_does_not_take_and_an_unknown_backend_are_refused(tmp_path):
    for_cpu = variant_of(Tiny.of().graph(tmp_path))
    if "tensorrt" not in for_cpu.runtimes:
        with pytest.raises(WorkbenchError, match="will not build"):
            export_bundle(for_cpu, tmp_path / "b", images=some_images(4))
    with pytest.raises(WorkbenchError, match="backend of a target"):
        Target("onnxruntime")
