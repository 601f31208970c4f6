import shutil

import pytest

from workbench import project_files
from workbench.project_files import copy_project, in_checkout, project_folder


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """The folder in which a wheel holds the project's files, with a notebook and a file of data."""
    folder = tmp_path / "project"
    for name in ("notebooks/00.ipynb", "notebooks/.ipynb_checkpoints/old.ipynb", "data/checkpoints/a.npz"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    monkeypatch.setattr(project_files, "INSTALLED", folder)
    return folder


def test_a_checkout_uses_its_own_notebooks_and_data():
    assert in_checkout()
    assert (project_folder() / "notebooks" / "00_start_here.ipynb").is_file()
    assert (project_folder() / "data" / "checkpoints" / "shapes-vit.npz").is_file()


def test_an_installed_workbench_uses_those_inside_it(installed):
    assert not in_checkout()
    assert project_folder() == installed


def test_a_copy_holds_every_file_and_keeps_what_its_owner_changed(installed, tmp_path):
    folder = copy_project(tmp_path / "mine")
    assert sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()) == [
        "data/checkpoints/a.npz",
        "notebooks/00.ipynb",
    ]
    (folder / "notebooks" / "00.ipynb").write_text("changed")
    shutil.rmtree(folder / "data")
    copy_project(folder)
    assert (folder / "notebooks" / "00.ipynb").read_text() == "changed"
    assert (folder / "data" / "checkpoints" / "a.npz").is_file()
