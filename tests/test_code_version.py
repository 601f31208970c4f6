"""The digest of code follows every module that shapes an artefact, however it is imported."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import workbench
from workbench.code_version import code_digest, import_closure, tool_versions

ROOT = Path(workbench.__file__).parents[1]
#: Every module that makes artefacts, found by its calls.
MAKERS = sorted(
    ".".join(file.relative_to(ROOT).with_suffix("").parts)
    for file in (ROOT / "workbench").rglob("*.py")
    if ".artefact(" in file.read_text()
)


def write_package(folder: Path, files: dict[str, str]) -> None:
    for name, source in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(source))


def run(folder: Path, code: str) -> str:
    """What code prints in a fresh interpreter that sees this folder and the workbench."""
    start = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(ROOT)!r}]\n"
    command = [sys.executable, "-c", start + textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_helper_two_imports_away_was_edited_and_the_artefact_is_made_anew(tmp_path):
    files = {
        "studio/__init__.py": "",
        "studio/maker.py": """
            from dataclasses import dataclass
            from pathlib import Path
            from .helpers import double

            @dataclass(frozen=True)
            class Note:
                path: Path

            def make(folder, key):
                (folder / "note.txt").write_text(str(double(3)))
                print("made", end=" ")
                return Note(folder / "note.txt")
        """,
        "studio/helpers.py": """
            def double(x):
                from studio.deep.factor import FACTOR
                return FACTOR * x
        """,
        "studio/deep/__init__.py": "",
        "studio/deep/factor.py": "FACTOR = 2\n",
        "studio/unrelated.py": "x = 1\n",
    }
    use = """
        from studio.maker import Note, make
        from workbench.workspace import Workspace
        print(Workspace("w").artefact("note", Note, 1, make).path.read_text())
    """
    write_package(tmp_path, files)
    assert run(tmp_path, use) == "made 6\n"
    assert run(tmp_path, use) == "6\n"
    write_package(tmp_path, {"studio/unrelated.py": "x = 2\n"})
    assert run(tmp_path, use) == "6\n"
    write_package(tmp_path, {"studio/deep/factor.py": "FACTOR = 20\n"})
    assert run(tmp_path, use) == "made 60\n"


FORMS = {
    "import studio.one": {"one"},
    "import studio.one as x, json": {"one"},
    "from studio import one": {"one"},
    "from studio.inner import two": {"inner.two"},
    "from studio.inner.two import f": {"inner.two"},
    "from studio.inner import f": {"inner", "inner.base"},
    "from . import one": {"one"},
    "from .inner import two, f": {"inner", "inner.base", "inner.two"},
    "from .inner.up import f": {"inner.up", "one"},
    "def f():\n    from . import one": {"one"},
    "class C:\n    if True:\n        from .one import f": {"one"},
    "try:\n    from .one import f\nexcept ImportError:\n    from .inner.two import f": {"one", "inner.two"},
    "match 1:\n case 1:\n  with x:\n   for y in z: pass\n   else: from . import one": {"one"},
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .one import f": {"one"},
    "import json, numpy.linalg, absent.module\nfrom absent import name": set(),
    "import studio": {""},
    "from . import __version__": {""},
    "from .maker import f": set(),
    "from .circle import f": {"circle"},
}


@pytest.mark.parametrize("statement", FORMS)
def test_every_form_of_import_is_followed(tmp_path, monkeypatch, statement):
    name = f"studio{len(list(FORMS)[: list(FORMS).index(statement)])}"  # modules are cached by name
    files = {
        "__init__.py": "__version__ = '1'\n",
        "maker.py": statement.replace("studio", name) + "\n",
        "one.py": "f = 1\n",
        "circle.py": "from . import maker\n",
        "inner/__init__.py": "from .base import f\n",
        "inner/base.py": "f = 1\n",
        "inner/two.py": "f = 1\n",
        "inner/up.py": "from ..one import f\n",
    }
    write_package(tmp_path / name, files)
    monkeypatch.syspath_prepend(tmp_path)
    found = set(import_closure(f"{name}.maker")) - {f"{name}.maker"}
    assert found == {f"{name}.{each}".rstrip(".") for each in FORMS[statement]}


def test_whatever_the_makers_of_artefacts_load_is_in_their_closures():
    code = f"import json, {', '.join(MAKERS)}; print(json.dumps([m for m in sys.modules if 'workbench' in m]))"
    loaded = set(json.loads(run(ROOT, code))) - {"workbench.lazy"}  # every import of the workbench loads it
    parents = {name for name in loaded if any(other.startswith(f"{name}.") for other in loaded)}
    assert loaded - parents <= {name for maker in MAKERS for name in import_closure(maker)}


@pytest.mark.parametrize("maker", MAKERS)
def test_the_closure_of_a_maker_of_artefacts_has_no_interface_and_no_table_of_lazy_names(maker):
    rooms = {name.split(".")[1] if "." in name else "" for name in import_closure(maker)}
    assert len(rooms) > 4
    assert rooms & {"", "ui", "cli", "reporting", "tutorial", "lazy", "remote"} == set()


def test_our_modules_are_imported_by_statements_that_can_be_read():
    """The closure cannot see a name computed at run time; only lazy tables and runtimes have one."""
    computing = {
        file.relative_to(ROOT / "workbench").as_posix()
        for file in (ROOT / "workbench").rglob("*.py")
        if "import_module(" in file.read_text() or "__import__(" in file.read_text()
    }
    assert {name for name in computing if not name.startswith("backends/")} == {"lazy.py"}  # these load runtimes


def test_finding_the_closure_imports_nothing():
    code = """
        before = {*sys.modules}
        from workbench.code_version import code_digest
        code_digest("workbench.graphs.export")
        print(sorted(m for m in {*sys.modules} - before if m.split(".")[0] in ("workbench", "jax", "numpy")))
    """
    assert run(ROOT, code) == "['workbench', 'workbench.code_version', 'workbench.lazy']\n"


def test_a_module_outside_packages_has_the_digest_of_its_file_or_else_of_its_name(tmp_path):
    use = "from workbench.code_version import code_digest; print(code_digest('script'), code_digest('__main__'))"
    write_package(tmp_path, {"script.py": "x = 1\n"})
    first, nameless = run(tmp_path, use).split()
    write_package(tmp_path, {"script.py": "x = 2\n"})
    assert run(tmp_path, use).split()[0] not in (first, nameless)
    assert code_digest("builtins") not in (nameless, code_digest("nowhere"))


def test_the_versions_of_tools_are_those_installed():
    found = tool_versions(("numpy", "a-tool-that-nobody-installs"))
    assert found["a-tool-that-nobody-installs"] == "absent"
    assert found["numpy"] == __import__("numpy").__version__
