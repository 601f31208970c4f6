"""The shape of every notebook: prose beside code, nothing defined in a cell, parameters, a recorded end."""

import ast
import tokenize
from io import StringIO
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(ROOT.glob("*.ipynb"))
MOST_LINES = 12
#: Words of prose for each line of code, at the least.
PROSE = 2.0


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code(notebook, tagged=False):
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [cell for cell in cells if ("parameters" in cell.metadata.get("tags", [])) == tagged]


def lines(cell) -> int:
    tokens = tokenize.generate_tokens(StringIO(cell.source).readline)
    return len({t.start[0] for t in tokens if t.string.strip() and t.type != tokenize.COMMENT})


def test_there_are_notebooks_to_look_at():
    assert len(NOTEBOOKS) >= 5


def test_prose_keeps_up_with_short_cells_in_which_nothing_is_defined(notebook):
    counts = list(map(lines, code(notebook)))
    words = sum(len(cell.source.split()) for cell in notebook.cells if cell.cell_type == "markdown")
    assert max(counts) <= MOST_LINES
    assert words >= PROSE * sum(counts)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
    trees = [ast.parse(cell.source) for cell in code(notebook)]
    assert not [node for tree in trees for node in ast.walk(tree) if isinstance(node, kinds)]


def test_the_last_cell_records_scalars_and_no_outputs_are_committed(notebook):
    assert notebook.cells[-1].source.startswith("ui.record(")
    assert all(not cell.outputs and cell.execution_count is None for cell in code(notebook))


def test_one_cell_holds_the_parameters_and_only_primitives(notebook):
    (cell,) = code(notebook, tagged=True)
    for statement in ast.parse(cell.source).body:
        assert isinstance(statement, ast.Assign)
        ast.literal_eval(statement.value)
