"""Estimates for cards that are not at hand, against throughputs that were measured elsewhere."""

from __future__ import annotations

import pytest

from workbench.errors import WorkbenchError
from workbench.models.vit import model_spec
from workbench.performance.expected import ARTICLE, EVIDENCE, expected, published_roof

B32 = model_spec("B/32")


def test_the_limit_at_large_batches_is_the_products_at_the_peak():
    # 4.41 GMAC are 8.82 GFLOP; 65 TFLOP/s do that 7,370 times a second
    assert expected(B32, "T4", "fp16", 128).limit_images_per_second == pytest.approx(65e12 / 8.82e9, rel=0.005)
    assert expected(B32, "T4", "fp16", 128).bound == "arithmetic"


def test_the_limit_of_a_single_image_is_reading_the_weights():
    alone = expected(B32, "H100", "fp16", 1)
    assert alone.bound == "memory"
    assert alone.limit_s == pytest.approx(88.2e6 * 2 / 3350e9, rel=0.01)
    assert any("batch 32" in note for note in alone.notes)


def test_weights_that_fit_a_cache_may_be_read_faster_and_a_note_says_how_fast():
    small, large = expected(model_spec("Ti/16"), "RTX 4090", "fp16", 1), expected(B32, "RTX 4090", "fp16", 1)
    assert small.bound == large.bound == "memory"
    assert "cache" in small.notes[-1]
    assert "131,732 img/s" in small.notes[-1]  # 330.3 TFLOP/s over 2 · 1.25368 GMAC
    assert not any("cache" in note for note in large.notes)


@pytest.mark.parametrize("row", EVIDENCE, ids=lambda row: f"{row.card} {row.model} {row.precision} {row.batch}")
def test_what_was_measured_is_below_the_limit_and_inside_the_likely_range(row):
    estimate = expected(model_spec(row.model), row.card, row.precision, row.batch)
    low, high = estimate.likely_images_per_second
    assert row.images_per_second < estimate.limit_images_per_second
    assert low * 0.999 <= row.images_per_second <= high * 1.001


@pytest.mark.parametrize(
    ("model", "batch", "precision", "images_per_second"),
    [  # measured on an H200 too, and not among the evidence: TensorRT 8.6 in INT8 throughout, JAX in half
        ("B/32", 32, "int8", 26_583),
        ("B/32", 32, "fp16", 20_273),
        ("B/32", 32, "bf16", 20_056),
    ],
)
def test_throughputs_that_are_no_evidence_come_within_a_fifth_of_the_range(
    model, batch, precision, images_per_second
):
    estimate = expected(model_spec(model), "H200", precision, batch)
    low, high = estimate.likely_images_per_second
    assert 0.8 * low <= images_per_second <= 1.2 * high


def test_the_articles_table_is_about_a_hundredth_of_what_a_t4_can_do():
    shares = {name: expected(B32, "T4", name, 32).share_of_limit(speed) for name, speed in ARTICLE.items()}
    assert shares["fp32"] == pytest.approx(0.0134, abs=0.0005)
    assert shares["fp16"] == pytest.approx(0.0042, abs=0.0002)
    assert shares["int8"] < 0.004
    for name, speed in ARTICLE.items():
        assert speed < expected(B32, "T4", name, 32).likely_images_per_second[0] / 10


def test_an_estimate_says_that_it_is_one():
    assert str(expected(B32, "L4", "fp8", 32)).startswith("Estimate: ViT-B/32 in fp8 on L4, batch 32")
    assert any("fp8" in note for note in expected(B32, "L4", "fp8", 32).notes)


@pytest.mark.parametrize(
    ("card", "precision", "word"),
    [("A10", "fp16", "No published peak"), ("V100", "bf16", "no published peak"), ("T4", "int4", "int4")],
)
def test_what_cannot_be_estimated_is_refused(card, precision, word):
    with pytest.raises(WorkbenchError, match=word):
        expected(B32, card, precision)


def test_a_published_roof_is_marked_as_such():
    roof = published_roof("NVIDIA L4", "int8")
    assert (roof.label, roof.measured, roof.peak_flops) == ("L4 int8", False, 242.5e12)
