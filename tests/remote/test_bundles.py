"""Hosts that probe a bundle and deploy it: in this process, in another interpreter, and on Python 3.10."""

from __future__ import annotations

import math
import shutil

import pytest

from tests import python310
from tests.deployment.bundles import tiny_engine
from tests.remote.jobs import host
from tests.tiny import Tiny, some_images
from workbench.deployment.bundle import export_bundle
from workbench.deployment.fallback import ENGINE, ORIGINAL
from workbench.deployment.fault_injection import claim_runtime, replace_file
from workbench.deployment.manifest import bundle_digest
from workbench.deployment.registry import Registry
from workbench.errors import WorkbenchError
from workbench.remote.host import Host


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    return export_bundle(tiny_engine(folder), folder / "bundle", images=some_images(20))


@pytest.fixture
def bundle(packed, tmp_path):
    return shutil.copytree(packed, tmp_path / "bundle")


def test_the_engine_answers_in_this_process_and_in_another(packed, tmp_path):
    for place in (Host("here", "onnxruntime"), host(tmp_path)):
        found = place.probe(packed, trust=bundle_digest(packed))
        assert (found.active, found.engine, found.original, found.kept) == (ENGINE, "", "", "")
        assert 0 < found.engine_ms < math.inf
        assert 0 < found.original_ms < math.inf
        assert found.version == bundle_digest(packed)


def test_a_host_needs_python_310_and_nothing_of_ours(packed, tmp_path):
    if python310.equipped() is None:
        pytest.skip("there is no Python 3.10 with NumPy and ONNX Runtime: install it, or let pip reach an index")
    found = host(tmp_path, python310.equipped(), "-I").deploy(packed, tmp_path / "registry")
    assert (found.active, found.environment["python"][:4]) == (ENGINE, "3.10")
    registry = Registry(tmp_path / "registry")
    assert (str(registry.current_folder), registry.current) == (found.kept, bundle_digest(packed))


def test_a_host_where_the_engine_does_not_run_says_so_and_serves_the_original(bundle, tmp_path):
    claim_runtime(bundle, "tensorrt-rtx", "TensorRT for RTX 0.1.0")
    found = host(tmp_path).deploy(bundle, tmp_path / "registry", trust=bundle_digest(bundle))
    assert found.active == ORIGINAL
    assert "cannot run here" in found.engine
    assert found.engine_ms is None
    assert Registry(tmp_path / "registry").current == bundle_digest(bundle)


def test_what_does_not_answer_or_is_not_trusted_is_not_deployed(bundle, tmp_path):
    with pytest.raises(WorkbenchError, match="trusted"):
        host(tmp_path).deploy(bundle, tmp_path / "registry", trust="0" * 64)
    replace_file(bundle, "original/model.onnx", Tiny.of(seed=1).model().SerializeToString())
    with pytest.raises(WorkbenchError, match="neither model answers"):
        host(tmp_path).deploy(bundle, tmp_path / "registry")
    assert not (tmp_path / "registry").exists()
    found = host(tmp_path).probe(bundle)
    assert (found.active, "other logits" in found.original) == ("", True)
