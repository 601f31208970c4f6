"""What every finite data set promises, asked of each kind that is read."""

import numpy as np
import pytest

import workbench as wb
from tests.datasets.written import EVALUATION, KINDS, LABELS, PIXELS
from workbench.datasets import cifar10
from workbench.datasets.loading import open_source
from workbench.datasets.splits import SPLITS
from workbench.errors import WorkbenchError


@pytest.fixture(params=KINDS)
def kind(request, tmp_path):
    """Writes images in a kind of data set, and the names that their classes have there."""
    write, classes = KINDS[request.param]
    return lambda pixels=PIXELS, labels=LABELS: write(tmp_path / "set", pixels, labels), tuple(classes)


def _every_split(path) -> dict[str, wb.ImageSet]:
    splits = open_source(path).splits
    return {s: wb.images(path, s, int((splits == number).sum()), size=32) for s, number in SPLITS.items()}


def test_every_image_is_in_exactly_one_split_as_it_was_written(kind):
    write, classes = kind
    sets = _every_split(write())
    found = [(image.tobytes(), label) for one in sets.values() for image, label in zip(one.pixels, one.labels)]
    assert len(found) == 120
    assert dict(found) == {image.tobytes(): label for image, label in zip(PIXELS, LABELS)}
    assert {one.classes for one in sets.values()} == {classes}
    assert min(map(len, sets.values())) > 0
    if classes == cifar10.CLASSES:  # the published test batch, and nothing else
        assert {i.tobytes() for i in sets["evaluation"].pixels} == {i.tobytes() for i in PIXELS[-EVALUATION:]}


def test_copies_of_an_image_are_in_one_split(kind):
    write, _ = kind
    sets = _every_split(write(np.concatenate([PIXELS, PIXELS]), np.concatenate([LABELS, LABELS])))
    different = [{image.tobytes() for image in one.pixels} for one in sets.values()]
    assert sum(map(len, sets.values())) == 240
    assert sum(map(len, different)) == len(set.union(*different)) == 120


def test_the_order_is_the_same_each_time_and_another_with_another_seed(kind):
    path = kind[0]()
    first, again, other = (wb.images(path, "training", 20, seed=seed, size=32) for seed in (0, 0, 1))
    assert first.digest == again.digest != other.digest
    assert wb.images(path, "training", 5, size=32).pixels.tobytes() == first.pixels[:5].tobytes()
    assert len(set(first.labels)) > 1
    assert len(set(wb.images(path, "training", 2, size=32, variant="one-class").labels)) == 1


def test_a_count_beyond_the_images_is_refused_with_their_number(kind):
    path = kind[0]()
    available = int((open_source(path).splits == SPLITS["evaluation"]).sum())
    with pytest.raises(WorkbenchError, match=f"(?s)has {available} images of 120.*ask for at most {available}"):
        wb.images(path, "evaluation", 1000)


def test_labels_follow_the_models_own_list_of_classes(kind):
    write, classes = kind
    path, names = write(), ("another", *reversed(classes))
    found = wb.images(path, "training", 20, preprocessing=wb.Preprocessing(size=32, classes=names))
    own = wb.images(path, "training", 20, size=32)
    assert found.classes == names
    assert [names[i] for i in found.labels] == [own.classes[i] for i in own.labels]
    with pytest.raises(WorkbenchError, match=classes[-1]):
        wb.images(path, "training", 20, preprocessing=wb.Preprocessing(size=32, classes=classes[:-1]))


def test_size_and_digest_do_not_depend_on_the_kind(tmp_path):
    paths = [write(tmp_path / name, PIXELS, LABELS) for name, (write, _) in KINDS.items()]
    digests = [wb.images(path, "training", 30, size=32).digest for path in paths]
    assert digests[1] == digests[2]
    assert digests[3] == digests[4]
    assert [wb.images(path, count=1).pixels.shape[1] for path in paths] == [224, 32, 32, 32, 32]
    assert wb.images(paths[4], count=2, size=96).pixels.shape == (2, 96, 96, 3)


def test_a_set_can_be_taken_whole_every_image_once(kind):
    path = kind[0]()
    whole = wb.images(path, "all", None, size=32)
    assert whole.name.endswith("/all")
    assert whole.source == str(path)
    assert {i.tobytes(): n for i, n in zip(whole.pixels, whole.labels)} == {
        image.tobytes(): label for image, label in zip(PIXELS, LABELS)
    }
    assert len(whole) == 120
    split = wb.images(path, "training", None, size=32)
    assert len(split) == int((open_source(path).splits == SPLITS["training"]).sum())
    assert wb.images(path, "all", 7, size=32).pixels.tobytes() == whole.pixels[:7].tobytes()


def test_shapes_have_no_end_and_say_so():
    for split, count in (("all", 5), ("evaluation", None)):
        with pytest.raises(WorkbenchError, match="cannot be taken whole"):
            wb.images("shapes", split, count, size=32)
