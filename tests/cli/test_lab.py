import json
import os
import sys
from pathlib import Path

from workbench.cli import lab
from workbench.cli.commands import main
from workbench.project_files import project_folder


def started(monkeypatch, words) -> tuple[list[str], dict[str, str]]:
    """The arguments and the environment of the JupyterLab that ``workbench lab`` becomes."""
    calls = []
    monkeypatch.setattr(os, "execve", lambda *given: calls.append(given))
    assert main(["lab", *words]) == 0
    [(program, arguments, environment)] = calls
    assert program == arguments[0] == sys.executable
    return arguments[1:], environment


def test_in_a_checkout_jupyterlab_opens_its_own_notebooks(monkeypatch):
    arguments, _ = started(monkeypatch, [])
    assert arguments[:2] == ["-m", "jupyterlab"]
    assert f"--ServerApp.root_dir={project_folder()}" in arguments
    assert arguments[-1] == str(project_folder() / "notebooks" / "00_start_here.ipynb")


def test_elsewhere_it_opens_copies_and_takes_options_for_jupyterlab(monkeypatch, tmp_path):
    arguments, _ = started(monkeypatch, [str(tmp_path / "mine"), "--", "--no-browser", "--port", "8890"])
    assert f"--ServerApp.root_dir={tmp_path / 'mine'}" in arguments
    assert arguments[arguments.index("--no-browser") :][:3] == ["--no-browser", "--port", "8890"]
    assert (tmp_path / "mine" / "notebooks" / "00_start_here.ipynb").is_file()


def test_jupyterlab_reads_the_projects_settings_before_others_and_asks_for_no_news(monkeypatch):
    from jupyter_server.services.config.manager import ConfigManager

    monkeypatch.setenv("JUPYTER_CONFIG_PATH", "/elsewhere")
    path = lab.environment()["JUPYTER_CONFIG_PATH"]
    assert path == os.pathsep.join([str(lab.CONFIGURATION), "/elsewhere"])
    monkeypatch.setenv("JUPYTER_CONFIG_PATH", path)
    overrides = ConfigManager(config_dir_name="labconfig").get("default_setting_overrides")  # as jupyterlab_server
    assert overrides["@jupyterlab/apputils-extension:notification"]["fetchNews"] == "false"


def test_its_settings_are_settings_that_jupyterlab_has():
    from jupyterlab.commands import get_app_dir

    file = lab.CONFIGURATION / "labconfig" / "default_setting_overrides.json"
    for plugin, values in json.loads(file.read_text()).items():
        extension, _, name = plugin.partition(":")
        schema = json.loads((Path(get_app_dir()) / "schemas" / extension / f"{name}.json").read_text())
        assert values.keys() <= schema["properties"].keys()
