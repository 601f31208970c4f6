"""The load beside a stretch of work, from two readings of the operating system that a test writes itself."""

import math
import os
import subprocess
import sys
import time

import pytest

from workbench.backends.hardware import load
from workbench.backends.hardware.load import BUSY, Load, watched

TICK = os.sysconf("SC_CLK_TCK")


class Machine:
    """Two cores whose counters stand where a test puts them, in seconds."""

    def __init__(self):
        self.busy, self.idle, self.stolen, self.own, self.mhz = 100.0, 50.0, 1.0, 10.0, 3000.0

    def text(self, path):
        if path == "/proc/stat":
            user, idle, stolen = (round(TICK * seconds) for seconds in (self.busy, self.idle, self.stolen))
            return f"cpu  {user} 0 0 {idle} 0 0 0 {stolen} 0 0\ncpu0 1 0 0 1\ncpu1 1 0 0 1\nintr 5\n"
        return f"cpu MHz\t\t: {self.mhz}\ncpu MHz\t\t: {self.mhz}\n" if path == "/proc/cpuinfo" else ""


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    monkeypatch.setattr(load, "text_or_empty", lambda path: machine.text(str(path)))
    monkeypatch.setattr(load.os, "times", lambda: (machine.own, 0.0, 0.0, 0.0, 0.0))
    return machine


def test_a_quiet_machine_has_no_remarks(machine):
    with watched() as watch:  # ten seconds of two cores, one of them ours
        machine.busy, machine.own, machine.idle = machine.busy + 10, machine.own + 10, machine.idle + 10
    assert watch.load == Load(2, 0.0, 0.0, 1.0)
    assert watch.load.remarks == ()


def test_the_work_of_other_processes_is_counted_in_cores(machine):
    with watched() as watch:
        machine.busy, machine.own, machine.idle = machine.busy + 16, machine.own + 8, machine.idle + 4
    assert watch.load.others == pytest.approx(0.8)
    (remark,) = watch.load.remarks
    assert remark.startswith(BUSY)
    assert "0.8 of 2 cores" in remark


def test_time_that_a_hypervisor_took_is_noticed(machine):
    with watched() as watch:
        machine.busy, machine.own, machine.stolen = machine.busy + 9, machine.own + 9, machine.stolen + 1
    assert watch.load.stolen == pytest.approx(0.1)
    assert "hypervisor" in watch.load.remarks[0]


def test_a_falling_clock_is_noticed_and_a_rising_one_is_not(machine):
    for mhz, remarks in ((1500.0, 1), (2900.0, 0)):
        with watched() as watch:
            machine.idle, machine.mhz = machine.idle + 10, mhz
        assert len(watch.load.remarks) == remarks


def test_a_stretch_too_short_for_the_system_s_clock_says_nothing(machine):
    with watched() as watch:
        machine.busy += 0.1
    assert math.isnan(watch.load.others)
    assert watch.load.remarks == ()
    assert watch.load.facts() == {}


def test_a_system_without_counters_says_nothing(monkeypatch):
    monkeypatch.setattr(load, "text_or_empty", lambda path: "")
    with watched() as watch:
        pass
    assert watch.load.remarks == ()


@pytest.mark.skipif(not os.path.exists("/proc/stat"), reason="only Linux has /proc/stat")
def test_a_process_beside_this_one_is_seen_by_this_machine_s_own_counters():
    endless = "while True: pass"
    other = subprocess.Popen([sys.executable, "-c", endless])
    try:
        with watched() as watch:
            time.sleep(1)
    finally:
        other.kill()
        other.wait()
    assert watch.load.others > 0.2
