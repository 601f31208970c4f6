"""The line of Python that a node comes from, where its exporter stamped it."""

from __future__ import annotations

import re
from pathlib import Path

import onnx_ir as ir

#: The key under which the workbench's own export leaves the line.
OWN_KEY = "workbench.source"
#: Keys under which exporters leave the line of code that a node comes from, most exact first.
KEYS = (OWN_KEY, "pkg.jax2onnx.jax_traceback", "pkg.jax2onnx.callsite", "pkg.torch.onnx.stack_trace")
#: ``/any/models/vit.py:42 (name)``, innermost first, or ``File "/any/vit.py", line 42``, innermost last.
_LINE = re.compile(r'([^\s":]+\.py)(?:", line |:)(\d+)')
#: Frames in these packages are not lines of a model.
_TOOLS = re.compile(r"site-packages/(torch|onnxscript|jax|jaxlib|jax2onnx|flax)/")


def source_of(node: ir.Node) -> str | None:
    """The line that a node comes from, as ``models/vit.py:42``, or None."""
    for key in KEYS:
        if stamp := node.metadata_props.get(key):
            return _innermost_line(stamp)
    return None


def _innermost_line(trace: str) -> str:
    """The innermost line of a trace that is not a framework's; of its folders only the last is kept."""
    lines = _LINE.findall(trace)
    if not lines:
        return trace.strip()
    lines = lines[::-1] if 'File "' in trace else lines
    path, number = next((line for line in lines if not _TOOLS.search(line[0])), lines[0])
    return f"{'/'.join(Path(path).parts[-2:])}:{number}"
