"""The files that make an environment ask for the same things."""

import re
from pathlib import Path

import tomllib
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
#: What only conda brings: the interpreter, pip itself, and the CUDA parts that the gpu extra asks PyPI for.
CONDA_ONLY = {"python", "pip", "pycuda", "cuda-version"}


def required(*groups: str) -> dict[str, Requirement]:
    lines = [*PROJECT["dependencies"], *(line for g in groups for line in PROJECT["optional-dependencies"][g])]
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def pinned() -> dict[str, list[Requirement]]:
    text = (ROOT / "requirements.lock").read_text().replace("\\\n", " ")
    lines = [re.sub(r"\s--hash=\S+", "", line).strip() for line in text.splitlines()]
    pins: dict[str, list[Requirement]] = {}
    for line in lines:
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            pins.setdefault(canonicalize_name(requirement.name), []).append(requirement)
    return pins


def conda() -> dict[str, Requirement]:
    dependencies = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    lines = [d for d in dependencies if isinstance(d, str)] + next(
        d["pip"] for d in dependencies if isinstance(d, dict)
    )
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


def test_the_lock_pins_every_dependency_to_a_version_it_accepts_with_hashes_and_no_addresses():
    for name, requirement in required("dev").items():
        versions = [Version(next(iter(pin.specifier)).version) for pin in pinned()[name]]
        assert all(requirement.specifier.contains(v, prereleases=True) for v in versions), name
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    assert text.count("--hash=sha256:") >= sum(map(len, pinned().values()))


def test_conda_and_pip_users_ask_for_the_same_things():
    ours, theirs = required("dev"), conda()
    assert set(theirs) - CONDA_ONLY == set(ours)
    ours["pycuda"] = required("gpu")["pycuda"]
    assert {name: theirs[name].specifier for name in ours} == {name: r.specifier for name, r in ours.items()}


def test_a_commit_is_checked_by_the_same_tools_as_make_lint():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    revisions = {hook["repo"].rsplit("/", 1)[1].removesuffix("-pre-commit"): hook["rev"] for hook in hooks}
    for name, revision in revisions.items():
        assert str(pinned()[name][0].specifier) == f"=={revision.removeprefix('v')}"


def test_make_help_explains_every_public_target():
    text = (ROOT / "Makefile").read_text()
    phony = next(line for line in text.splitlines() if line.startswith(".PHONY")).split()[1:]
    explained = re.findall(r"^([a-z-]+):.*## ", text, flags=re.M)
    assert sorted(phony) == sorted(explained)


def test_the_version_is_one_everywhere_and_has_an_entry_in_the_changes():
    from workbench import __version__

    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    heading = re.search(r"^## (\S+) – (\S+)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert heading
    assert (citation["version"], str(citation["date-released"])) == (__version__, heading[2])
    assert heading[1] == __version__
    assert PROJECT["dynamic"] == ["version"]
