"""One drawn ViT and its calibration images for all tests of rewrites."""

import numpy as np
import pytest

from tests.graphs.drawn import TINY, draw


@pytest.fixture(scope="session")
def drawn(tmp_path_factory):
    """A random ViT of three blocks at opset 20."""
    return draw(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="session")
def drawn17(tmp_path_factory):
    """The same ViT at opset 17, where the GELU is spelled out."""
    return draw(tmp_path_factory.mktemp("drawn"), opset=17)


@pytest.fixture(scope="session")
def pictures():
    """24 normalised images, (24, 16, 16, 3) float32, no two alike in brightness."""
    rng = np.random.default_rng(0)
    light = rng.uniform(-0.6, 0.6, (24, 1, 1, 1))
    noise = rng.uniform(-0.4, 0.4, (24, TINY.image_size, TINY.image_size, 3))
    return (light + noise).astype(np.float32)


@pytest.fixture(scope="session")
def shelf(tmp_path_factory):
    """A workspace that all tests of a session share, so that the same variant is made once."""
    return tmp_path_factory.mktemp("shelf")
