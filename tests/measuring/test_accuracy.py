import numpy as np
import pytest

from workbench.errors import Cancelled, WorkbenchError
from workbench.measuring.accuracy import label_ranks, predict

LOGITS = np.array(
    [
        [9, 8, 7, 6, 5, 4, 3],  # classes 0 to 4 lead
        [3, 4, 5, 6, 7, 8, 9],  # 6, 5, 4, 3, 2 lead
        [0, 0, 0, 0, 0, 0, 0],  # all equal: the lower class stands first
    ],
    np.float32,
)


def test_the_rank_of_a_label_counts_the_classes_before_it():
    assert label_ranks(LOGITS, np.array([0, 1, 0])).tolist() == [0, 5, 0]
    assert label_ranks(LOGITS, np.array([5, 6, 4])).tolist() == [5, 0, 4]


def test_a_label_has_rank_zero_exactly_where_argmax_chooses_it():
    logits = np.random.default_rng(0).integers(0, 3, size=(200, 7)).astype(np.float32)  # full of ties
    for label in range(7):
        ranked_first = label_ranks(logits, np.full(200, label)) == 0
        np.testing.assert_array_equal(ranked_first, logits.argmax(axis=1) == label)


def numbered(count):
    """Images whose first number is their place, and a model that answers with the row of LOGITS at it."""
    images = np.zeros((count, 2, 2, 3), np.float32)
    images[:, 0, 0, 0] = np.arange(count) % len(LOGITS)
    return images


def row_of(images):
    return LOGITS[images[:, 0, 0, 0].astype(int)]


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 7, 8, 100])
def test_every_image_is_judged_once_whatever_the_batch(batch):
    labels = np.array([0, 1, 4, 4, 2, 6, 5])
    found = predict(row_of, numbered(7), labels, batch=batch)
    assert found.classes.tolist() == [0, 6, 0, 0, 6, 0, 0]
    assert found.top5_hits == 4  # labels 0, 4, 4, 2: 1 and 5 stand sixth, 6 stands seventh among equals


def test_a_last_short_batch_is_padded_for_a_model_that_takes_no_fewer():
    seen = []

    def of_four(images):
        seen.append(len(images))
        return row_of(images)

    found = predict(of_four, numbered(7), np.zeros(7, int), batch=4, at_least=4)
    assert seen == [4, 4]
    assert found.classes.tolist() == [0, 6, 0, 0, 6, 0, 0]
    assert found.top5_hits == 5  # images 1 and 4 have class 0 last; padding is not counted


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_an_error_that_names_the_image(bad):
    def breaks_at_five(images):
        logits = row_of(images).copy()
        logits[images[:, 0, 0, 1] == 5, 3] = bad
        return logits

    images = numbered(9)
    images[:, 0, 0, 1] = np.arange(9)
    with pytest.raises(WorkbenchError, match="image 5 ") as caught:
        predict(breaks_at_five, images, batch=4)
    assert "FP16" in caught.value.remedy


def test_labels_beyond_the_classes_are_found_where_the_model_alone_knows_their_number():
    with pytest.raises(WorkbenchError, match="7 classes"):
        predict(row_of, numbered(3), np.array([0, 1, 7]), batch=2)


def test_progress_counts_images_and_can_cancel():
    told = []
    predict(row_of, numbered(5), batch=2, progress=lambda *call: told.append(call))
    assert told == [("accuracy", n, 5) for n in (0, 2, 4, 5)]

    def cancel(stage, done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        predict(row_of, numbered(5), batch=2, progress=cancel)
