import math

import numpy as np
import pytest

from tests.tiny import some_images
from workbench.deployment.drift import SAMPLED, DriftMonitor, Reference, population_stability
from workbench.errors import WorkbenchError


@pytest.fixture(scope="module")
def reference(tiny):
    images = some_images(500)
    return Reference.of(images, tiny.logits(images))


def seen(reference, tiny, images):
    monitor = DriftMonitor(reference)
    for start in range(0, len(images), SAMPLED):
        part = images[start : start + SAMPLED]
        monitor.add(part, tiny.logits(part))
    return monitor


def test_the_stability_index_is_that_of_a_hand_count():
    # shares with half a count added: 10.5/21 twice, and 15.5/21 and 5.5/21
    expected = (15.5 / 21 - 0.5) * math.log(15.5 / 10.5) + (5.5 / 21 - 0.5) * math.log(5.5 / 10.5)
    assert population_stability([10, 10], [15, 5]) == pytest.approx(expected)
    assert population_stability([3, 0, 7], [3, 0, 7]) == 0
    assert math.isfinite(population_stability([100, 0], [0, 100]))


def test_a_uniform_softmax_has_the_confidence_of_one_class(tiny):
    reference = Reference.of(some_images(2), np.zeros((2, 4), np.float32))
    assert reference.confidence == pytest.approx(0.25)
    huge = Reference.of(some_images(1), np.array([[1e30, -1e30]], np.float32))
    assert huge.confidence == 1


def test_other_images_of_the_same_kind_are_no_drift(reference, tiny):
    monitor = seen(reference, tiny, some_images(500, seed=9))
    assert monitor.input_shift() < 0.2
    assert monitor.class_shift() < 0.1
    assert abs(monitor.confidence_shift()) < 0.05


def test_brighter_images_are_seen_in_the_inputs_and_in_the_classes(reference, tiny):
    monitor = seen(reference, tiny, some_images(500, seed=9) + 1)
    assert monitor.input_shift() > 3
    assert monitor.class_shift() > 0.25


def test_the_oldest_images_are_forgotten(reference, tiny):
    monitor = DriftMonitor(reference, window=40)
    for image in some_images(40) + 5:
        monitor.add(image[None], tiny.logits(image[None]))
    assert monitor.input_shift() > 3
    for image in some_images(40):
        monitor.add(image[None], tiny.logits(image[None]))
    assert monitor.input_shift() < 1


def test_a_few_images_say_nothing(reference, tiny):
    monitor = seen(reference, tiny, some_images(20))
    assert all(map(math.isnan, (monitor.input_shift(), monitor.class_shift(), monitor.confidence_shift())))


@pytest.mark.parametrize(
    "change",
    [{"channel_means": (0.0, 1.0)}, {"class_counts": (1, -1)}, {"class_counts": (0.5,)}, {"confidence": "x"},
     {"channel_spreads": (0.0, 0.0, math.nan)}],
)  # fmt: skip
def test_a_reference_that_is_none_is_refused(change):
    values = dict(
        images=1, channel_means=(0.0,) * 3, channel_spreads=(1.0,) * 3, class_counts=(1, 0), confidence=0.5
    )
    Reference(**values)
    with pytest.raises(WorkbenchError):
        Reference(**values | change)
