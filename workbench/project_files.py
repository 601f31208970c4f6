"""The notebooks and the data that come with the workbench: beside the package, or inside it in a wheel."""

from __future__ import annotations

import shutil
from pathlib import Path

#: Where a wheel holds what a checkout has at its root (``force-include`` in pyproject.toml).
INSTALLED = Path(__file__).parent / "project"
FOLDERS = ("notebooks", "data")


def in_checkout() -> bool:
    """Whether the package is used from a checkout and not from a wheel."""
    return not INSTALLED.is_dir()


def project_folder() -> Path:
    """The folder in which ``notebooks/`` and ``data/`` lie side by side."""
    return Path(__file__).parents[1] if in_checkout() else INSTALLED


def copy_project(folder) -> Path:
    """Copy the notebooks and the data into a folder that a person may change; files that are there are kept.

    Args:
        folder: made when it does not exist.

    Returns:
        The folder, absolute.
    """
    folder = Path(folder).absolute()
    for name in FOLDERS:
        for source in sorted((project_folder() / name).rglob("*")):
            target = folder / name / source.relative_to(project_folder() / name)
            if source.is_file() and ".ipynb_checkpoints" not in source.parts and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
    return folder
