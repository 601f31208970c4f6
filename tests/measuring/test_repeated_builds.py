"""Builds of one variant, and how far what they measure lies apart."""

from __future__ import annotations

import dataclasses
import math

import pytest

from tests.tiny import CLASSES, Tiny, some_images, variant_of
from workbench.errors import WorkbenchError
from workbench.measuring.repeated_builds import RepeatedBuilds, repeat_builds
from workbench.records import Batches


@pytest.fixture(scope="module")
def repeated(tmp_path_factory):
    folder, tiny = tmp_path_factory.mktemp("builds"), Tiny.of()
    images = some_images(9)
    labels = tiny.logits(images).argmax(axis=1)
    labels[0] = (labels[0] + 1) % CLASSES
    return repeat_builds(
        variant_of(tiny.graph(folder)),
        "onnxruntime",
        folder / "workspace",
        builds=3,
        batches=Batches(1, 3, 4),
        images=images,
        labels=labels,
        seconds=0.05,
    )


def test_every_build_is_an_engine_of_its_own_and_a_row(repeated):
    rows = repeated.rows()
    assert len({row["run_id"] for row in rows}) == len({engine.path for engine in repeated.engines}) == 3
    assert all(row["build_s"] > 0 and row["p50_ms"] > 0 and row["compute_ms"] is None for row in rows)
    assert {row["top1"] for row in rows} == {8 / 9}
    assert repeated.same_answers == 1
    assert all(found.batch == 3 for found in repeated.measurements)


def test_the_spread_is_that_of_the_builds_and_stands_in_the_sentence(repeated):
    timed = [
        dataclasses.replace(found, latencies_s=(milliseconds * 1e-3,))
        for found, milliseconds in zip(repeated.measurements, (2.0, 2.5, 2.2))
    ]
    chosen = timed[1].predictions
    changed = tuple((c + 1) % CLASSES for c in chosen[:3])
    other = dataclasses.replace(timed[1], predictions=(*changed, *chosen[3:]))
    apart = RepeatedBuilds(repeated.engines, (timed[0], other, timed[2]))
    assert apart.spread("p50_ms") == pytest.approx((2.0, 2.5))
    assert all(map(math.isnan, apart.spread("compute_ms")))
    assert apart.same_answers == pytest.approx(6 / 9)
    text = str(apart)
    assert "3 builds of onnxruntime fp32 at batch 3: a median call takes 2 to 2.5 ms, a spread of 25.0%" in text
    assert "same class on 66.7% of 9 images" in text


@pytest.mark.parametrize("builds", [1, 0, 2.5])
def test_one_build_shows_no_spread(builds, tmp_path):
    with pytest.raises(WorkbenchError, match="no spread"):
        repeat_builds(variant_of(Tiny.of().graph(tmp_path)), "onnxruntime", tmp_path, builds=builds)
