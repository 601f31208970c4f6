"""Every command and all code of the READMEs and of the guide to one's own model, executed in their order."""

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.docs.readme import README, ROOT, code, commands

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]
#: What the commands that last are waited for with: the words that they start with -> the address that must answer.
SERVERS = {("workbench", "lab"): "/api", ("workbench", "serve"): "/v2/health/ready"}
QUICK = "-p images 160 -p seconds 0.3"
#: A study of the README's file takes minutes; its grid stays, its sample is smaller.
FEWER = {"count = 1500": "count = 200", "# seconds = 2.0 ": "seconds = 0.2 "}
TRAINING = {"--images": "640", "--epochs": "1", "--batch": "32", "--out": "trained.npz"}


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of the project, with a virtual environment that is ready and is this Python's."""
    root = tmp_path_factory.mktemp("project")
    for name in ("workbench", "notebooks", "docs", "tests", "benchmarks", "README.md", "LICENSE", "Makefile"):
        (root / name).symlink_to(ROOT / name)
    for name in ("pyproject.toml", "requirements.lock"):
        (root / name).write_bytes((ROOT / name).read_bytes())
    data = root / "data"
    data.mkdir()
    (data / "checkpoints").symlink_to(ROOT / "data" / "checkpoints")
    text = (ROOT / "data" / "study.toml").read_text()
    for given, fewer in FEWER.items():
        assert given in text
        text = text.replace(given, fewer)
    (data / "study.toml").write_text(text)
    write_programs(root / ".venv" / "bin")
    time.sleep(0.01)
    (root / ".venv" / ".ready").touch()
    return root


def write_programs(folder: Path) -> None:
    """The programs of a virtual environment, all of them this Python; pip only says what it would install."""
    folder.mkdir(parents=True)
    here = shlex.quote(sys.executable)
    # pytest ends with 5 where none of its tests has the markers that were asked for
    some = f"{here} -m pytest -p no:cacheprovider tests/test_places.py"
    quick = f'[ "$1" = tutorial ] && exec {here} -m workbench "$@" {QUICK}'
    programs = {
        "python": f'[ "$2" = workbench ] && shift 2 && exec workbench "$@"\nexec {here} "$@"',
        "workbench": f'{quick}\nexec {here} -m workbench "$@"',
        "quick-pytest": f'{some} "$@"\nstatus=$?\n[ $status = 5 ] || exit $status',
        "pip": f'exec {here} -m pip "$@" --dry-run --no-deps --quiet',
    }
    for name, line in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)


@pytest.fixture(scope="module")
def environment(project) -> dict[str, str]:
    """The shell's variables: ``make test`` calls a pytest of one file, for this test is within it."""
    paths = os.pathsep.join([str(project / ".venv" / "bin"), os.environ["PATH"]])
    given = {"PATH": paths, "PYTHONPATH": str(project), "MAKEFLAGS": "e", "PYTEST": "quick-pytest"}
    return os.environ | given | {"JUPYTER_CONFIG_DIR": str(project / "jupyter"), "BROWSER": "true"}


def test_the_readmes_code_runs(project, environment):
    done = subprocess.run(
        [sys.executable, "-c", code(README)], cwd=project, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "[]" in done.stdout.splitlines()  # the bundle is sound


@pytest.mark.parametrize("words", commands(README), ids=" ".join)
def test_a_command_of_the_readme_runs(words, project, environment):
    """In the README's order: later commands use what earlier ones and the code made."""
    for begin, address in SERVERS.items():
        if tuple(words[:2]) == begin:
            serves(words, address, project, environment)
            return
    line = " ".join(words)  # globs are the shell's
    done = subprocess.run(line, shell=True, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]


def serves(words: list[str], address: str, project: Path, environment: dict[str, str]) -> None:
    """A command that lasts answers at an address, and ends when it is asked to."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    if "--port" in words:
        words = [*words[: words.index("--port")], "--port", str(port)]
    else:
        words = [
            *words,
            str(project),
            "--",
            "--no-browser",
            "--allow-root",
            "--port",
            str(port),
            "--IdentityProvider.token=",
        ]
    process = subprocess.Popen(words, cwd=project, env=environment, start_new_session=True)
    try:
        answered_within(240, f"http://127.0.0.1:{port}{address}", process)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def answered_within(seconds: float, url: str, process: subprocess.Popen) -> None:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit and process.poll() is None:
        try:
            assert urllib.request.urlopen(url, timeout=2).status == 200
            return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(f"{url} does not answer")


def test_the_training_command_of_the_readme_runs(project, environment):
    [line] = re.findall(r"^    (python -m workbench\.models\.training .*)$", README.read_text(), re.M)
    words = shlex.split(line)[1:]
    for option, value in TRAINING.items():
        words[words.index(option) + 1] = value
    done = subprocess.run([sys.executable, *words], cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (project / "trained.npz").is_file()


def test_the_guide_to_ones_own_model_runs(project, environment, tmp_path):
    """With the shipped checkpoint, and generated images in a folder for each class, in the order of the logits."""
    from PIL import Image

    import workbench as wb

    shapes = wb.images("shapes", split="training", count=1600)
    for index, (pixels, label) in enumerate(zip(shapes.pixels, shapes.labels)):
        folder = tmp_path / "my-images" / f"{label:02d} {shapes.classes[label]}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{index:04d}.png")
    (tmp_path / "my-vit.npz").symlink_to(ROOT / "data" / "checkpoints" / "shapes-vit.npz")
    guide = code(ROOT / "docs" / "own_model.md")
    done = subprocess.run(
        [sys.executable, "-c", guide], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
