"""The command ``workbench lab``: JupyterLab on the notebooks, with settings of the project's own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ..project_files import copy_project, in_checkout, project_folder

FIRST = "notebooks/00_start_here.ipynb"
#: Its folder ``labconfig`` holds JupyterLab's defaults here, such as that it does not ask whether to fetch news.
CONFIGURATION = Path(__file__).parent


def lab(
    folder: Path | None = None,
    /,
    *options: Annotated[str, Parameter(allow_leading_hyphen=True)],
) -> None:
    """Open JupyterLab on the notebooks.

    An installed workbench copies its notebooks and data into the folder first, and keeps what is there already.

    Args:
        folder: where to work; the checkout, or `vit-workbench` where there is none, when left out.
        options: for JupyterLab, after `--`, such as `-- --no-browser --port 8890`.
    """
    root = project_folder() if folder is None and in_checkout() else copy_project(folder or "vit-workbench")
    print(f"The notebooks are in {root / 'notebooks'}", flush=True)
    arguments = ["-m", "jupyterlab", f"--ServerApp.root_dir={root}", *options, str(root / FIRST)]
    os.execve(sys.executable, [sys.executable, *arguments], environment())


def environment() -> dict[str, str]:
    """This process's environment, with the project's settings in front of other settings of JupyterLab."""
    paths = filter(None, (str(CONFIGURATION), os.environ.get("JUPYTER_CONFIG_PATH")))
    return {**os.environ, "JUPYTER_CONFIG_PATH": os.pathsep.join(paths)}
