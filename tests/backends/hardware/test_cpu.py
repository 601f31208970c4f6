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


V1 = "/sys/fs/cgroup/cpu,cpuacct/docker/ab/cpu.cfs_{}_us"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # the group's own limit is larger than that of the group above it
        (
            {
                "/proc/self/cgroup": "0::/pod/box\n",
                "/sys/fs/cgroup/pod/box/cpu.max": "600000 100000\n",
                "/sys/fs/cgroup/pod/cpu.max": "200000 100000\n",
                "/sys/fs/cgroup/cpu.max": "max 100000\n",
            },
            2,
        ),
        # cgroup v1 writes quota and period into two files; -1 is no limit
        (
            {
                "/proc/self/cgroup": "5:memory:/x\n4:cpu,cpuacct:/docker/ab\n",
                V1.format("quota"): "300000\n",
                V1.format("period"): "100000\n",
            },
            3,
        ),
        (
            {
                "/proc/self/cgroup": "4:cpu,cpuacct:/docker/ab\n",
                V1.format("quota"): "-1\n",
                V1.format("period"): "100000\n",
            },
            8,
        ),
        # inside a container without a namespace the path is the host's, and only the root is mounted
        (
            {
                "/proc/self/cgroup": "4:cpu,cpuacct:/docker/ab\n",
                "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "150000",
                "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000",
            },
            2,
        ),
        ({"/proc/self/cgroup": "nonsense\n::\n4:cpu", "/sys/fs/cgroup/cpu.max": "x y"}, 8),
    ],
)
def test_limits_of_cgroup_v1_and_of_the_groups_above_count(monkeypatch, files, expected):
    pretend(monkeypatch, files, set(range(8)))
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
