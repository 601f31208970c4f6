import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

import workbench
from tests.deployment.bundles import replace_file
from workbench.deployment.manifest import bundle_digest
from workbench.deployment.registry import PROMOTE, ROLLBACK, Registry
from workbench.deployment.service import deploy
from workbench.deployment.verify import verify_bundle
from workbench.errors import WorkbenchError

ROOT = Path(workbench.__file__).parents[1]


@pytest.fixture
def bundles(packed, tmp_path):
    """Three bundles that differ in what their README says."""
    folders = [shutil.copytree(packed, tmp_path / f"bundle{i}") for i in range(3)]
    for i, folder in enumerate(folders):
        replace_file(folder, "README.md", f"version {i}".encode())
    return folders


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "registry")


def test_a_version_is_named_by_its_digest_and_stands_on_its_own(registry, bundles):
    version = registry.add(bundles[0])
    assert version == bundle_digest(bundles[0]) == registry.add(bundles[0])
    assert registry.versions() == [version]
    assert registry.current is None
    shutil.rmtree(bundles[0])
    folder = registry.promote(version[:8])
    assert registry.current == version
    assert registry.current_folder == folder
    assert verify_bundle(folder, version) == []
    with deploy(folder) as service:
        assert service.active == "engine"


def test_rollbacks_go_back_through_what_was_current_and_no_further(registry, bundles):
    a, b, c = (registry.add(bundle) for bundle in bundles)
    for version in (a, b, c):
        registry.promote(version)
    assert [registry.rollback().name, registry.rollback().name] == [b, a]
    with pytest.raises(WorkbenchError, match="no version to go back to"):
        registry.rollback()
    registry.promote(c)
    assert registry.rollback().name == registry.current == a
    expected = [PROMOTE, PROMOTE, PROMOTE, ROLLBACK, ROLLBACK, PROMOTE, ROLLBACK]
    assert [event.action for event in registry.history()] == expected


def test_an_empty_registry_and_an_unknown_version_are_refused_with_remedies(registry, bundles):
    for call in (registry.rollback, lambda: registry.current_folder, lambda: registry.promote("abc")):
        with pytest.raises(WorkbenchError):
            call()
    registry.add(bundles[0])
    for unknown in ("", "zzz", "../.."):
        with pytest.raises(WorkbenchError, match="has no version"):
            registry.promote(unknown)


def test_a_damaged_bundle_is_neither_added_nor_promoted_nor_rolled_back_to(registry, bundles):
    good, other = registry.add(bundles[0]), registry.add(bundles[1])
    registry.promote(good)
    registry.promote(other)
    (registry.path / "versions" / good / "README.md").write_text("changed")
    with pytest.raises(WorkbenchError, match="README"):
        registry.rollback()
    with pytest.raises(WorkbenchError, match="README"):
        registry.promote(good)
    assert registry.current == other
    (bundles[2] / "engine/model.onnx").write_bytes(b"changed")
    with pytest.raises(WorkbenchError, match="engine"):
        registry.add(bundles[2])
    with pytest.raises(WorkbenchError, match="trusted"):
        registry.add(bundles[1], trust=good)
    assert sorted(path.name for path in (registry.path / "versions").iterdir()) == sorted([good, other])


def test_a_process_killed_at_any_line_leaves_one_valid_current(registry, bundles):
    """Children die by SIGKILL at ever later lines of the registry, the ledger and the disk, until one survives."""
    before = registry.add(bundles[0])
    registry.promote(before)
    script = f"""
import os, signal, sys
from workbench import files, ledger
from workbench.deployment import registry
traced = {{module.__file__ for module in (registry, ledger, files)}}
for last in range(1, 10_000, 3):
    child = os.fork()
    if not child:
        seen = 0
        def trace(frame, event, argument):
            global seen
            if frame.f_code.co_filename not in traced:
                return None
            seen += event == "line"
            if seen == last:
                os.kill(os.getpid(), signal.SIGKILL)
            return trace
        sys.settrace(trace)
        kept = registry.Registry({str(registry.path)!r})
        kept.promote(kept.add({str(bundles[1])!r}))
        sys.settrace(None)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    kept = registry.Registry({str(registry.path)!r})
    assert not kept.manifest(kept.current).format > 1
    print(kept.current, flush=True)
    if status == 0:
        break"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr
    seen, after = done.stdout.split(), bundle_digest(bundles[1])
    assert set(seen) == {before, after}
    assert seen == sorted(seen, key=[before, after].index)  # never back
    assert len(seen) > 20
    assert registry.current == after


def test_several_processes_promote_at_once_and_every_promotion_is_kept(registry, bundles):
    versions = [registry.add(bundle) for bundle in bundles]
    start = time.time() + 2
    script = """
import sys, time
from workbench.deployment.registry import Registry
time.sleep(max(0, float(sys.argv[3]) - time.time()))
for _ in range(5):
    Registry(sys.argv[1]).promote(sys.argv[2])"""
    commands = [[sys.executable, "-c", script, str(registry.path), version, str(start)] for version in versions]
    processes = [subprocess.Popen(command, cwd=ROOT, env=dict(os.environ)) for command in commands]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    promoted = [event.version for event in registry.history()]
    assert sorted(promoted) == sorted(versions * 5)
    assert registry.current == promoted[-1]
