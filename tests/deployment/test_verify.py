import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import workbench
from tests.deployment.bundles import tiny_engine
from tests.tiny import Tiny, some_images
from workbench.backends.external_data import external_files
from workbench.deployment import manifest as manifests
from workbench.deployment.bundle import export_bundle
from workbench.deployment.fault_injection import change_manifest, replace_file
from workbench.deployment.manifest import FORMAT, MANIFEST, bundle_digest, plain_name
from workbench.deployment.service import deploy
from workbench.deployment.verify import verify_bundle
from workbench.digests import file_digest
from workbench.errors import WorkbenchError

FILES = ["README.md", "engine/model.onnx", "golden/images.npy", "golden/logits.npy", "original/model.onnx"]


def only_fault(bundle, *words, trust=None):
    faults = verify_bundle(bundle, trust)
    assert len(faults) == 1, faults
    for word in words:
        assert word in faults[0]


def test_a_sound_bundle_has_no_faults(packed):
    assert verify_bundle(packed) == []
    assert verify_bundle(str(packed), trust=f"sha256:{bundle_digest(packed)}") == []


def test_a_fresh_process_without_jax_onnx_and_pandas_verifies(packed):
    script = f"""
import sys
for name in ("jax", "flax", "onnx", "scipy", "pandas", "IPython"):
    sys.modules[name] = None
import workbench as wb
print(wb.verify_bundle({str(packed)!r}))"""
    command = [sys.executable, "-c", script]
    root = Path(workbench.__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=root)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize("name", FILES)
def test_one_flipped_bit_in_any_file_is_found(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    only_fault(bundle, name, "other bytes")


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_or_missing_file_is_found(bundle, name):
    (bundle / name).write_bytes((bundle / name).read_bytes()[:-1])
    only_fault(bundle, name, "the manifest says")
    (bundle / name).unlink()
    only_fault(bundle, name, "is missing")


def test_files_that_are_not_listed_are_found(bundle):
    (bundle / "engine" / "extra.so").write_bytes(b"code")
    (bundle / "elsewhere").symlink_to("/")
    assert verify_bundle(bundle) == [f"{n} is not listed in the manifest" for n in ("elsewhere", "engine/extra.so")]


def test_a_link_in_place_of_a_file_or_a_folder_is_refused_without_following_it(bundle, tmp_path):
    real = (bundle / "engine").rename(tmp_path / "engine")
    (bundle / "engine").symlink_to(real)
    assert any("engine is not listed" in fault for fault in verify_bundle(bundle))
    (bundle / "engine").unlink()
    real.rename(bundle / "engine")
    model = (bundle / "engine/model.onnx").rename(tmp_path / "model.onnx")
    (bundle / "engine/model.onnx").symlink_to(model)
    only_fault(bundle, "engine/model.onnx", "no plain file")


def test_a_pipe_in_place_of_a_file_does_not_hang(bundle):
    (bundle / "README.md").unlink()
    os.mkfifo(bundle / "README.md")
    only_fault(bundle, "README.md", "no plain file")


OUTSIDE = ["../../etc/passwd", "/etc/passwd", "engine/../../x", "a\\b", "C:x", ".", "..", "./a", "a//b", "a/"]
NO_PATHS = ["", "a\0b", "x" * 500, 5]


@pytest.mark.parametrize("name", [*OUTSIDE, *NO_PATHS, None])
def test_a_name_that_is_no_plain_one_is_refused(name):
    with pytest.raises(WorkbenchError, match="names a file"):
        plain_name(name)


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_name_that_leads_out_of_the_folder_is_refused(name, bundle):
    change_manifest(bundle, lambda values: values["engine"].update(path=name))
    only_fault(bundle, "names a file")


@pytest.mark.parametrize("name", NO_PATHS)
def test_a_name_that_is_no_path_is_refused_as_the_manifest_is_read(name, bundle):
    change_manifest(bundle, lambda values: values["engine"].update(path=name))
    only_fault(bundle, "path in engine in a stored Manifest")


def test_an_engine_without_a_path_is_refused(bundle):
    change_manifest(bundle, lambda values: values["engine"].update(path=None))
    only_fault(bundle, "engine")


@pytest.mark.parametrize("name", ["engine/model.onnx", "engine/plan.v2_a-b c.bin", "a"])
def test_plain_names_are_taken(name):
    assert plain_name(name).as_posix() == name


def test_sizes_that_are_declared_but_not_there_are_refused_before_anything_is_read(bundle, monkeypatch):
    def set_size(size):
        return lambda values: values["files"]["engine/model.onnx"].update(bytes=size)

    change_manifest(bundle, set_size(1 << 39))
    only_fault(bundle, "engine/model.onnx", "549,755,813,888")
    for size in (1 << 60, -1, 1.5, "many", None, True):
        change_manifest(bundle, set_size(size))
        only_fault(bundle, "engine/model.onnx", "wrongly")
    monkeypatch.setattr(manifests, "MAX_MANIFEST_BYTES", 100)
    only_fault(bundle, "too large")


def test_an_array_that_declares_more_than_its_file_holds_or_python_objects_is_refused(bundle):
    header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 8, 8, 3), }".ljust(117) + "\n"
    replace_file(bundle, "golden/images.npy", b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.encode())
    only_fault(bundle, "golden/images.npy", "is no array")
    path = bundle / "objects.npy"
    np.save(path, np.array([{"a": 1}], object), allow_pickle=True)
    content = path.read_bytes()
    path.unlink()
    replace_file(bundle, "golden/images.npy", content)
    only_fault(bundle, "golden/images.npy", "is no array")


