import sys
from pathlib import Path

import pytest

from tests.download_server import server

__all__ = ["server"]

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def _hooks(monkeypatch):
    """mkdocs imports the hooks by their files; here they are modules."""
    for folder in ("hooks", "pictures"):
        monkeypatch.syspath_prepend(ROOT / "docs" / folder)
    yield
    for name in ("notebooks", "troubleshooting", "reference", "make", "gpu_table"):
        sys.modules.pop(name, None)
