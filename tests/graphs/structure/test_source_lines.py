"""The line of Python behind a node is read off the stamp of any exporter."""

import onnx_ir as ir
import pytest

from workbench.graphs.structure.source_lines import source_of

TORCH = "pkg.torch.onnx.stack_trace"
JAX = "pkg.jax2onnx.jax_traceback"


@pytest.mark.parametrize(
    ("stamps", "line"),
    [
        ({}, None),
        ({"workbench.source": "models/vit.py:119", TORCH: "other.py:1"}, "models/vit.py:119"),
        ({JAX: "/home/a b/site-packages/jax/core.py:9 (f)\n/home/x/models/vit.py:42 (g)"}, "models/vit.py:42"),
        ({"pkg.jax2onnx.callsite": "__call__:107"}, "__call__:107"),
        ({TORCH: 'File "/x/timm/vit.py", line 7\n  y\nFile "/x/timm/mlp.py", line 12'}, "timm/mlp.py:12"),
        ({TORCH: 'File "/x/mlp.py", line 8\nFile "/x/site-packages/torch/nn/linear.py", line 1'}, "x/mlp.py:8"),
    ],
)
def test_the_innermost_line_of_the_model_itself_is_taken(stamps, line):
    assert source_of(ir.node("Identity", [None], metadata_props=stamps)) == line
