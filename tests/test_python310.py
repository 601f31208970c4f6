"""The light half runs on Python 3.10 with nothing but NumPy and a runtime: GPU hosts may have no newer one."""

from __future__ import annotations

import ast
import subprocess
from pathlib import Path

import pytest

import workbench
from tests import python310 as interpreters
from tests.tiny import Tiny
from workbench.remote.protocol import light_half

PACKAGE = Path(workbench.__file__).parent
#: What travels to a host; and image sets and serving, which belong to the light half and do not travel.
STAYING = [*PACKAGE.glob("datasets/*.py"), *PACKAGE.glob("deployment/*.py")]
LIGHT = {**light_half(), **{p.relative_to(PACKAGE.parent).as_posix(): p.read_bytes() for p in STAYING}}
MODULES = [name for name in LIGHT if name.endswith(".py")]
REMEDY = "Remedy: install Python 3.10, for example by 'pyenv install 3.10' or 'uv python install 3.10'"


@pytest.fixture(scope="module")
def python310():
    return interpreters.bare() or pytest.skip(f"there is no Python 3.10 on this machine. {REMEDY}")


@pytest.fixture(scope="module")
def uninstalled(tmp_path_factory):
    """The light half alone, copied as a job would send it."""
    folder = tmp_path_factory.mktemp("host")
    for name, content in LIGHT.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return folder


def run(command: str, folder: Path, code: str) -> str:
    """Run code in an isolated interpreter that sees this folder and its own library only."""
    script = f"import sys; sys.path.insert(0, {str(folder)!r})\n{code}"
    done = subprocess.run([command, "-I", "-c", script], capture_output=True, text=True, cwd=folder, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_light_half_is_written_in_the_grammar_of_310():
    for name in MODULES:
        ast.parse(LIGHT[name], name, feature_version=(3, 10))
    with pytest.raises(SyntaxError):  # the grammar is what is asked for
        ast.parse("try:\n    pass\nexcept* ValueError:\n    pass\n", feature_version=(3, 10))


def test_the_ground_floor_keeps_records_on_310(python310, uninstalled, tmp_path):
    code = f"""
import workbench as wb
from workbench import places
from workbench.records import Batches, Engine, Graph, Measurement, Preprocessing, Recipe, Variant
from workbench.ledger import new_run_id
from pathlib import Path

def make(folder, key):
    (folder / "graph.onnx").write_bytes(b"graph")
    return Graph(folder / "graph.onnx", key, 20, Preprocessing(8))

workspace = wb.Workspace({str(tmp_path)!r})
graph = workspace.artefact("graph", Graph, 1, make, tools=["numpy"])
variant = Variant(graph.path, "d", graph, Recipe("int8", exclude=("block00",)), 20, ("onnxruntime",))
engine = Engine("onnxruntime", graph.path, variant, Batches(), new_run_id())
measured = Measurement("onnxruntime", "m", Recipe(), 8, "v", (0.1, 0.2), labels=(0, 1), predictions=(0, 0))
for kind, record in (("engine", engine), ("measurement", measured)):
    workspace.append(kind, "k", record)
    assert workspace.observations(kind, type(record)) == [record]
try:
    wb.Recipe("int9")
except wb.WorkbenchError as error:
    print(error.remedy, places.place_of("block03/attention/qkv"))
"""
    said = run(python310, uninstalled, code)
    assert "use one of the known ones" in said
    assert "block='block03', role='qkv'" in said


def test_every_module_of_the_light_half_is_imported_on_310(python310, uninstalled):
    """NumPy is the host's own where it has it; else a stand-in takes its place: importing computes nothing."""
    code = """
import importlib, unittest.mock
from pathlib import Path
try:
    import numpy
except ImportError:
    sys.modules["numpy"] = unittest.mock.MagicMock()
here = Path(sys.path[0])
for file in sorted((here / "workbench").rglob("*.py")):
    parts = file.relative_to(here).with_suffix("").parts
    name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    try:
        importlib.import_module(name)
    except ImportError as error:
        if error.name and error.name.split(".")[0] in ("PIL", "pycuda", "pandas", "prometheus_client", "uvicorn"):
            continue  # of the few modules that need it, and the host has it not
        raise
    print(name)
"""
    imported = run(python310, uninstalled, code).split()
    assert {"workbench.backends.onnxruntime", "workbench.measuring", "workbench.workspace"} <= set(imported)
    assert len(imported) >= len(MODULES) - 6


def test_an_engine_is_measured_on_310_where_numpy_and_a_runtime_are(uninstalled, tmp_path):
    command = interpreters.equipped()
    if command is None:
        pytest.skip(f"there is no Python 3.10 with NumPy and ONNX Runtime. {REMEDY}")
    path = Tiny.of().graph(tmp_path).path
    code = f"""
import numpy as np
from pathlib import Path
import workbench as wb
from workbench.records import Graph, Variant, Preprocessing
graph = Graph(Path({str(path)!r}), "d", 20, Preprocessing(8), classes=7)
variant = Variant(graph.path, "d", graph, wb.Recipe(), 20, ("onnxruntime",))
engine = wb.build_engine(variant, "onnxruntime", {str(tmp_path / "w")!r})
images = np.zeros((5, 8, 8, 3), np.float32)
measured = wb.measure(engine, images=images, labels=np.zeros(5, int), batch=2, seconds=0.05)
print(measured.agreement, measured.images)
"""
    assert run(command, uninstalled, code).split() == ["1.0", "5"]
