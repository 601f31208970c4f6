import pytest


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    """One workspace for all notebooks of a session: the second finds what the first made, as a user's does."""
    return tmp_path_factory.mktemp("workspace")
