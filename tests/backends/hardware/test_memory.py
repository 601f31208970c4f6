import os

import numpy as np
import pytest

from workbench.backends.hardware import memory
from workbench.backends.hardware.memory import MemoryMeter

MEBIBYTES = 1 << 20


@pytest.mark.skipif(
    not os.path.exists("/proc/self/clear_refs"), reason="only Linux keeps a peak that can be restarted"
)
def test_the_meter_remembers_a_peak_that_is_gone_and_not_one_from_before():
    np.ones(256 * MEBIBYTES, np.uint8)
    meter = MemoryMeter()
    assert meter.peak() < 100 * MEBIBYTES
    np.ones(128 * MEBIBYTES, np.uint8)
    assert 120 * MEBIBYTES < meter.peak() < 300 * MEBIBYTES


def test_a_meter_that_may_not_restart_the_peak_gives_what_is_held_now(monkeypatch):
    def forbidden(self, text):
        raise PermissionError

    monkeypatch.setattr(memory.Path, "write_text", forbidden)
    meter = MemoryMeter()
    held = np.ones(64 * MEBIBYTES, np.uint8)
    assert 60 * MEBIBYTES < meter.peak() < 120 * MEBIBYTES
    del held
    assert meter.peak() < 60 * MEBIBYTES
