import os
import signal
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tests.deployment.bundles import tiny_engine
from tests.deployment.test_fallback import until
from tests.tiny import Tiny, some_images, variant_of
from workbench.backends import build_engine
from workbench.deployment.bundle import export_bundle
from workbench.deployment.canary import Limits, Seen, deploy_canary
from workbench.deployment.fallback import Watch
from workbench.deployment.registry import REJECT, Registry
from workbench.errors import WorkbenchError
from workbench.records import Batches


@pytest.fixture(scope="module")
def versions(tmp_path_factory, packed):
    """A registry whose current version is the tiny classifier; its twin, and one with other weights."""
    folder = tmp_path_factory.mktemp("versions")
    registry = Registry(folder / "registry")
    registry.promote(registry.add(packed))
    (folder / "twin").mkdir()
    twin = tiny_engine(folder / "twin", batches=Batches(1, 4, 16))
    (folder / "other").mkdir()
    variant = variant_of(Tiny.of(seed=1).graph(folder / "other"))
    other = build_engine(variant, "onnxruntime", folder / "other/w")
    bundles = [
        export_bundle(engine, folder / name, images=some_images(20))
        for engine, name in ((twin, "bundle"), (other, "stranger"))
    ]
    return registry, *map(registry.add, bundles)


def test_a_twin_gets_its_share_agrees_and_is_promoted(versions, tiny):
    registry, twin, _ = versions
    before = registry.current
    with deploy_canary(registry, twin[:12], Limits(share=0.25)) as service:
        for seed in range(40):
            found = service.predict(some_images(2, seed=seed))
            np.testing.assert_allclose(found, tiny.logits(some_images(2, seed=seed)), atol=1e-4)
        until(lambda: service.seen.requests == 10)
        assert service.seen == Seen(images=20, agreed=20, requests=10)
        assert (service.running, service.reason) == (True, "")
        assert service.metrics()["workbench_canary_agreed_images"] == 20
        assert b"workbench_canary_running 1.0" in service.metrics_text()
        service.promote()
    assert registry.current == twin
    registry.rollback()
    assert registry.current == before


def test_a_version_of_another_opinion_is_taken_back_and_no_request_is_lost(versions):
    registry, _, stranger = versions
    before = registry.current
    with deploy_canary(registry, stranger, Limits(share=0.5)) as service:
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda seed: service.predict(some_images(3, seed=seed)), range(100)))
        assert all(answer.shape == (3, 7) for answer in answers)
        until(lambda: not service.running)
        assert "another top class" in service.rejected
        asked = service.seen.requests
        tiny = Tiny.of()
        for seed in range(10):  # the version before answers everything now
            found = service.predict(some_images(3, seed=seed))
            np.testing.assert_allclose(found, tiny.logits(some_images(3, seed=seed)), atol=1e-4)
        assert service.seen.requests - asked <= 4  # those that were compared while it was taken back
        assert service.metrics()["workbench_canary_running"] == 0
        with pytest.raises(WorkbenchError, match="another top class"):
            service.promote()
    event = registry.history()[-1]
    assert (event.action, event.version) == (REJECT, stranger)
    assert "another top class" in event.reason
    assert registry.current == before


def test_a_version_that_is_too_slow_is_taken_back(versions):
    registry, twin, _ = versions
    with deploy_canary(registry, twin, Limits(share=1.0, latency_s=1e-9)) as service:
        for _ in range(20):
            for answer in service.submit(some_images(2)):
                assert answer.result(timeout=60).shape == (2, 7)
        until(lambda: not service.running)
        assert "took over 1e-09 s" in service.rejected


def test_a_version_whose_engine_dies_is_taken_back(versions, tiny):
    registry, twin, _ = versions
    with deploy_canary(registry, twin, Limits(share=1.0), watch=Watch(pause_s=3600)) as service:
        os.kill(service._new.pid, signal.SIGKILL)
        np.testing.assert_allclose(service.predict(some_images(2)), tiny.logits(some_images(2)), atol=1e-4)
        until(lambda: not service.running)
        assert "its engine does not serve" in service.reason
        assert service.active == "engine"


def test_images_that_fit_no_version_are_refused(versions):
    registry, twin, _ = versions
    with deploy_canary(registry, twin, Limits(share=1.0)) as service:
        with pytest.raises(WorkbenchError):
            service.predict(some_images(2)[:, :-1])
        assert service.running


def test_one_disagreement_or_one_slow_request_exceeds_no_limit():
    limits = Limits(agreement=0.9, latency_s=1.0)
    assert Seen().excess(limits) == ""
    assert Seen(images=1, agreed=0, requests=1, slow=1).excess(limits) == ""
    assert Seen(images=20, agreed=14, requests=20, slow=0).excess(limits) == ""  # 0.70: up to 0.91
    assert Seen(images=20, agreed=10).excess(limits)  # 0.50: up to 0.80
    assert Seen(requests=1000, slow=20).excess(limits) == ""  # 2 %: from 0.98 %
    assert Seen(requests=1000, slow=30).excess(limits)  # 3 %: from 1.67 %


def test_a_version_that_answers_other_requests_is_no_canary(versions, tmp_path):
    registry, *_ = versions
    engine = tiny_engine(tmp_path, layout="NCHW")
    version = registry.add(export_bundle(engine, tmp_path / "bundle", images=some_images(4)))
    with pytest.raises(WorkbenchError, match="other requests"):
        deploy_canary(registry, version)
    with pytest.raises(WorkbenchError, match="no version"):
        deploy_canary(registry, "ffff")


@pytest.mark.parametrize("limits", [{"share": 0}, {"agreement": 1.1}, {"latency_s": -1}, {"share": None}])
def test_limits_that_make_no_sense_are_refused(limits):
    with pytest.raises(WorkbenchError, match="limits"):
        Limits(**limits)
