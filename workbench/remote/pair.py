"""Two or more variants built and measured on one place, so that a notebook need not know which place it is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..backends import build_engine
from ..measuring import measure_interleaved
from ..progress import Progress, silent
from ..records import Batches, Engine, Measurement, Variant
from .host import Host


def measure_on(
    host: Host,
    variants: Sequence[Variant],
    workspace,
    *,
    images: np.ndarray,
    labels: np.ndarray,
    batch: int,
    seconds: float = 2.0,
    progress: Progress = silent,
) -> tuple[list[Engine], list[Measurement]]:
    """Build an engine for each variant on a host and measure all of them at one batch.

    In this process calls are interleaved. Elsewhere, and where a runtime has a process of its own, each engine is a
    job, one after the other; ``compare`` knows that and widens its interval.

    Args:
        host: where; a backend of this machine or a host of ``hosts.toml``.
        variants: the first is the reference of the others' agreement.
        workspace: a ``Workspace`` or a folder's path.
        images: (N, H, W, 3) float32, normalised.
        labels: (N,) whole numbers.
        batch: images per call.
        seconds: of timed calls for each engine.
        progress: see ``progress.Progress``.

    Returns:
        The engines and their measurements, in the order of the variants.

    Raises:
        WorkbenchError: as for ``build_engine``, ``measure_interleaved`` and ``Host.run``.
    """
    batches = Batches(1, batch, batch) if variants[0].graph.batch is None else None
    if host.interpreter is None:
        engines = [build_engine(v, host.backend, workspace, batches=batches, card=host.card) for v in variants]
        found = measure_interleaved(engines, images, labels, batch=batch, seconds=seconds, progress=progress)
        return engines, list(found)
    engines: list[Engine] = []
    measured: list[Measurement] = []
    for variant in variants:
        reference = np.array(measured[0].predictions) if measured else None
        report = host.run(
            variant,
            workspace,
            batches=batches,
            measure=(batch,),
            images=images,
            labels=labels,
            reference=reference,
            seconds=seconds,
            progress=progress,
        )
        if report.refusal:
            raise report.refusal.error(f"{host.name} cannot measure {variant.recipe.label}")
        engines.append(report.engine)
        measured += report.measurements
    return engines, measured
