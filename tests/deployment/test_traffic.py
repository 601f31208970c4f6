import math
import os
import signal

import pytest

from tests.tiny import some_images
from workbench.deployment.fallback import ENGINE, ORIGINAL, Watch
from workbench.deployment.service import deploy
from workbench.deployment.traffic import Traffic, send_traffic
from workbench.errors import Cancelled, WorkbenchError


@pytest.fixture(scope="module")
def service(packed):
    with deploy(packed, watch=Watch(pause_s=3600)) as service:
        yield service


def test_every_answer_is_counted_once_in_the_interval_in_which_it_came(service):
    seen, before = [], service.answered(ENGINE)
    rows = send_traffic(service, some_images(5), Traffic(3, 2, 0.8), each=seen.append)
    assert seen == rows
    assert [row.end_s for row in rows] == sorted(row.end_s for row in rows)
    took = [after - before for before, after in zip([0, *(row.end_s for row in rows)], [r.end_s for r in rows])]
    images = sum(row.engine * seconds for row, seconds in zip(rows, took))
    assert images == pytest.approx(2 * sum(row.answered for row in rows), rel=1e-6)
    assert service.answered(ENGINE) - before == 2 * sum(row.answered for row in rows) > 0
    assert sum(row.failed for row in rows) == 0
    assert all(0 < row.median_ms <= row.p99_ms for row in rows if row.answered)


def test_requests_that_are_refused_are_counted_as_failed(service):
    wrong = some_images(2)[:, :-1]
    rows = send_traffic(service, wrong, Traffic(1, 1, 0.1))
    assert sum(row.failed for row in rows) > 0
    assert all(row.answered == 0 and math.isnan(row.p99_ms) for row in rows)


def test_it_stops_when_it_is_cancelled(service):
    def cancel(stage, done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        send_traffic(service, some_images(2), Traffic(seconds=3600), progress=cancel)


def test_the_rows_say_from_when_the_original_answers(packed):
    with deploy(packed, watch=Watch(pause_s=3600)) as service:
        rows = send_traffic(
            service,
            some_images(4),
            Traffic(2, 1, 1.0),
            each=lambda row: os.kill(service.pid, signal.SIGKILL) if service.pid else None,
        )
    assert rows[-1].active == ORIGINAL
    assert sum(row.original for row in rows) > 0
    assert sum(row.failed for row in rows) == 0


@pytest.mark.parametrize("settings", [{"clients": 0}, {"images": 1.5}, {"seconds": 0}, {"seconds": math.inf}])
def test_traffic_that_makes_no_sense_is_refused(settings):
    with pytest.raises(WorkbenchError, match="Traffic"):
        Traffic(**settings)
