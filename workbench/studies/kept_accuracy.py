"""Accuracies that a workspace holds already: what a variant answers in its own arithmetic is computed once."""

from __future__ import annotations

import numpy as np

from ..backends import build_engine
from ..code_version import tool_versions
from ..digests import digest
from ..graphs.quantization.emulation import emulated
from ..measuring import measure
from ..progress import Progress, silent
from ..records import Measurement, Variant
from ..workspace import Workspace
from .request import machine_facts

#: The kind of these observations in the ledger.
KEPT = "kept accuracy"
#: Images that are classified at once.
BATCH = 32


def find_or_measure_accuracy(
    variant: Variant,
    workspace,
    *,
    images: np.ndarray,
    labels: np.ndarray,
    reference: np.ndarray | None = None,
    progress: Progress = silent,
) -> Measurement:
    """The accuracy of a variant on ONNX Runtime, measured now or by an earlier call on this machine.

    What a CPU has no kernels for is emulated number for number, and 8-bit products that saturate here are computed
    as written; the measurement's ``execution`` says so. It holds no latencies.

    Args:
        variant: what ``apply_recipe`` made.
        workspace: a ``Workspace`` or a folder's path.
        images: (N, H, W, 3) float32, normalised.
        labels: (N,) whole numbers.
        reference: classes (N,) that ``agreement`` compares with; None for those of the FP32 graph.
        progress: see ``progress.Progress``.

    Raises:
        WorkbenchError: as for ``build_engine`` and ``measure``.
    """
    workspace = Workspace.of(workspace)
    seen = digest(
        np.ascontiguousarray(images), np.asarray(labels), None if reference is None else np.asarray(reference)
    )
    key = digest(variant.digest, seen, tool_versions(("onnxruntime",)), machine_facts())
    if kept := workspace.observations(KEPT, Measurement, key):
        return kept[-1]
    engine = build_engine(emulated(variant, workspace), "onnxruntime", workspace, progress=progress)
    found = measure(engine, images, labels, batch=BATCH, reference=reference, seconds=0, progress=progress)
    workspace.append(KEPT, key, found)
    return found
