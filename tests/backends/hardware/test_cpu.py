import os

import pytest

from workbench.backends.hardware import cpu
from workbench.backends.hardware.cpu import cores, environment


def pretend(monkeypatch, files, cpus):
    """A machine with these CPUs allowed, whose system files say this and nothing else."""
    monkeypatch.setattr(cpu, "text_or_empty", lambda path: files.get(path, ""))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: cpus, raising=False)


def siblings(pairs):
    path = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    return {path.format(cpu): ",".join(map(str, pair)) for pair in pairs for cpu in pair}


@pytest.mark.parametrize(("allowed", "expected"), [(range(8), 4), ({0, 4, 1}, 2)])
def test_two_threads_of_one_core_count_once_and_cores_outside_the_affinity_not(monkeypatch, allowed, expected):
    pretend(monkeypatch, siblings([(0, 4), (1, 5), (2, 6), (3, 7)]), set(allowed))
    assert cores() == expected


@pytest.mark.parametrize(
    ("limit", "expected"),
    [("200000 100000", 2), ("150000 100000", 2), ("50000 100000", 1), ("max 100000", 8)],
)
def test_a_containers_share_of_cpu_time_limits_the_cores(monkeypatch, limit, expected):
    pretend(monkeypatch, {"/sys/fs/cgroup/cpu.max": limit}, set(range(8)))
    assert cores() == expected


def test_the_environment_names_processor_and_instruction_sets_where_the_system_has_them(monkeypatch):
    flags = "flags\t\t: fpu sse2 avx2 avx512f avx512_vnni"
    pretend(monkeypatch, {"/proc/cpuinfo": f"processor : 0\nmodel name\t: A CPU\n{flags}\n"}, {0})
    found = environment()
    assert (found["cpu"], found["isa"]) == ("A CPU", "avx2 avx512f avx512_vnni")
    pretend(monkeypatch, {}, {0, 1})
    found = environment()
    assert (found["cores"], found["isa"]) == (2, "")
    assert found["cpu"]
