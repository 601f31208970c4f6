"""Who may import whom: the house rules of the design, read off the source, and what an import really brings in."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

import workbench

PACKAGE = Path(workbench.__file__).parent
NOT_GROUND = ("__init__", "__main__", "tutorial")
GROUND = ("records", *sorted(file.stem for file in PACKAGE.glob("*.py") if file.stem not in NOT_GROUND))
LIGHT = (*GROUND, "datasets", "backends", "measuring", "remote")  # the doctor visits hosts
LEAVES = ("ui", "cli")
#: What the light half may import beside the standard library: NumPy, and a runtime or Pillow where needed.
LIGHT_NEEDS = ("numpy", "PIL", "onnxruntime", "tensorrt", "tensorrt_rtx", "pycuda")
#: What the contract asks of the light half all the same: ``wb.fusion`` and ``wb.predict_fusion`` give data frames.
FRAMES = {("backends.fusion", "pandas")}
JAX = ("jax", "jaxlib", "flax", "optax")
ONNX = ("onnx", "onnx_ir", "onnxscript", "onnxslim", "jax2onnx")
WIDGETS = ("ipywidgets", "anywidget", "IPython", "netron")


class Import(NamedTuple):
    """One name that a module imports, and whether it does so when it is imported itself."""

    importer: str
    name: str
    at_once: bool

    @property
    def top(self) -> str:
        return self.name.split(".")[0]

    @property
    def inside(self) -> str | None:
        """The part of the workbench that is imported: ``backends`` of ``workbench.backends.base``."""
        parts = self.name.split(".")
        return parts[1] if parts[0] == "workbench" and len(parts) > 1 else None


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(file: Path) -> list[Import]:
    found, name = [], module_name(file)
    package = ["workbench", *name.split(".")] if name else ["workbench"]
    package = package if file.name == "__init__.py" else package[:-1]

    def visit(node, at_once):
        if isinstance(node, ast.Import):
            found.extend(Import(name, alias.name, at_once) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*package[: len(package) - node.level + 1], *filter(None, [node.module])])
            base = base if node.level else node.module
            found.extend(Import(name, f"{base}.{alias.name}", at_once) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            return
        deferred = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for child in ast.iter_child_nodes(node):
            visit(child, at_once and not deferred)

    visit(ast.parse(file.read_text()), True)
    return found


FILES = sorted(PACKAGE.rglob("*.py"))
IMPORTS = [found for file in FILES for found in imports_of(file)]
FOREIGN = [i for i in IMPORTS if i.top not in sys.stdlib_module_names and i.top != "workbench"]


def part_of(module: str) -> str:
    return module.split(".")[0]


def told(imports) -> list[str]:
    """Offending imports as lines that say where to look."""
    return sorted({f"workbench.{i.importer} imports {i.name}" for i in imports})


def test_the_reader_of_imports_sees_them_all(tmp_path, monkeypatch):
    file = tmp_path / "backends" / "sample.py"
    file.parent.mkdir()
    file.write_text(
        "import json, numpy as np\nfrom . import base\nfrom ..errors import refuse\nfrom .. import records\n"
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import jax\n"
        "def f():\n    import pandas\n    return lambda: __import__\nclass C:\n    import PIL.Image\n"
    )
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path)
    found = {(i.name, i.at_once) for i in imports_of(file)}
    assert found == {
        ("json", True),
        ("numpy", True),
        ("workbench.backends.base", True),
        ("workbench.errors.refuse", True),
        ("workbench.records", True),
        ("typing.TYPE_CHECKING", True),
        ("pandas", False),
        ("PIL.Image", True),
    }


def test_every_part_of_the_workbench_was_read():
    assert {part_of(module_name(file)) for file in FILES} >= {
        *LIGHT,
        *LEAVES,
        "models",
        "graphs",
        "studies",
        "reporting",
    }


def test_the_ground_floor_imports_only_the_standard_library():
    assert told(i for i in FOREIGN if part_of(i.importer) in GROUND) == []
    below = {
        "lazy": (),
        "errors": (),
        "places": (),
        "progress": (),
        "code_version": (),
        "records": ("errors",),
        "ledger": ("errors",),
        "files": ("errors",),
        "digests": ("records",),
    }
    below["workspace"] = ("errors", "records", "ledger", "code_version", "digests", "files")
    ours = [i for i in IMPORTS if part_of(i.importer) in GROUND and i.top == "workbench"]
    assert told(i for i in ours if i.inside not in (part_of(i.importer), *below[part_of(i.importer)])) == []


def test_the_light_half_imports_only_itself_numpy_and_one_runtime():
    light = [i for i in IMPORTS if part_of(i.importer) in LIGHT]
    assert told(i for i in light if i.top == "workbench" and i.inside and i.inside not in LIGHT) == []
    foreign = [i for i in FOREIGN if part_of(i.importer) in LIGHT and (i.importer, i.top) not in FRAMES]
    assert told(i for i in foreign if i.top not in LIGHT_NEEDS) == []
    assert told(i for i in FOREIGN if (i.importer, i.top) in FRAMES and i.at_once) == []


def test_runtimes_and_pandas_are_imported_by_what_needs_them_and_not_by_its_neighbours():
    done = [i for i in FOREIGN if part_of(i.importer) in LIGHT and i.at_once]
    packages = {module_name(file) for file in FILES if file.name == "__init__.py"}
    assert told(i for i in done if i.top != "numpy" and i.importer in packages) == []


def test_jax_is_imported_by_models_and_by_the_export_alone():
    jax = [i for i in FOREIGN if i.top in JAX]
    assert told(i for i in jax if part_of(i.importer) != "models" and i.importer != "graphs.export") == []


def test_onnx_is_imported_by_graphs_alone():
    assert told(i for i in FOREIGN if i.top in ONNX and part_of(i.importer) != "graphs") == []


def test_widgets_are_imported_by_the_interface_alone():
    assert told(i for i in FOREIGN if i.top in WIDGETS and part_of(i.importer) != "ui") == []


def test_nobody_imports_the_interface_or_the_shell():
    inwards = [i for i in IMPORTS if i.inside in LEAVES]
    entry = {"__main__"}  # python -m workbench
    assert told(i for i in inwards if part_of(i.importer) not in {i.inside, *entry}) == []


# ---- what an import really brings in --------------------------------------------------------------------------


def modules_after(code: str) -> set[str]:
    """The top names in ``sys.modules`` of a fresh interpreter that has run this code, but for its own start."""
    said = "import json; print(json.dumps([*set(sys.modules) - before]))"
    command = [sys.executable, "-c", f"import sys; before = set(sys.modules)\n{code}\n{said}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=PACKAGE.parent, timeout=60, check=True)
    return {name.split(".")[0] for name in json.loads(done.stdout)} - {"workbench"}


def outside_the_library(names) -> set[str]:
    return {name for name in names if name not in sys.stdlib_module_names and not name.startswith("_")}


def test_importing_the_workbench_imports_nothing_else():
    assert outside_the_library(modules_after("import workbench")) == set()


def test_the_ground_floor_runs_on_the_standard_library():
    code = "; ".join(f"import workbench.{name}" for name in GROUND)
    assert outside_the_library(modules_after(code)) == set()


@pytest.mark.parametrize("name", ["datasets", "backends", "measuring", "remote.worker"])
def test_the_light_half_brings_in_numpy_alone(name):
    found = outside_the_library(modules_after(f"import workbench.{name}"))
    assert found <= {"numpy", "mkl"}, found


@pytest.mark.parametrize("name", ["graphs", "models", "performance", "studies", "reporting", "ui", "cli"])
def test_importing_a_package_brings_in_no_heavy_library(name):
    heavy = {*JAX, *ONNX, *WIDGETS, "pandas", "plotly", "onnxruntime", "tensorrt_rtx", "torch"}
    assert modules_after(f"import workbench.{name}") & heavy == set()


# ---- the table of public names --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", workbench.__all__)
def test_every_public_name_is_where_the_table_says(name):
    value = getattr(workbench, name)
    assert callable(value)
    assert value.__doc__
    assert value.__name__ == name
    assert not isinstance(value, type(workbench))


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'meassure'"):
        _ = workbench.meassure


def test_public_names_are_listed_and_found_without_importing_their_homes():
    assert set(workbench.__all__) <= set(dir(workbench))
    assert "measure" in dir(importlib.import_module("workbench"))
