import subprocess
import sys

import numpy as np
import pytest

import workbench as wb
from workbench.datasets import shapes
from workbench.models import tree
from workbench.models.sizes import SIZES, TUTORIAL

#: Ti/16 and B/32: vit_jax's README; the others as torchvision and timm publish them for the same architecture.
PARAMETERS = {
    "Ti/16": 5_717_416,
    "S/16": 22_050_664,
    "S/32": 22_878_952,
    "B/32": 88_224_232,
    "B/16": 86_567_656,
    "B/8": 86_576_872,
    "L/32": 306_535_400,
    "L/16": 304_326_632,
    "H/14": 632_045_800,
    # by hand: patches 192·192 + 192, cls 192, positions 145·192, six blocks of 12·192² + 13·192, LN 384,
    # head 192·16 + 16
    "tutorial": 37_056 + 192 + 27_840 + 6 * 444_864 + 384 + 3_088,
}


def test_every_size_has_the_published_number_of_parameters():
    assert set(PARAMETERS) == set(SIZES)
    for size, parameters in PARAMETERS.items():
        shapes_of = tree.parameter_shapes(wb.model_spec(size))
        assert sum(int(np.prod(shape)) for shape in shapes_of.values()) == parameters, size


def test_the_size_table_gives_a_spec_for_any_resolution_and_head():
    spec = wb.model_spec("ViT-B_16", image_size=384, classes=10, classifier="gap", representation=768)
    assert (spec.name, spec.patch, spec.tokens, spec.classes) == ("ViT-B/16", 16, 24 * 24, 10)
    assert spec.representation == 768
    assert (TUTORIAL.classes, TUTORIAL.image_size) == (len(shapes.CLASSES), shapes.SIZE)


def test_a_size_by_name_needs_no_jax():
    code = "import sys, workbench; workbench.model_spec('B/16'); sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_an_unknown_size_or_an_image_that_the_patch_does_not_divide_is_refused():
    with pytest.raises(wb.WorkbenchError, match=r"(?s)B/33.*B/32"):
        wb.model_spec("B/33")
    with pytest.raises(wb.WorkbenchError, match="patches"):
        wb.model_spec("B/16", image_size=225)
