import dataclasses
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import workbench
from tests.deployment.bundles import tiny_engine
from tests.tiny import CLASSES, some_images
from workbench.deployment import slots
from workbench.deployment.engine_process import EngineFailed, EngineProcess


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    return tiny_engine(tmp_path_factory.mktemp("engine"))


@pytest.fixture(scope="module")
def process(engine):
    with EngineProcess(engine, CLASSES, streams=2) as process:
        yield process


def test_it_computes_in_another_process_what_the_graph_says(process, tiny):
    assert process.pid != os.getpid()
    assert process.environment["onnxruntime"]
    for count in (1, 5, 32):
        found = process.run(0, some_images(count), 60)
        np.testing.assert_allclose(found, tiny.logits(some_images(count)), atol=1e-4)


def test_streams_and_threads_do_not_mix_their_answers(process, tiny):
    def ask(index):
        images = some_images(1 + index % 7, seed=index)
        return np.abs(process.run(index % 2, images, 60) - tiny.logits(images)).max()

    with ThreadPoolExecutor(6) as pool:
        assert max(pool.map(ask, range(100))) < 1e-4


def test_an_answer_is_not_overwritten_by_the_next(process):
    first = process.run(0, some_images(2), 60)
    kept = first.copy()
    process.run(0, some_images(2, seed=5), 60)
    assert np.array_equal(first, kept)


def test_an_error_in_a_call_is_reported_and_the_process_goes_on(process, tiny):
    bad = some_images(2)
    bad[0, 0, 0, 0] = np.nan
    with pytest.raises(EngineFailed, match="NaN or infinity"):
        process.run(0, bad, 60)
    np.testing.assert_allclose(process.run(0, some_images(2), 60), tiny.logits(some_images(2)), atol=1e-4)


def test_a_killed_process_fails_every_call_with_the_signal(engine):
    with EngineProcess(engine, CLASSES) as process:
        folder = process._slots.folder
        os.kill(process.pid, signal.SIGKILL)
        for _ in range(3):
            with pytest.raises(EngineFailed, match="SIGKILL"):
                process.run(0, some_images(1), 60)
    assert not folder.exists()
    process.close()
    with pytest.raises(EngineFailed):
        process.run(0, some_images(1), 60)


def test_a_process_that_hangs_is_ended_when_its_time_is_over(engine):
    with EngineProcess(engine, CLASSES) as process:
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(EngineFailed, match=r"did not answer within 0\.2 s"):
            process.run(0, some_images(1), 0.2)
        assert process._process.wait(60) == -signal.SIGKILL


def test_an_engine_that_cannot_be_opened_says_why_and_leaves_nothing(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(slots, "_IN_MEMORY", tmp_path)
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    for wrong, word in (
        (dataclasses.replace(engine, path=broken, checksums={}), "does not load"),
        (dataclasses.replace(engine, path=tmp_path / "none", checksums={}), "is not what was built"),
        (dataclasses.replace(engine, backend="tensorrt"), "cannot run here"),
        (dataclasses.replace(engine, backend="triton"), "triton"),
    ):
        with pytest.raises(EngineFailed, match=word):
            EngineProcess(wrong, CLASSES)
    assert list(tmp_path.iterdir()) == [broken]


def test_modules_in_the_folder_where_a_service_starts_are_not_imported(packed, tmp_path):
    (tmp_path / "numpy.py").write_text("raise SystemExit('hijacked')")
    script = f"""
import sys
sys.path.remove("")
sys.path.insert(0, {str(Path(workbench.__file__).parents[1])!r})
import workbench as wb
with wb.deploy({str(packed)!r}) as service:
    print(service.active, service.reason)"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.stdout.split() == ["engine"], done.stderr


def test_the_process_ends_with_whoever_started_it(packed):
    script = f"""
import os
import workbench as wb
service = wb.deploy({str(packed)!r})
print(service._fallback.pid, flush=True)
os._exit(1)"""
    root = Path(workbench.__file__).parents[1]
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=120, cwd=root)
    deadline = time.monotonic() + 60
    while is_running(int(done.stdout)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"
