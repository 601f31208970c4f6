import os

import pytest


@pytest.fixture(scope="session")
def shared_workspace(tmp_path_factory):
    """One workspace for all tests of notebooks, in a browser or not: the second finds what the first made.

    The workers of pytest-xdist share it too.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "workspace"
    folder.mkdir(exist_ok=True)
    return folder
