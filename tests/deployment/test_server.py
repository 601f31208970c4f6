import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

import workbench
from tests.deployment.test_fallback import until
from tests.tiny import CLASSES, SIZE, some_images
from workbench.deployment.registry import Registry
from workbench.deployment.server import MAX_BODY_BYTES, serve
from workbench.deployment.service import deploy
from workbench.errors import WorkbenchError

ROOT = Path(workbench.__file__).parents[1]


@contextlib.contextmanager
def served(folder, *options):
    """``workbench serve`` in a process of its own: the process, and the address it announces."""
    command = [sys.executable, "-m", "workbench", "serve", str(folder), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            line = next((line for line in process.stdout if "http://" in line), "")
            yield process, re.search(r"http://[\d.]+:\d+", line)[0]
        finally:
            process.terminate()
            process.communicate(timeout=60)


@pytest.fixture(scope="module")
def address(packed):
    with served(packed, "--queue", "200") as (_, address):
        yield address


@pytest.fixture
def client(address):
    with triton.InferenceServerClient(address.removeprefix("http://"), concurrency=4) as client:
        yield client


def asked(images, binary=True):
    datatype = {"float32": "FP32", "uint8": "UINT8"}[str(images.dtype)]
    tensor = triton.InferInput("images", list(images.shape), datatype)
    tensor.set_data_from_numpy(images, binary_data=binary)
    return [tensor]


def status(address, path, body=None, headers=None):
    """The status and the body of an answer."""
    request = urllib.request.Request(address + path, body, headers or {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_tritons_client_finds_the_server_and_the_model_ready(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("huge")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert client.get_model_metadata("tiny")["outputs"][0]["shape"] == [-1, CLASSES]


@pytest.mark.parametrize("binary", [True, False])
def test_tritons_client_gets_the_models_logits(binary, client, tiny):
    images = some_images(5)
    outputs = [triton.InferRequestedOutput("logits", binary_data=binary)]
    found = client.infer("tiny", asked(images, binary), outputs=outputs, request_id="7")
    np.testing.assert_allclose(found.as_numpy("logits"), tiny.logits(images), atol=1e-4)
    assert found.get_response()["id"] == "7"
    pixels = np.random.default_rng(0).integers(0, 256, (3, SIZE, SIZE, 3), dtype=np.uint8)
    found = client.infer("tiny", asked(pixels, binary), model_version="1").as_numpy("logits")
    np.testing.assert_allclose(found, tiny.logits((pixels.astype(np.float32) - 127.5) / 127.5), atol=1e-4)


def test_a_request_may_have_more_images_than_a_batch(client, tiny):
    found = client.infer("tiny", asked(some_images(100))).as_numpy("logits")
    np.testing.assert_allclose(found, tiny.logits(some_images(100)), atol=1e-4)


def test_many_clients_at_once_each_get_their_own_answer(address, tiny):
    def ask(seed):
        with triton.InferenceServerClient(address.removeprefix("http://")) as client:
            images = some_images(1 + seed % 5, seed=seed)
            return np.abs(client.infer("tiny", asked(images)).as_numpy("logits") - tiny.logits(images)).max()

    with ThreadPoolExecutor(8) as pool:
        assert max(pool.map(ask, range(60))) < 1e-4


def test_wrong_images_and_models_are_refused_in_the_protocols_words(client, address):
    for images in (some_images(2)[:, :4], np.full((1, SIZE, SIZE, 3), np.nan, np.float32)):
        with pytest.raises(InferenceServerException, match="remedy"):
            client.infer("tiny", asked(images))
    with pytest.raises(InferenceServerException, match="There is no model 'huge'"):
        client.infer("huge", asked(some_images(1)))
    for path, body, code in (
        ("/v2/models/tiny/infer", b"{", 400),
        ("/v2/models/tiny/infer", b"", 400),
        ("/v2/models/tiny/infer", None, 405),
        ("/v2/models/tiny/versions/2", None, 404),
        ("/../../etc/passwd", None, 404),
    ):
        found, answer = status(address, path, body)
        assert found == code
        assert json.loads(answer)["error"]


def test_more_images_than_the_queue_holds_are_refused_as_unavailable(client):
    with pytest.raises(InferenceServerException, match="keeps 200 at most"):
        client.infer("tiny", asked(some_images(300)))


def test_a_body_over_the_limit_is_refused_while_it_arrives(address):
    host, port = address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        size = MAX_BODY_BYTES * 1000
        connection.sendall(b"POST /v2/models/tiny/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
        block, sent = bytes(1 << 20), 0
        with contextlib.suppress(ConnectionError):
            while sent <= MAX_BODY_BYTES + (8 << 20):
                connection.sendall(block)
                sent += len(block)
        assert b" 413 " in connection.recv(1000)
    assert status(address, "/v2/health/ready")[0] == 200


def test_the_metrics_are_served_as_text(address, client):
    client.infer("tiny", asked(some_images(1)))
    code, text = status(address, "/metrics")
    assert code == 200
    assert b"# TYPE workbench_request_seconds histogram" in text
    assert b'workbench_requests_total{outcome="answered"}' in text


def test_it_goes_on_when_the_engine_is_killed_and_ends_cleanly_when_it_is_told_to(packed, tmp_path, tiny):
    registry = Registry(tmp_path / "registry")
    registry.promote(registry.add(packed))
    with served(registry.path) as (process, address):
        service = psutil.Process(process.pid)
        (engine,) = service.children()
        with triton.InferenceServerClient(address.removeprefix("http://")) as client:
            engine.kill()
            found = client.infer("tiny", asked(some_images(3))).as_numpy("logits")
            np.testing.assert_allclose(found, tiny.logits(some_images(3)), atol=1e-4)
            assert client.is_server_ready()
        assert b"workbench_fallbacks_total 1.0" in status(address, "/metrics")[1]
        until(lambda: b"workbench_engine_active 1.0" in status(address, "/metrics")[1])
        (engine,) = service.children()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
        assert process.stderr.read() == ""
        until(lambda: not engine.is_running())


def test_a_port_that_is_taken_is_refused_with_the_remedy(packed):
    with socket.create_server(("127.0.0.1", 0)) as taken, deploy(packed) as service:
        port = taken.getsockname()[1]
        with pytest.raises(WorkbenchError, match=f"127.0.0.1:{port} cannot be listened at"):
            serve(service, port=port)
        with pytest.raises(WorkbenchError, match="cannot be listened at"):
            serve(service, host="192.0.2.1")
