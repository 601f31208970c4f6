"""The wheel, used as somebody has it who has no checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from workbench import __version__

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder], cwd=ROOT, check=True)
    [path] = folder.glob("*.whl")
    return path


@pytest.fixture
def installed(wheel, tmp_path):
    """Runs a command of the wheel, unpacked as pip would, in an empty folder, with this Python's other packages."""
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    elsewhere.mkdir()

    def run(*words, **variables):
        environment = os.environ | {"PYTHONPATH": str(site)} | variables
        command = [sys.executable, "-m", "workbench", *words]
        return subprocess.run(command, cwd=elsewhere, env=environment, capture_output=True, text=True)

    return run


def test_the_wheel_holds_every_notebook_and_file_of_data_and_no_tests(wheel):
    assert wheel.name.startswith(f"vit_workbench-{__version__}-")
    names = set(zipfile.ZipFile(wheel).namelist())
    committed = subprocess.run(["git", "ls-files", "notebooks", "data"], cwd=ROOT, capture_output=True, text=True)
    files = committed.stdout.split() if shutil.which("git") and committed.stdout else []
    files += [path.relative_to(ROOT).as_posix() for path in ROOT.glob("notebooks/*.ipynb")]
    assert {f"workbench/project/{name}" for name in files} <= names
    assert "workbench/backends/hardware/cards.json" in names
    assert "workbench/cli/labconfig/default_setting_overrides.json" in names
    assert not [name for name in names if name.startswith("tests/") or ".ipynb_checkpoints" in name]


def test_outside_a_checkout_lab_copies_the_notebooks_and_jupyterlab_finds_them(installed, tmp_path):
    done = installed("lab", "mine", "--", "--version")  # JupyterLab prints its version and ends
    assert done.returncode == 0, done.stderr
    assert "The notebooks are in" in done.stdout
    mine = tmp_path / "elsewhere" / "mine"
    assert len(list(mine.glob("notebooks/*.ipynb"))) == len(list(ROOT.glob("notebooks/*.ipynb")))
    assert (mine / "data" / "checkpoints" / "shapes-vit.npz").is_file()


@pytest.mark.slow
def test_outside_a_checkout_the_tutorial_runs_and_writes_its_report(installed, tmp_path):
    done = installed("tutorial", "-p", "images", "160", "-p", "seconds", "0.3")
    assert done.returncode == 0, done.stderr
    runs = tmp_path / "elsewhere" / "runs" / "tutorial"
    assert (runs / "report.html").is_file()
    assert not list((tmp_path / "site").rglob("workspace"))
