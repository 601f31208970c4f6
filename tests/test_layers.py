"""Who may import whom: the contracts in ``pyproject.toml``, and what they cannot say."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import grimp
import pytest

import workbench
from workbench.remote.protocol import light_half

ROOT = Path(workbench.__file__).parents[1]
ROOMS = sorted(folder.parent.name for folder in (ROOT / "workbench").glob("*/__init__.py"))
ENTRIES = ("__init__", "__main__", "tutorial")
GROUND = ["records", *(f.stem for f in (ROOT / "workbench").glob("*.py") if f.stem not in ENTRIES)]
#: What the light half may import beside the standard library: NumPy, and one runtime or Pillow where it is needed.
LIGHT_NEEDS = {"numpy", "PIL", "onnxruntime", "tensorrt", "tensorrt_rtx", "pycuda", "cupti"}
#: What a service needs in addition: metrics, and an ASGI stack.
SERVING = {"prometheus_client", "starlette", "uvicorn"}
HEAVY = {"jax", "flax", "onnx", "onnx_ir", "scipy", "pandas", "plotly", "onnxruntime", "torch", "IPython", "rich"}


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("workbench", include_external_packages=True, cache_dir=None)


def foreign_imports(graph, modules) -> set[str]:
    """What modules import beside the workbench and the standard library, inside functions too."""
    found = set().union(*(graph.find_modules_directly_imported_by(module) for module in modules))
    return {name for name in found if not name.startswith("workbench")} - sys.stdlib_module_names


def test_the_contracts_are_kept():
    command = [Path(sys.executable).with_name("lint-imports"), "--no-cache"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stdout


def test_the_ground_floor_imports_the_standard_library_alone(graph):
    tops = tuple(f"workbench.{name}" for name in GROUND)
    modules = [module for module in graph.modules if module.startswith(tops)]
    assert len(modules) > len(GROUND)
    assert foreign_imports(graph, modules) == set()


def test_the_light_half_imports_numpy_and_what_one_runtime_needs(graph):
    files = [name.removesuffix(".py") for name in light_half() if name.endswith(".py")]
    sent = {name.removesuffix("/__init__").replace("/", ".") for name in files}
    rooms = tuple(f"workbench.{room}." for room in ("backends", "datasets", "measuring"))
    modules = sent | {module for module in graph.modules if module.startswith(rooms)}
    assert foreign_imports(graph, modules) <= LIGHT_NEEDS


def test_a_service_imports_metrics_and_an_asgi_stack_in_addition(graph):
    modules = {module for module in graph.modules if module.startswith("workbench.deployment")}
    assert foreign_imports(graph, modules) <= LIGHT_NEEDS | SERVING
    closure = set().union(*(graph.find_upstream_modules(module) for module in modules))
    rooms = {name.split(".")[1] for name in closure if name.startswith("workbench.")}
    assert rooms & {"models", "graphs", "studies", "statistics", "performance", "reporting", "ui", "cli"} == set()


# ---- what an import really brings in --------------------------------------------------------------------------


def brought_in_by(code: str) -> set[str]:
    """The libraries in ``sys.modules`` of a fresh interpreter after this code, beside those of its own start."""
    end = "import json; print(json.dumps([*set(sys.modules) - before]))"
    command = [sys.executable, "-c", f"import sys; before = set(sys.modules)\n{code}\n{end}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=True)
    names = {name.split(".")[0] for name in json.loads(done.stdout)} - {"workbench"} - sys.stdlib_module_names
    return {name for name in names if not name.startswith("_")}


def test_the_workbench_and_its_ground_floor_run_on_the_standard_library():
    assert brought_in_by("import workbench, " + ", ".join(f"workbench.{name}" for name in GROUND)) == set()


def test_the_light_half_brings_in_numpy_alone():
    names = ("backends", "datasets", "measuring", "remote.worker")
    assert brought_in_by("import " + ", ".join(f"workbench.{name}" for name in names)) <= {"numpy", "mkl"}


def test_importing_the_rooms_brings_in_no_heavy_library():
    assert brought_in_by("import " + ", ".join(f"workbench.{room}" for room in ROOMS)) & HEAVY == set()


# ---- the table of public names --------------------------------------------------------------------------------


def test_every_public_name_is_where_the_table_says_and_an_unknown_one_is_an_attribute_error():
    values = {name: getattr(workbench, name) for name in workbench.__all__}
    assert [
        n for n, value in values.items() if not (callable(value) and value.__doc__ and value.__name__ == n)
    ] == []
    assert set(workbench.__all__) <= set(dir(workbench))
    with pytest.raises(AttributeError, match="no attribute 'meassure'"):
        _ = workbench.meassure
