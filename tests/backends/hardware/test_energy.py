import pytest

from workbench.backends.hardware import energy
from workbench.backends.hardware.energy import Rapl, cpu_joules, energy_missing


def zone(folder, name, label, microjoules, span=1000):
    path = folder / name
    path.mkdir(exist_ok=True)
    for file, text in (("name", label), ("energy_uj", microjoules), ("max_energy_range_uj", span)):
        (path / file).write_text(f"{text}\n")


@pytest.fixture
def fresh(monkeypatch):
    energy._rapl.cache_clear()
    yield monkeypatch
    energy._rapl.cache_clear()


def test_the_energy_of_all_packages_is_added_up_and_a_counter_may_start_again(tmp_path):
    zone(tmp_path, "intel-rapl:0", "package-0", 900)
    zone(tmp_path, "intel-rapl:1", "package-1", 100)
    zone(tmp_path, "intel-rapl:0:0", "core", 500)  # a part of package 0
    zone(tmp_path, "intel-rapl:2", "psys", 500)
    meter = Rapl(tmp_path)
    assert meter.joules() == 0
    zone(tmp_path, "intel-rapl:0", "package-0", 950)
    zone(tmp_path, "intel-rapl:1", "package-1", 130)
    assert meter.joules() == pytest.approx(80e-6)
    zone(tmp_path, "intel-rapl:0", "package-0", 20)  # 950 to 1000, and 20 more
    assert meter.joules() == pytest.approx(150e-6)


def test_a_machine_without_counters_has_no_energy_and_says_so(tmp_path, fresh):
    fresh.setattr(energy, "POWERCAP", tmp_path)
    fresh.setattr(Rapl.__init__, "__defaults__", (tmp_path,))
    assert cpu_joules() is None
    assert "shows no energy counters" in energy_missing().reason


def test_a_counter_that_may_not_be_read_is_absent_and_the_remedy_names_it(tmp_path, fresh):
    zone(tmp_path, "intel-rapl:0", "package-0", 900)
    fresh.setattr(energy, "POWERCAP", tmp_path)
    fresh.setattr(Rapl.__init__, "__defaults__", (tmp_path,))

    def forbidden(file):
        raise PermissionError(13, "Permission denied", str(file))

    fresh.setattr(Rapl, "_read", staticmethod(forbidden))
    assert cpu_joules() is None
    assert energy_missing().remedy == f"let root run: chmod a+r {tmp_path}/intel-rapl:0/energy_uj"


def test_a_machine_without_an_nvidia_driver_counts_no_energy_of_a_gpu(monkeypatch):
    monkeypatch.setattr(energy, "NVML", "libno-such-library.so")
    energy._nvml.cache_clear()
    assert energy.gpu_joules() is None
    assert "libno-such-library.so cannot be used" in energy.gpu_energy_missing().reason
    energy._nvml.cache_clear()
