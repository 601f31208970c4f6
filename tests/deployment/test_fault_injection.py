import pytest

from tests.tiny import CLASSES, some_images
from workbench.deployment import fault_injection as faults
from workbench.deployment.fallback import ORIGINAL
from workbench.deployment.manifest import bundle_digest
from workbench.deployment.service import deploy
from workbench.deployment.verify import read_bundle, verify_bundle
from workbench.errors import WorkbenchError
from workbench.graphs.nan_logits import with_nan_logits


def test_one_bit_of_one_file_is_flipped_and_found(bundle):
    before = (bundle / "engine/model.onnx").read_bytes()
    faults.flip_bit(bundle, "engine/model.onnx")
    after = (bundle / "engine/model.onnx").read_bytes()
    assert sum((a ^ b).bit_count() for a, b in zip(before, after)) == 1
    assert [fault.split()[0] for fault in verify_bundle(bundle)] == ["engine/model.onnx"]


def test_a_replaced_file_agrees_with_its_checksum_and_only_the_digest_tells(bundle):
    digest = bundle_digest(bundle)
    faults.replace_file(bundle, "README.md", b"other words")
    assert read_bundle(bundle).classes == CLASSES
    with pytest.raises(WorkbenchError, match="trusted"):
        read_bundle(bundle, digest)


def test_an_engine_of_another_version_is_not_loaded(bundle):
    faults.claim_runtime(bundle, "tensorrt-rtx", "TensorRT for RTX 0.1.0")
    with deploy(bundle, trust=bundle_digest(bundle)) as service:
        assert service.active == ORIGINAL
        assert "built by TensorRT for RTX 0.1.0, and here is" in service.reason


def test_an_engine_that_computes_nan_is_found_by_its_golden_images(bundle, tiny):
    name = faults.engine_file(bundle)
    faults.replace_file(bundle, name, with_nan_logits(bundle / name))
    with deploy(bundle) as service:
        assert abs(service.predict(some_images(3)) - tiny.logits(some_images(3))).max() < 1e-4
        assert (service.active, "computes NaN" in service.reason) == (ORIGINAL, True)


@pytest.mark.parametrize("name", ["engine/none.onnx", "../bundle/README.md", "/etc/passwd"])
def test_only_files_of_the_bundle_are_broken(name, bundle):
    with pytest.raises(WorkbenchError):
        faults.flip_bit(bundle, name)
