import base64
import io

import numpy as np
import pytest
from PIL import Image

from workbench.errors import WorkbenchError
from workbench.reporting import figures


def test_every_image_is_shown_unchanged_under_its_caption():
    pixels = np.random.default_rng(0).integers(0, 256, (121, 4, 4, 3), dtype=np.uint8)  # very many rows
    figure = figures.contact_sheet(pixels, [f"image {n}" for n in range(121)], columns=2)
    drawn = [Image.open(io.BytesIO(base64.b64decode(t.source.split(",", 1)[1]))) for t in figure.data]
    np.testing.assert_array_equal(np.stack([np.asarray(image) for image in drawn]), pixels)
    assert [a.text for a in figure.layout.annotations] == [f"image {n}" for n in range(121)]


def test_a_sheet_without_a_caption_for_each_image_is_refused():
    with pytest.raises(WorkbenchError, match="2 images and 1 captions"):
        figures.contact_sheet(np.zeros((2, 8, 8, 3), np.uint8), ["one"])
