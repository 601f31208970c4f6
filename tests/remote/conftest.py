from __future__ import annotations

import pytest

from tests.tiny import Tiny, variant_of


@pytest.fixture
def tiny(tmp_path):
    """A model that NumPy computes as well, and its variant with external weights."""
    tiny = Tiny.of()
    return tiny, variant_of(tiny.graph(tmp_path, external=True))
