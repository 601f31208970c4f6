import shutil

import pytest

from tests.deployment.bundles import tiny_engine
from tests.tiny import Tiny, some_images
from workbench.deployment.bundle import export_bundle


@pytest.fixture(scope="session")
def packed(tmp_path_factory):
    """A bundle of the tiny classifier, which no test may change."""
    folder = tmp_path_factory.mktemp("packed")
    return export_bundle(tiny_engine(folder), folder / "bundle", images=some_images(40))


@pytest.fixture
def bundle(packed, tmp_path):
    """A copy of the bundle for one test."""
    return shutil.copytree(packed, tmp_path / "bundle")


@pytest.fixture(scope="session")
def tiny():
    return Tiny.of()
