"""The GPU kernels of an engine with their blocks and roles: from the file beside it, or traced on its GPU."""

from __future__ import annotations

from collections.abc import Sequence

from ..backends import open_engine
from ..backends.hardware.kernel_trace import tracer_missing
from ..backends.kernel_record import record_kernels, recorded_kernels
from ..errors import WorkbenchError, refuse_unless
from ..measuring.measurement import one_batch
from ..measuring.subject import Subject
from ..records import Engine
from .kernel_places import PlacedKernel, kernels_of_rows, place_kernels
from .layers import Timed, runs_here


def kernels(engine: Engine, *, batch: int | None = None):
    """Every GPU kernel of one call of an engine, in the order of launch.

    Args:
        engine: of TensorRT, or of another runtime that launches kernels on a GPU.
        batch: images of the call; None takes a call that was traced before, else the size that it is tuned for.

    Returns:
        A pandas data frame with a row per kernel: ``block`` (None outside the blocks), ``role``, ``name``,
        ``seconds``, ``type`` (in which it multiplies matrices; None where it multiplies none or its name does not
        tell), ``attention`` (whether it is a whole fused attention) and ``guess`` (whether block and role are one).

    Raises:
        WorkbenchError: the kernels were not traced before, and cannot be here; the error has the remedy.
    """
    import pandas as pd

    placed, _ = placed_kernels(engine, batch)
    frame = pd.DataFrame([one.row() for one in placed])
    for column in ("block", "type"):
        frame[column] = frame[column].astype(object).where(frame[column].notna(), None)
    return frame


def placed_kernels(engine: Engine, batch: int | None = None) -> tuple[list[PlacedKernel], int]:
    """The kernels of ``kernels``, and the images of the call; traced where they are not known yet.

    Raises:
        WorkbenchError: see ``kernels``.
    """
    refuse_unless(
        isinstance(engine, Engine),
        "Kernels are those of an engine",
        why=f"given was {type(engine).__name__}",
        remedy="give what build_engine returned",
    )
    spec = engine.variant.graph.spec
    if spec is None:
        raise WorkbenchError(
            f"The kernels of {engine.label} have no places",
            why="the shape of its model is not known",
            remedy="bring the model in with export_onnx, or with import_onnx where its shape can be inferred",
        )
    if found := known_kernels(engine, batch):
        return found
    batch = engine.batches.opt if batch is None else batch
    rows = trace_kernels(engine, batch)
    return place_kernels(kernels_of_rows(rows), spec, batch), batch


def known_kernels(engine: Engine, batch: int | None = None) -> tuple[list[PlacedKernel], int] | None:
    """The kernels of a call that was traced before, and its images; None where there is none or no known model.

    Args:
        engine: whose kernels.
        batch: images of the call; None takes the size that the engine is tuned for, else the largest traced.
    """
    calls, spec = recorded_kernels(engine), engine.variant.graph.spec
    if batch is None:
        batch = engine.batches.opt if engine.batches.opt in calls else max(calls, default=0)
    if batch not in calls or spec is None:
        return None
    return place_kernels(kernels_of_rows(calls[batch]), spec, batch), batch


def trace_kernels(engine: Engine, batch: int) -> list[dict]:
    """Run one call on noise, list its kernels, and keep the list beside the engine.

    Returns:
        The rows of ``Session.kernels``.

    Raises:
        WorkbenchError: the engine does not run here, launches no kernels on a GPU, or no tool lists them.
    """
    refuse_unless(
        runs_here(engine),
        f"The kernels of {engine.label} are not known",
        why="no call of it was traced, and it cannot be run on this machine",
        remedy="run a job with layers=True on a host with its GPU; the list of kernels comes back with the engine",
    )
    subject = Subject.of(engine)
    subject.check_batch(batch)
    with open_engine(engine) as session:
        rows = session.kernels(subject.feeds(one_batch(subject, None, batch)))
    if not rows:
        missing = tracer_missing() if engine.backend != "onnxruntime" else None
        raise WorkbenchError(
            f"The kernels of {engine.label} are not known",
            why=missing.reason if missing else f"a session of {engine.backend} launches no kernels that are listed",
            remedy=missing.remedy if missing else "use an engine of tensorrt on its GPU",
        )
    record_kernels(engine, batch, rows)
    return rows


def timed_kernels(placed: Sequence[PlacedKernel]) -> list[Timed]:
    """Kernels as timed layers, so that what compares layers compares kernels."""
    return [Timed(one.layer, one.kernel.seconds) for one in placed]
