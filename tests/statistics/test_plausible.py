import pytest

from workbench.records import Measurement, Recipe
from workbench.statistics.plausible import largest_speedup


def most(precision, isa="avx2 avx512f avx512_vnni", **recipe):
    given = Recipe(precision, layout="cpu", **recipe)
    return largest_speedup(Measurement("onnxruntime", "m", given, 1, "v", (0.1,), environment={"isa": isa}))


@pytest.mark.parametrize(
    ("precision", "times"),
    [("fp32", 1), ("int8", 4), ("int8-dynamic", 4), ("w8", 4), ("w4", 8), ("wfp4", 8), ("fp16", 2)],
)
def test_a_vector_holds_as_many_more_numbers_as_they_are_narrower(precision, times):
    assert most(precision) == times


def test_tiles_of_amx_multiply_eight_times_as_many_and_fp32_has_none():
    assert most("int8", "avx512f amx_int8") == 32
    assert most("fp32", "avx512f amx_int8") == 1
