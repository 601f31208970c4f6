from pathlib import Path

import nbformat
import pytest

from workbench.tutorial import notebook_parameters, run_notebook

ROOT = Path(__file__).parents[2] / "notebooks"
MEGABYTES = 8


@pytest.fixture
def run(shared_workspace, tmp_path):
    """Run a notebook and look at the executed copy: it is small, and no cell complained.

    Returns what it recorded.
    """

    def run(notebook, /, **parameters):
        path, out = ROOT / f"{notebook}.ipynb", tmp_path / "out.ipynb"
        shared = {"workspace": str(shared_workspace)} if "workspace" in notebook_parameters(path) else {}
        found = run_notebook(path, out, shared | parameters)
        assert out.stat().st_size < MEGABYTES * 2**20
        outputs = [o for cell in nbformat.read(out, as_version=4).cells for o in cell.get("outputs", ())]
        assert [o.text for o in outputs if o.get("name") == "stderr"] == []
        return found

    return run
