"""What the clean-up removed: arithmetic on shapes, and operators that it wrote as others."""

import pandas as pd
import pytest

from tests.graphs.references import checkpoint
from workbench.graphs.analysis.cleaned_operators import became_others, cleaned_operators
from workbench.graphs.export import export_onnx, trace_onnx


@pytest.fixture(scope="module")
def graphs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graphs")
    return trace_onnx(*checkpoint("token"), folder), export_onnx(*checkpoint("token"), folder)


def test_the_traced_graph_has_the_operators_that_the_export_counted(graphs):
    raw, graph = graphs
    table = cleaned_operators(raw, graph)
    assert dict(zip(table["operator"], table["traced"])) == {**dict.fromkeys(table["operator"], 0), **graph.traced}
    assert raw.parity is None
    assert "neither cleaned up nor compared" in raw.notes[0]


def test_arithmetic_on_shapes_is_told_from_products_that_became_others(graphs):
    table = cleaned_operators(*graphs)
    counted = table.set_index("operator")
    assert counted.loc["Shape", "traced"] == counted.loc["Shape", "on shapes"] > 0
    assert counted.loc["Einsum", "on shapes"] == counted.loc["Einsum", "cleaned"] == 0
    assert counted.loc["Softmax", "on shapes"] == 0
    assert "Einsum" in became_others(table)
    assert not {"Shape", "Softmax", "MatMul"} & set(became_others(table))


def test_an_operator_of_which_some_are_left_became_no_other():
    rows = [("Add", 5, 1, 2), ("Einsum", 3, 0, 0), ("Shape", 4, 4, 0)]
    assert became_others(pd.DataFrame(rows, columns=["operator", "traced", "on shapes", "cleaned"])) == ["Einsum"]
