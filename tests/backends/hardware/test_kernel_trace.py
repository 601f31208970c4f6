"""Kernels out of what ncu prints and CUPTI records; a stand-in for ncu runs the program that it is given."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tests.backends.hardware.traces import REFORMAT, csv_of, fp16_fused, int8_attention_apart
from workbench.backends.hardware import kernel_trace
from workbench.backends.hardware.kernel_trace import (
    kernels_of_csv,
    last_call,
    trace,
    trace_by_ncu,
    tracer_missing,
)
from workbench.backends.hardware.kernels import Kernel
from workbench.errors import WorkbenchError


@pytest.mark.parametrize("unit", ["nsecond", "ns", "usecond", "us"])
def test_the_table_of_ncu_gives_every_kernel_in_order_with_its_seconds_and_grid(unit):
    expected = [Kernel(REFORMAT, 1.25e-3, (64, 2, 12)), *int8_attention_apart()]  # 1,250,000.00 ns has separators
    found = kernels_of_csv(csv_of(expected, unit))
    assert [kernel.name for kernel in found] == [kernel.name for kernel in expected]
    assert [kernel.seconds for kernel in found] == pytest.approx([kernel.seconds for kernel in expected])
    assert (found[0].grid, found[1].grid) == ((64, 2, 12), (132, 1, 1))


def test_what_ncu_printed_on_a_real_gpu_is_read_whole():
    """Four blocks of ViT-B/32 in FP16 at batch 128, TensorRT 8.6.0 on an H200."""
    printed = (Path(__file__).parents[2] / "data" / "kernels" / "ncu-8.6-fp16.csv").read_text()
    found = kernels_of_csv(printed)
    assert len(found) == sum(line.startswith('"') for line in printed.splitlines()) - 1  # one is the heading
    assert sum(kernel.is_attention for kernel in found) == 4
    assert {kernel.type for kernel in found if kernel.is_product} == {"fp16"}
    first = next(kernel for kernel in found if kernel.is_product)
    assert (first.seconds, first.grid) == (pytest.approx(44.352e-6), (66, 2, 1))
    assert 1e-3 < sum(kernel.seconds for kernel in found) < 1.5e-3


def test_other_metrics_are_skipped_and_text_without_a_table_gives_nothing():
    other = csv_of(fp16_fused()).replace("gpu__time_duration.sum", "dram__bytes_read.sum")
    assert kernels_of_csv(other) == []
    assert kernels_of_csv("==ERROR== ERR_NVGPUCTRPERM\n") == []


def test_one_call_is_told_from_the_loading_before_it_and_has_the_median_seconds():
    call, loading = fp16_fused(), [Kernel("load weights", 1.0)] * 7
    slow = [kernel._replace(seconds=3 * kernel.seconds) for kernel in call]
    found = last_call([*loading, Kernel("first call only", 1.0), *call, *slow, *call])
    assert [kernel.name for kernel in found] == [kernel.name for kernel in call]
    assert [kernel.seconds for kernel in found] == pytest.approx([2 * kernel.seconds for kernel in call])


def test_calls_that_differ_are_refused():
    with pytest.raises(WorkbenchError, match="no two equal lists"):
        last_call([Kernel(name, 1.0) for name in "abcdef"])


class Cupti:
    """Stands in for cupti-python: records arrive in two buffers when they are flushed, and are gone afterwards."""

    ActivityKind = SimpleNamespace(CONCURRENT_KERNEL=10)

    def __init__(self):
        self.enabled, self.launched = False, []

    def activity_register_callbacks(self, requested, completed):
        assert requested()[0] > 0
        self._completed = completed

    def activity_enable(self, kind):
        self.enabled = True

    def activity_disable(self, kind):
        self.enabled = False

    def activity_flush_all(self, flag):
        for records in (self.launched[1:], self.launched[:1]):
            self._completed(records)
            for record in records:
                record.name = None


def test_cupti_lists_the_kernels_of_one_call_by_their_begin(monkeypatch):
    cupti = Cupti()

    def call():
        if cupti.enabled:
            for name, start in (("late", 9000), ("early", 1000)):
                grid = {"grid_x": 4, "grid_y": 2, "grid_z": 1}
                cupti.launched.append(SimpleNamespace(name=name, start=start, end=start + 2500, **grid))
            cupti.launched.append(SimpleNamespace(name="a copy", start=0, end=9))

    monkeypatch.setattr(kernel_trace, "_has_cupti", lambda: True)
    monkeypatch.setattr(kernel_trace, "_cupti", lambda: cupti)
    found = trace(call, lambda: pytest.fail("CUPTI needs no program"))
    assert found is not None
    assert [kernel.name for kernel in found] == ["early", "late"]
    assert found[0].seconds == pytest.approx(2.5e-6)
    assert found[0].grid == (4, 2, 1)
    assert not cupti.enabled


@pytest.fixture
def ncu(tmp_path, monkeypatch):
    """Puts a stand-in on the PATH: it runs the program, then prints this; and no cupti is importable."""
    monkeypatch.setattr(kernel_trace, "_has_cupti", lambda: False)

    def put(printed: str) -> None:
        (tmp_path / "printed").write_text(printed)
        script = tmp_path / "ncu"
        script.write_text(
            f"#!{sys.executable}\n"
            "import subprocess, sys\n"
            "assert sys.argv[1:7] == '--csv --metrics gpu__time_duration.sum --clock-control none -c'.split()\n"
            "code = subprocess.call(sys.argv[8:])\n"
            f"print(open({str(tmp_path / 'printed')!r}).read())\n"
            "sys.exit(code)\n"
        )
        script.chmod(script.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", str(tmp_path))

    return put


def test_ncu_is_given_the_program_and_its_last_call_is_kept(ncu, tmp_path):
    ncu(csv_of([*3 * fp16_fused()]))
    ran = tmp_path / "ran"
    command = [sys.executable, "-c", f"import os; open({str(ran)!r}, 'w').write(os.environ['PYTHONPATH'])"]
    found = trace(lambda: pytest.fail("ncu makes the call itself"), lambda: command, tmp_path / "modules")
    assert found is not None
    assert [kernel.name for kernel in found] == [kernel.name for kernel in fp16_fused()]
    assert ran.read_text().startswith(str(tmp_path / "modules"))


@pytest.mark.parametrize(
    ("printed", "program", "reason"),
    [
        ("==ERROR== ERR_NVGPUCTRPERM - The user does not have permission", "pass", "ERR_NVGPUCTRPERM"),
        (csv_of(3 * fp16_fused()), "raise SystemExit(3)", "Disconnected"),
    ],
)
def test_a_failed_ncu_is_an_error_with_its_own_words_and_a_remedy(ncu, printed, program, reason):
    ncu(printed)
    with pytest.raises(WorkbenchError, match=reason) as error:
        trace_by_ncu([sys.executable, "-c", program])
    assert "cupti-python" in error.value.remedy


def test_without_a_tool_there_are_no_kernels_and_a_remedy(monkeypatch, tmp_path):
    monkeypatch.setattr(kernel_trace, "_has_cupti", lambda: False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert trace(lambda: None, lambda: pytest.fail("no tool, no program")) is None
    refusal = tracer_missing()
    assert refusal is not None
    assert "ncu" in refusal.remedy
