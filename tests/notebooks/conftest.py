import os
from pathlib import Path

import nbformat
import pytest

from workbench.tutorial import notebook_parameters, run_notebook

ROOT = Path(__file__).parents[2] / "notebooks"
MEGABYTES = 8


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    """One workspace for all notebooks: the second finds what the first made, as a user's does.

    The workers of pytest-xdist share it too.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "workspace"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def run(workspace, tmp_path):
    """Run a notebook and look at the executed copy: it is small, and no cell complained.

    Returns what it recorded.
    """

    def run(notebook, /, **parameters):
        path, out = ROOT / f"{notebook}.ipynb", tmp_path / "out.ipynb"
        shared = {"workspace": str(workspace)} if "workspace" in notebook_parameters(path) else {}
        found = run_notebook(path, out, shared | parameters)
        assert out.stat().st_size < MEGABYTES * 2**20
        outputs = [o for cell in nbformat.read(out, as_version=4).cells for o in cell.get("outputs", ())]
        assert [o.text for o in outputs if o.get("name") == "stderr"] == []
        return found

    return run
