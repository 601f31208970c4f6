import shutil

import pytest

from tests.deployment.bundles import replace_file, tiny_engine
from tests.tiny import some_images
from workbench.cli.commands import REFUSED, main
from workbench.deployment.bundle import export_bundle
from workbench.deployment.manifest import bundle_digest


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    return export_bundle(tiny_engine(folder), folder / "bundle", images=some_images(4))


def said(capsys, *words) -> tuple[int, str]:
    status = main([str(word) for word in words])
    captured = capsys.readouterr()
    return status, captured.out + captured.err


def test_verify_prints_the_digest_of_a_sound_bundle_and_the_faults_of_another(packed, tmp_path, capsys):
    digest = bundle_digest(packed)
    status, text = said(capsys, "bundle", "verify", packed, "--trust", digest)
    assert (status, digest in text) == (0, True)
    broken = shutil.copytree(packed, tmp_path / "broken")
    (broken / "README.md").unlink()
    (broken / "engine" / "more").write_text("")
    status, text = said(capsys, "bundle", "verify", broken)
    assert (status, len(text.splitlines())) == (1, 2)
    assert said(capsys, "bundle", "verify", packed, "--trust", "0" * 64)[0] == 1
    assert said(capsys, "bundle", "verify", tmp_path)[0] == 1


def test_versions_are_promoted_listed_and_rolled_back(packed, tmp_path, capsys):
    other, registry = shutil.copytree(packed, tmp_path / "other"), tmp_path / "registry"
    replace_file(other, "README.md", b"another")
    first, second = (bundle_digest(folder)[:12] for folder in (packed, other))
    for folder, version in ((packed, first), (other, second)):
        status, text = said(capsys, "deploy", "promote", registry, folder)
        assert (status, version in text) == (0, True)
    assert f"* {second}" in said(capsys, "deploy", "list", registry)[1]
    assert first in said(capsys, "deploy", "rollback", registry)[1]
    assert f"* {first}" in said(capsys, "deploy", "list", registry)[1]
    assert second in said(capsys, "deploy", "promote", registry, second)[1]
    (registry / "versions" / bundle_digest(packed) / "README.md").write_text("changed")
    assert "damaged: README.md" in said(capsys, "deploy", "list", registry)[1]
    status, text = said(capsys, "deploy", "rollback", registry)
    assert (status, "remedy:" in text) == (REFUSED, True)


def test_serve_refuses_what_is_no_bundle_with_the_remedy(packed, tmp_path, capsys):
    status, text = said(capsys, "serve", tmp_path)
    assert (status, "is no bundle" in text, "remedy:" in text) == (REFUSED, True, True)
    assert said(capsys, "serve", packed, "--trust", "0" * 64)[0] == REFUSED
    assert said(capsys, "serve", packed, "--batch", "0")[0] == REFUSED
    assert said(capsys, "serve", packed, "--port", "99999999")[0] == REFUSED
