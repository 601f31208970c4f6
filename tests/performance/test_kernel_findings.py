"""What is wrong with a built engine, on kernels that have the hazard and on some that do not."""

from __future__ import annotations

import dataclasses

import pytest

from tests.backends.hardware import traces
from tests.performance.engines import B32, BATCH, engine_of_86
from workbench.backends.hardware.kernels import Kernel
from workbench.performance.kernel_findings import engine_findings, find_in_kernels
from workbench.performance.kernel_places import place_kernels
from workbench.records import Recipe


def found(kernels, recipe):
    return find_in_kernels(place_kernels(kernels, B32, BATCH), recipe)


def renamed(kernels, **names):
    """The kernels with other names: ``I8_WIDE="TF32"``."""
    new = {getattr(traces, old): getattr(traces, name) for old, name in names.items()}
    return [kernel._replace(name=new.get(kernel.name, kernel.name)) for kernel in kernels]


def test_int8_that_multiplies_in_tf32_is_counted_over_the_linear_layers():
    kernels = renamed(traces.int8_attention_apart(12), I8_WIDE="TF32")
    types, _ = [row for row in found(kernels, Recipe("int8")) if row.severity == "warning"]
    assert types.hazard == "asked for INT8, multiplies in TF32: 24 of 48 products"
    assert types.where == "block00 to block11 (12): qkv, fc1"
    assert "sm80_xmma_gemm_f32f32_tf32f32" in types.help
    assert "guess" not in types.help


def test_attention_in_three_kernels_is_found_with_its_types_and_its_share():
    kernels = traces.int8_attention_apart(12)
    (row,) = [row for row in found(kernels, Recipe("int8")) if row.severity == "warning"]
    share = 12 * (10.1 + 7.8 + 10.1) * 1e-6 / sum(kernel.seconds for kernel in kernels)
    assert row.hazard == "attention in three kernels, not one"
    assert row.help.startswith(f"its products compute in FP32 and take {share:.0%} of the time")


@pytest.mark.parametrize("recipe", [Recipe("fp16"), Recipe("fp16", exclude=("block03/fc1",))])
def test_an_engine_that_does_what_was_asked_has_no_warnings(recipe):
    assert [row for row in found(traces.fp16_fused(12), recipe) if row.severity != "note"] == []


def test_excluded_places_may_have_another_type():
    kernels = traces.int8_attention_apart(12)
    index = [i for i, kernel in enumerate(kernels) if kernel.name == traces.I8_TALL][5]
    kernels[index] = Kernel(traces.F16_SUM32, 15e-6)
    hazards = [row.hazard for row in found(kernels, Recipe("int8"))]
    assert "asked for INT8, multiplies in FP16: 1 of 48 products" in hazards
    assert not [
        row for row in found(kernels, Recipe("int8", exclude=("block05/fc2",))) if "asked for" in row.hazard
    ]


def test_tf32_for_float32_is_a_note():
    kernels = renamed(traces.fp16_fused(12), F16_WIDE="TF32", F16_SUM32="TF32")
    (row,) = [row for row in found(kernels, Recipe()) if "asked for" in row.hazard]
    assert (row.severity, row.hazard) == ("note", "asked for FP32, multiplies in TF32: 48 of 48 products")


def test_copies_are_a_note_where_they_take_a_tenth_of_the_time():
    kernels, spec = traces.int8_attention_apart(4), dataclasses.replace(B32, depth=4)
    rows = find_in_kernels(place_kernels(kernels, spec, BATCH), Recipe("int8"))
    (row,) = [row for row in rows if "copy" in row.hazard]
    share = (15.8 + 26.7 + 8.9 + 8.1 + 4 * 12.7) * 1e-6 / sum(kernel.seconds for kernel in kernels)
    assert row.hazard == f"8 kernels that only copy or repack take {share:.0%} of the time"
    assert row.where == "embedding; block00 to block03 (4): split"
    slow = [kernel._replace(seconds=1.0) if kernel.is_product else kernel for kernel in traces.fp16_fused(12)]
    assert [row for row in found(slow, Recipe("fp16")) if "copy" in row.hazard] == []


def test_places_that_do_not_match_are_said_to_be_a_guess():
    rows = found(renamed(traces.int8_attention_apart(11), I8_WIDE="TF32"), Recipe("int8"))
    assert [row for row in rows if row.severity == "warning"]
    assert all("guess" in row.help for row in rows if row.severity == "warning")


def test_the_table_of_an_engine_has_a_row_per_hazard(tmp_path):
    frame = engine_findings(engine_of_86(tmp_path, Recipe("int8"), traces.int8_attention_apart(12)))
    assert list(frame.columns) == ["hazard", "severity", "where", "mitigation", "help"]
    assert "attention in three kernels, not one" in set(frame.hazard)
    clean = engine_findings(engine_of_86(tmp_path / "clean", Recipe("fp16"), traces.fp16_fused(12)))
    assert not set(clean.severity) & {"warning", "error"}
