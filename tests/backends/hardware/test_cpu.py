import os

import pytest

from workbench.backends.hardware import cpu
from workbench.backends.hardware.cpu import cores, environment


def pretend(monkeypatch, files, cpus):
    """A machine with these CPUs allowed, whose system files say this and nothing else."""
    monkeypatch.setattr(cpu, "_text", lambda path: files.get(path, ""))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: cpus, raising=False)


def siblings(pairs):
    path = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return {path.format(cpu): ",".join(map(str, pair)) for pair in pairs for cpu in pair}


def test_two_threads_of_one_core_count_once(monkeypatch):
    pretend(monkeypatch, siblings([(0, 4), (1, 5), (2, 6), (3, 7)]), set(range(8)))
    assert cores() == 4


def test_cores_outside_the_affinity_do_not_count(monkeypatch):
    pretend(monkeypatch, siblings([(0, 4), (1, 5), (2, 6), (3, 7)]), {0, 4, 1})
    assert cores() == 2


@pytest.mark.parametrize(("limit", "expected"), [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1)])
def test_a_containers_share_of_cpu_time_limits_the_cores(monkeypatch, limit, expected):
    pretend(monkeypatch, {"/sys/fs/cgroup/cpu.max": limit}, set(range(8)))
    assert cores() == expected


def test_a_container_without_a_limit_has_all_cores(monkeypatch):
    pretend(monkeypatch, {"/sys/fs/cgroup/cpu.max": "max 100000"}, set(range(8)))
    assert cores() == 8


def test_a_system_that_tells_nothing_still_has_an_environment(monkeypatch):
    pretend(monkeypatch, {}, {0, 1})
    found = environment()
    assert found["cores"] == 2
    assert found["cpu"]
    assert found["isa"] == ""


def test_the_environment_names_the_instruction_sets_that_decide(monkeypatch):
    flags = "flags\t\t: fpu sse2 avx2 avx512f avx512_vnni"
    pretend(monkeypatch, {"/proc/cpuinfo": f"processor : 0\nmodel name\t: A CPU\n{flags}\n"}, {0})
    assert environment()["isa"] == "avx2 avx512f avx512_vnni"
    assert environment()["cpu"] == "A CPU"
