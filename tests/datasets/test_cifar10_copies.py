import numpy as np
import pytest
from PIL import Image

import workbench as wb
from workbench.datasets import cifar10_copies
from workbench.datasets.cifar10 import CLASSES


@pytest.fixture
def copies(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 3), ("test", 1)):
        for label, name in enumerate(CLASSES):
            folder = tmp_path / "copies" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), np.uint8)
                pixels[0, 0] = label
                Image.fromarray(pixels).save(folder / f"{number:04d}.png")
    return tmp_path / "copies"


def test_copies_become_the_binary_version_whose_test_images_are_the_evaluation_split(copies, tmp_path):
    cifar10_copies.main([str(copies), str(tmp_path / "out")])
    evaluation = wb.images(tmp_path / "out", "evaluation", None)
    assert sorted(evaluation.labels) == list(range(10))
    assert evaluation.classes == CLASSES
    np.testing.assert_array_equal(evaluation.pixels[:, 0, 0, 0], evaluation.labels)
    found = {image.tobytes() for image in evaluation.pixels}
    assert found == {np.asarray(Image.open(file)).tobytes() for file in copies.glob("test/*/*.png")}
    assert len(wb.images(tmp_path / "out", "all", None)) == 40


def test_a_class_without_images_or_an_image_of_another_size_is_refused(copies, tmp_path):
    with pytest.raises(wb.WorkbenchError, match="no such folder"):
        cifar10_copies.write_binary_version(copies / "train", tmp_path / "out")
    Image.new("RGB", (33, 32)).save(copies / "test" / "cat" / "0001.png")
    with pytest.raises(wb.WorkbenchError, match="33 x 32"):
        cifar10_copies.write_binary_version(copies, tmp_path / "out")
