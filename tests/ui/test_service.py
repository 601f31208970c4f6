import os
import signal

import pytest

from tests.deployment.bundles import tiny_engine
from tests.tiny import some_images
from workbench.deployment.bundle import export_bundle
from workbench.deployment.fallback import Watch
from workbench.deployment.service import deploy
from workbench.deployment.traffic import Traffic
from workbench.ui import service_panel


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    bundle = export_bundle(tiny_engine(folder), folder / "bundle", images=some_images(40))
    with deploy(bundle, watch=Watch(pause_s=3600)) as service:
        yield service


def test_it_reads_back_its_traffic_and_shows_what_happened(service, control):
    panel = service_panel(service, some_images(8), Traffic(3, 2, 0.6))
    assert panel.value == Traffic(3, 2, 0.6)
    frame = panel.result()
    assert frame.answered.sum() > 0 == frame.failed.sum()
    (shown,) = control(panel, "timeline").outputs
    assert f"{frame.answered.sum():,} requests answered" in shown["data"]["text/plain"]
    assert "The engine answers" in control(panel, "state").value
    assert "drift of inputs" in control(panel, "state").value


def test_it_says_why_the_original_answers(service, control):
    os.kill(service.pid, signal.SIGKILL)
    panel = service_panel(service, some_images(8), Traffic(1, 1, 0.3))
    panel.result()
    assert "The original answers" in control(panel, "state").value
    assert "SIGKILL" in control(panel, "state").value
