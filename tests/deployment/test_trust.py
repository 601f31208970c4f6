import json
import shutil
import subprocess

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from workbench.backends import backend, open_engine
from workbench.cli.commands import main
from workbench.deployment.fault_injection import replace_file
from workbench.deployment.manifest import MANIFEST, SENDER, SIGNATURE, bundle_digest
from workbench.deployment.registry import Registry
from workbench.deployment.service import deploy
from workbench.deployment.trust import sign_bundle
from workbench.deployment.verify import read_bundle, verify_bundle
from workbench.errors import WorkbenchError
from workbench.remote.host import Host

PEM = serialization.Encoding.PEM


def written(path, key):
    """A key pair as PEM files: the paths of the private and the public one."""
    private, public = path.with_suffix(".pem"), path.with_suffix(".pub")
    kept = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    private.write_bytes(key.private_bytes(PEM, *kept))
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    public.write_bytes(key.public_key().public_bytes(PEM, form))
    return private, public


@pytest.fixture
def keys(tmp_path):
    return written(tmp_path / "sender", ed25519.Ed25519PrivateKey.generate())


def test_a_signed_bundle_is_trusted_by_the_public_key_and_by_no_other(bundle, keys, tmp_path):
    digest = bundle_digest(bundle)
    assert "no signature" in verify_bundle(bundle, trust=keys[1])[0]
    assert main(["bundle", "sign", str(bundle), str(keys[0])]) == 0
    assert (bundle_digest(bundle), len((bundle / SIGNATURE).read_bytes())) == (digest, 64)
    assert (
        verify_bundle(bundle, trust=keys[1]) == verify_bundle(bundle, trust=digest) == verify_bundle(bundle) == []
    )
    _, stranger = written(tmp_path / "stranger", ed25519.Ed25519PrivateKey.generate())
    assert "not made with the private key" in verify_bundle(bundle, trust=str(stranger))[0]
    with deploy(bundle, trust=keys[1]) as service:
        assert service.active == "engine"


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl. Remedy: apt-get install openssl")
def test_openssl_agrees_with_the_signature(bundle, keys):
    sign_bundle(bundle, keys[0])
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", str(keys[1]), "-rawin"]
    files = ["-in", str(bundle / "manifest.json"), "-sigfile", str(bundle / SIGNATURE)]
    done = subprocess.run([*command, *files], capture_output=True, text=True)
    assert "Verified Successfully" in done.stdout, done.stderr


@pytest.mark.parametrize("change", [
    lambda bundle: replace_file(bundle, "engine/model.onnx", b"code"),
    lambda bundle: (bundle / SIGNATURE).write_bytes(b""),
    lambda bundle: (bundle / SIGNATURE).write_bytes((bundle / SIGNATURE).read_bytes() + b"\0"),
    lambda bundle: (bundle / SIGNATURE).unlink(),
])  # fmt: skip
def test_what_was_changed_after_signing_is_not_opened(change, bundle, keys):
    sign_bundle(bundle, keys[0])
    change(bundle)
    with pytest.raises(WorkbenchError, match="signature"):
        deploy(bundle, trust=keys[1])


def test_a_signature_that_is_a_link_is_no_signature(bundle, keys, tmp_path):
    sign_bundle(bundle, keys[0]).rename(tmp_path / "signature")
    (bundle / SIGNATURE).symlink_to(tmp_path / "signature")
    assert "no signature" in verify_bundle(bundle, trust=keys[1])[0]
    assert verify_bundle(bundle) == [f"{SIGNATURE} is not listed in the manifest"]


def test_a_registry_keeps_the_signature(bundle, keys, tmp_path):
    sign_bundle(bundle, keys[0])
    registry = Registry(tmp_path / "registry")
    version = registry.add(bundle, keys[1])
    assert read_bundle(registry.folder_of(version), keys[1]).name == "tiny"


def test_what_is_no_ed25519_key_is_refused_with_the_remedy(bundle, keys, tmp_path):
    other, other_public = written(tmp_path / "other", ec.generate_private_key(ec.SECP256R1()))
    (tmp_path / "text").write_text("no key")
    for key in (other, tmp_path / "text", tmp_path / "missing", keys[1]):
        with pytest.raises(WorkbenchError, match="no private Ed25519 key"):
            sign_bundle(bundle, key)
    sign_bundle(bundle, keys[0])
    for key in (other_public, tmp_path / "text", keys[0]):
        with pytest.raises(WorkbenchError, match="no public Ed25519 key"):
            deploy(bundle, trust=key)
    for nothing in ("", "abc", tmp_path / "missing.pub"):
        with pytest.raises(WorkbenchError, match="nothing that could be trusted"):
            deploy(bundle, trust=nothing)


# ---- engines that can hold code ----------------------------------------------------------------------------------


@pytest.fixture
def holds_code(monkeypatch):
    """ONNX Runtime in the place of TensorRT: its engines count as code that is run by whoever loads it."""
    monkeypatch.setattr(type(backend("onnxruntime")), "copies_variant", False)


def boasting(bundle):
    """The bundle with a record that says of itself that it is trusted, and comes from this machine."""
    path = bundle / MANIFEST
    values = json.loads(path.read_text())
    values["engine"] |= {"trusted": True, "host": ""}
    path.write_text(json.dumps(values))
    return bundle


def test_a_record_that_calls_itself_trusted_opens_no_engine_that_can_hold_code(bundle, holds_code):
    boasting(bundle)
    manifest = read_bundle(bundle)
    assert (manifest.engine.trusted, manifest.engine.host) == (False, SENDER)
    with deploy(bundle) as service:
        assert service.active == "original"
        assert "nobody said whom to trust" in service.reason
    with pytest.raises(WorkbenchError, match="is not loaded here"):
        open_engine(manifest.engine)
    with pytest.raises(WorkbenchError, match="is not loaded here"):
        open_engine(manifest.engine, trust=["gpu-box", ""])  # no host has the sender's name


def test_a_digest_or_key_of_the_receivers_opens_it(bundle, holds_code, keys):
    for trust in (bundle_digest(bundle), keys[1]):
        sign_bundle(bundle, keys[0])
        with deploy(bundle, trust=trust) as service:
            assert (service.active, service.reason) == ("engine", "")


def test_a_probe_does_not_run_it_unless_it_is_trusted(bundle, holds_code):
    here = Host("onnxruntime", "onnxruntime")
    assert "nobody said whom to trust" in here.probe(boasting(bundle)).engine
    assert here.probe(bundle, trust=bundle_digest(bundle)).engine == ""


def test_an_engine_of_onnx_runtime_needs_no_trust_because_it_holds_no_code(bundle):
    with deploy(bundle) as service:
        assert service.active == "engine"