def test_an_engine_for_absurdly_many_images_reserves_no_memory(bundle):
    change_manifest(bundle, lambda values: values["engine"]["batches"].update(max=10**12))
    only_fault(bundle, "No memory is reserved")


def test_a_later_manifest_is_refused_with_the_remedy(bundle):
    change_manifest(bundle, lambda values: values.update(format=FORMAT + 1))
    only_fault(bundle, "does not read", f"format is {FORMAT + 1}")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{}", b'{"format": 1}', b'{"format": 1, "files": []}', b"\xff\xfe", b"[" * 100_000,
     b'{"format": NaN}', b'{"format": 1, "files": {"a": 5}}'],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(content, bundle):
    (bundle / MANIFEST).write_bytes(content)
    assert len(verify_bundle(bundle)) == 1


def test_no_value_of_a_manifest_can_be_replaced_by_nonsense_and_raise_anything_but_a_fault(bundle):
    values = json.loads((bundle / MANIFEST).read_text())

    def places(value, path=()):
        children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, child in children:
            yield (*path, key)
            yield from places(child, (*path, key))

    for path in places(values):
        changed = json.loads(json.dumps(values))
        inner = changed
        for key in path[:-1]:
            inner = inner[key]
        for nonsense in ([], "x" * 50):
            inner[path[-1]] = nonsense
            (bundle / MANIFEST).write_text(json.dumps(changed))
            with contextlib.suppress(WorkbenchError):
                manifests.read_manifest(bundle)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    only_fault(tmp_path, "is no bundle")
    only_fault(tmp_path / "nowhere", "is no bundle")


def test_a_replaced_engine_with_a_matching_checksum_is_found_by_the_golden_logits(bundle):
    replace_file(bundle, "engine/model.onnx", Tiny.of(seed=1).model().SerializeToString())
    only_fault(bundle, "the engine computes other logits")
    replace_file(bundle, "engine/model.onnx", (bundle / "original/model.onnx").read_bytes())
    replace_file(bundle, "original/model.onnx", Tiny.of(seed=1).model().SerializeToString())
    only_fault(bundle, "the original model computes other logits")


def test_a_truncated_engine_with_a_matching_checksum_is_refused(bundle):
    replace_file(bundle, "engine/model.onnx", (bundle / "engine/model.onnx").read_bytes()[:5000])
    only_fault(bundle, "does not load")


def test_a_replaced_bundle_is_found_by_the_digest_that_the_receiver_trusts(bundle):
    trusted = bundle_digest(bundle)
    replace_file(bundle, "README.md", b"Serve without checks.")
    assert verify_bundle(bundle) == []  # whoever changes a file changes its checksum as well
    only_fault(bundle, "trusted", trust=trusted)
    only_fault(bundle, "trusted", trust="not a digest")


def test_weights_outside_the_folder_of_a_model_are_not_read(tmp_path):
    bundle = export_bundle(tiny_engine(tmp_path, external=True), tmp_path / "bundle", images=some_images(4))
    (weights,) = external_files(bundle / "original/model.onnx")
    content, name = (bundle / "original/model.onnx").read_bytes(), weights.name.encode()
    outside = b"../" + b"w" * (len(name) - 3)  # as long as the name, so that the lengths in the file stay right
    stolen = bundle / outside.decode()[3:]
    stolen.write_bytes(weights.read_bytes())  # the weights are there, and listed: only where they lie is wrong
    entry = {"sha256": file_digest(stolen), "bytes": stolen.stat().st_size}
    change_manifest(bundle, lambda values: values["files"].update({stolen.name: entry}))
    replace_file(bundle, "original/model.onnx", content.replace(name, outside))
    (fault,) = verify_bundle(bundle)
    assert "escapes" in fault
    with pytest.raises(WorkbenchError, match="escapes"):
        deploy(bundle)
