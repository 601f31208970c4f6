"""Commands about measurements: tune an engine, compare two of a study, and carry them between machines."""

from __future__ import annotations

from pathlib import Path

from ..errors import refuse_unless
from .progress_line import ProgressLine

WORKSPACE = Path("workspace")


def tune(
    model: Path,
    /,
    *,
    backend: str = "onnxruntime",
    precision: str = "fp32",
    layout: str = "tensorrt",
    max_latency_ms: float | None = None,
    load: float | None = None,
    max_batch: int = 64,
    seconds: float = 1.0,
    workspace: Path = WORKSPACE,
) -> None:
    """Find the batch and the streams with the best throughput within a latency, or the least latency at a load.

    Args:
        model: a checkpoint (.npz) or an .onnx file.
        backend: onnxruntime, tensorrt or tensorrt-rtx.
        precision: of the recipe.
        layout: of the recipe; cpu for int8 on onnxruntime.
        max_latency_ms: of 99 calls in 100, for the best throughput.
        load: images a second that arrive at random moments, for the least latency.
        max_batch: the largest batch to try.
        seconds: how long each setting is measured.
        workspace: the folder where engines are kept.
    """
    from ..graphs.any_model import load_graph
    from ..graphs.quantization.recipe import apply_recipe
    from ..records import Recipe
    from ..studies import tuning

    with ProgressLine() as progress:
        graph = load_graph(model, workspace)
        variant = apply_recipe(graph, Recipe(precision, layout=layout), workspace, progress=progress)
        found = tuning.tune(
            variant,
            backend,
            workspace,
            max_latency_ms=max_latency_ms,
            load=load,
            max_batch=max_batch,
            seconds=seconds,
            progress=progress,
        )
    print(found.frame().to_string(index=False, float_format=lambda value: f"{value:,.3g}"), end="\n\n")
    print(found)


def compare(a: str, b: str, /, *, study: str, batch: int | None = None, workspace: Path = WORKSPACE) -> None:
    """Is A faster or more accurate than B, both measured in a study, or can the samples not tell?

    Args:
        a: a recipe as the study's table names it, such as int8-dynamic, or with its place: "fp32 on onnxruntime".
        b: likewise.
        study: the study's name.
        batch: images a call; the smallest that both have when left out.
        workspace: the folder in which it ran.
    """
    from ..statistics.compare import compare
    from ..studies.results import study_results

    results = study_results(workspace, study)
    frame = results.frame()
    frame = frame[frame.execution != "built"]
    found = [frame[(frame.label == name) | (frame.label + " on " + frame["where"] == name)] for name in (a, b)]
    common = sorted(set(found[0].batch) & set(found[1].batch)) if batch is None else [batch]
    rows = [each[each.batch == (common or [None])[0]] for each in found]
    for name, row in zip((a, b), rows):
        refuse_unless(
            len(row) == 1 and row.p50_ms.notna().all(),
            f"{name!r} names no single measurement of the study {study!r}",
            why=f"it fits {len(row)} rows" + (f" at batch {common[0]}" if common else ""),
            remedy="name one of: " + "; ".join(dict.fromkeys(frame.label + " on " + frame["where"])),
        )
    first, second = (results.measurements_at(row.index)[0] for row in rows)
    print(compare(first, second))


def export_records(out: Path, /, *, study: str, machine: str | None = None, workspace: Path = WORKSPACE) -> None:
    """Write the measurements of a study to a file, for another machine.

    Args:
        out: the file, usually .jsonl.
        study: the study's name.
        machine: the name under which they appear there; this machine's own when left out.
        workspace: the folder in which it ran.
    """
    from ..studies.exchange import export_records

    count = export_records(workspace, study, out, machine)
    print(f"{count} measurements of {study!r} are in {out}")


def import_records(*file: Path, workspace: Path = WORKSPACE) -> None:
    """Take the measurements of other machines, so that `workbench report` shows them beside those of this one.

    Args:
        file: what `workbench export-records` wrote, one or more.
        workspace: the folder that takes them.
    """
    from ..studies.exchange import import_records

    refuse_unless(bool(file), "There is nothing to import", why="no file is named", remedy="name one or more")
    for each in file:
        study = import_records(workspace, each)
        print(f"{each} is part of the study {study!r}: workbench report --study {study} --workspace {workspace}")
