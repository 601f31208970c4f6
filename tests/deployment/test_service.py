import contextlib
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.deployment.bundles import tiny_engine
from tests.deployment.test_fallback import until
from tests.tiny import CLASSES, SIZE, Tiny, some_images
from workbench.deployment.batching import Closed, QueueFull
from workbench.deployment.bundle import export_bundle
from workbench.deployment.fallback import ENGINE, ORIGINAL, Watch
from workbench.deployment.fault_injection import change_manifest, replace_file
from workbench.deployment.manifest import bundle_digest
from workbench.deployment.service import deploy
from workbench.errors import WorkbenchError


@pytest.fixture(scope="module")
def service(packed):
    with deploy(packed, streams=2, trust=bundle_digest(packed)) as service:
        yield service


def test_the_engine_answers_any_number_of_images(service, tiny):
    assert (service.active, service.reason) == (ENGINE, "")
    for count in (1, 7, 8, 9, 100):
        found = service.predict(some_images(count))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, tiny.logits(some_images(count)), atol=1e-4)


def test_pixels_are_normalised(service, tiny):
    pixels = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), dtype=np.uint8)
    expected = tiny.logits((pixels.astype(np.float32) - 127.5) / 127.5)
    np.testing.assert_allclose(service.predict(pixels), expected, atol=1e-4)


def test_each_of_many_threads_gets_its_own_answers(service, tiny):
    def ask(index):
        images = some_images(1 + index % 11, seed=index)
        return np.abs(service.predict(images) - tiny.logits(images)).max()

    with ThreadPoolExecutor(16) as pool:
        assert max(pool.map(ask, range(300))) < 1e-4


@pytest.mark.parametrize(
    "images",
    [None, "images", [[1, 2]], np.zeros((2, SIZE, SIZE, 3), np.float64), np.zeros((2, SIZE, SIZE), np.float32),
     np.zeros((2, SIZE + 1, SIZE, 3), np.uint8), np.zeros((0, SIZE, SIZE, 3), np.uint8),
     np.full((2, SIZE, SIZE, 3), np.inf, np.float32), np.zeros((2, SIZE, SIZE, 3), object)],
)  # fmt: skip
def test_images_that_do_not_fit_are_refused_and_the_service_goes_on(images, service):
    with pytest.raises(WorkbenchError):
        service.predict(images)
    assert service.predict(some_images(1)).shape == (1, CLASSES)
    assert service.active == ENGINE


@pytest.mark.parametrize("graph", [{"batch": 4}, {"layout": "NCHW"}])
def test_static_batches_and_channels_first_are_served(graph, tmp_path, tiny):
    folder = export_bundle(tiny_engine(tmp_path, **graph), tmp_path / "bundle", images=some_images(6))
    with deploy(folder, watch=Watch(pause_s=3600)) as service:
        for expected in (ENGINE, ORIGINAL):
            assert service.active == expected
            for count in (1, 3, 9):
                found = service.predict(some_images(count))
                np.testing.assert_allclose(found, tiny.logits(some_images(count)), atol=1e-4)
            if service.pid:
                os.kill(service.pid, signal.SIGKILL)
                service.predict(some_images(1))


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_no_request_is_lost_when_the_engines_process_is_killed_under_load(kills, packed, tiny):
    stop, asked, wrong = threading.Event(), [0] * 4, []

    def ask(thread):
        while not stop.is_set():
            images = some_images(1 + asked[thread] % 13, seed=100 * thread + asked[thread])
            try:
                error = np.abs(service.predict(images) - tiny.logits(images)).max()
                if not error < 1e-3:
                    wrong.append(error)
            except Exception as failure:
                wrong.append(failure)
            asked[thread] += 1

    with deploy(packed, streams=2, watch=Watch(pause_s=0.01)) as service:
        threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for _ in range(kills):
            before = sum(asked)
            until(lambda: service.active == ENGINE and sum(asked) > before + 8)  # noqa: B023 -- called at once
            with contextlib.suppress(ProcessLookupError):
                os.kill(service.pid, signal.SIGKILL)
            until(lambda: service.active == ORIGINAL)
        stop.set()
        for thread in threads:
            thread.join()
        values = service.metrics()
    assert wrong == []
    assert values["workbench_fallbacks_total"] == kills
    assert values['workbench_requests_total{outcome="answered"}'] == sum(asked)
    assert values['workbench_images_total{model="original"}'] > 0
    assert values['workbench_images_total{model="engine"}'] > 0


def test_a_hanging_engine_is_given_up_and_the_request_answered(packed, tiny):
    with deploy(packed, watch=Watch(limit_s=0.3, pause_s=3600)) as service:
        os.kill(service.pid, signal.SIGSTOP)
        found = service.predict(some_images(2))
        np.testing.assert_allclose(found, tiny.logits(some_images(2)), atol=1e-4)
        assert (service.active, "hangs" in service.reason) == (ORIGINAL, True)


def flip_a_bit(bundle):
    content = bytearray((bundle / "engine/model.onnx").read_bytes())
    content[100] ^= 1
    (bundle / "engine/model.onnx").write_bytes(content)


def claim_tensorrt(bundle):
    change_manifest(bundle, lambda values: values["engine"].update(backend="tensorrt"))


def swap_engine(bundle):
    replace_file(bundle, "engine/model.onnx", Tiny.of(seed=1).model().SerializeToString())


def truncate_engine(bundle):
    replace_file(bundle, "engine/model.onnx", (bundle / "engine/model.onnx").read_bytes()[:5000])


def add_a_file(bundle):
    (bundle / "engine/extra.so").write_bytes(b"code")


@pytest.mark.parametrize(
    ("damage", "word"),
    [(flip_a_bit, "other bytes"), (claim_tensorrt, "cannot run here"), (swap_engine, "golden images"),
     (truncate_engine, "does not load"), (add_a_file, "not listed")],
)  # fmt: skip
def test_where_only_the_engine_is_unfit_the_original_serves_and_says_why(damage, word, bundle, tiny):
    damage(bundle)
    with deploy(bundle, trust=bundle_digest(bundle)) as service:
        found = service.predict(some_images(3))
        np.testing.assert_allclose(found, tiny.logits(some_images(3)), atol=1e-4)
        assert service.active == ORIGINAL
        assert word in service.reason
        assert service.metrics()["workbench_fallbacks_total"] == 1


def test_a_bundle_without_a_sound_original_or_trust_is_not_served(bundle):
    trusted = bundle_digest(bundle)
    (bundle / "README.md").write_text("changed")
    with pytest.raises(WorkbenchError, match="README"):
        deploy(bundle)
    replace_file(bundle, "README.md", b"changed")
    with pytest.raises(WorkbenchError, match="trusted"):
        deploy(bundle, trust=trusted)
    replace_file(bundle, "original/model.onnx", Tiny.of(seed=1).model().SerializeToString())
    with pytest.raises(WorkbenchError, match="nothing to fall back to"):
        deploy(bundle)


def test_a_full_queue_refuses_and_what_it_took_is_answered(packed, tiny):
    with deploy(packed, queue=8, delay_s=0.5) as service:
        taken = [service.submit(some_images(3, seed=i)) for i in range(2)]
        with pytest.raises(QueueFull):
            service.submit(some_images(3))
        with pytest.raises(QueueFull):
            service.predict(some_images(3))
        for seed, (answer,) in enumerate(taken):
            np.testing.assert_allclose(answer.result(timeout=60), tiny.logits(some_images(3, seed=seed)), atol=1e-4)
        assert len(service.predict(some_images(100))) == 100  # a long call waits for its own parts
        assert service.metrics()['workbench_requests_total{outcome="refused"}'] == 1


def test_ten_thousand_requests_at_once_are_answered_or_refused(packed, tiny):
    with deploy(packed, queue=1000) as service:
        images, refused, answers = some_images(1), 0, []
        for _ in range(10_000):
            try:
                answers += service.submit(images)
            except QueueFull:
                refused += 1
        expected = tiny.logits(images)
        assert all(np.allclose(answer.result(timeout=60), expected, atol=1e-4) for answer in answers)
        assert len(answers) + refused == 10_000
        assert len(answers) >= 1000


def test_closing_answers_what_waits_and_then_refuses(packed, tiny):
    service = deploy(packed, delay_s=60)
    (answer,) = service.submit(some_images(2))
    service.close()
    np.testing.assert_allclose(answer.result(timeout=0), tiny.logits(some_images(2)), atol=1e-4)
    with pytest.raises(Closed):
        service.predict(some_images(1))
    service.close()


@pytest.mark.parametrize(
    "settings", [{"streams": 0}, {"batch": 33}, {"batch": 0}, {"queue": "many"}, {"delay_s": -1}, {"streams": 1.5}]
)
def test_settings_that_make_no_sense_are_refused(settings, packed):
    with pytest.raises(WorkbenchError):
        deploy(packed, **settings)
