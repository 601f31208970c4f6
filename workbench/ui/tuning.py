"""Look for the best batch and streams of a variant, and see every setting that is measured on the way."""

from __future__ import annotations

import ipywidgets as widgets

from ..progress import Progress
from ..records import Variant
from ..reporting import figures
from ..studies.tuning import Tuning, frame_of, tune
from ..studies.tuning_search import Point
from . import controls
from .choices import Aim
from .panel import Panel

#: What is looked for -> the words for it.
THROUGHPUT, WITHIN, LATENCY = "throughput", "within", "latency"
WORDS = {
    THROUGHPUT: "the best throughput",
    WITHIN: "the best throughput within a latency",
    LATENCY: "the least latency at a load",
}


def tuning_panel(
    variant: Variant,
    workspace,
    aim: Aim | None = None,
    *,
    backend: str = "onnxruntime",
    options: dict | None = None,
) -> Panel:
    """Choose what to look for; ``panel.result()`` is the ``Tuning`` that ``wb.tune`` returns.

    The chart shows every setting as soon as it was measured.

    Args:
        variant: what ``apply_recipe`` made.
        workspace: a ``Workspace`` or a folder's path.
        aim: what the panel starts from.
        backend: the runtime, on this machine.
        options: the backend's own options, as ``build_engine`` takes them.
    """
    seed = aim or Aim()
    chart, rows = controls.with_class(controls.Chart(), "points"), _controls(seed)

    def read() -> Aim:
        found = {name: row.value for name, row in rows.items()}
        return Aim(
            max_latency_ms=found["limit"] if found["aim"] == WITHIN else None,
            load=found["load"] if found["aim"] == LATENCY else None,
            max_batch=found["max_batch"],
            max_streams=found["max_streams"],
            seconds=controls.exact(rows["seconds"], seed.seconds),
        )

    def work(chosen: Aim, progress: Progress) -> Tuning:
        seen: list[Point] = []

        def add(point: Point) -> None:
            seen.append(point)
            chart.draw(_figure(variant, seen, None, chosen))

        tuned = tune(
            variant,
            backend,
            workspace,
            max_latency_ms=chosen.max_latency_ms,
            load=chosen.load,
            max_batch=chosen.max_batch,
            max_streams=chosen.max_streams,
            seconds=chosen.seconds,
            options=options,
            progress=progress,
            each=add,
        )
        chart.draw(_figure(variant, tuned.points, tuned.best, chosen))
        return tuned

    def advise(chosen: Aim) -> list:
        rows["limit"].disabled, rows["load"].disabled = chosen.max_latency_ms is None, chosen.load is None
        return []

    def show(tuned: Tuning) -> widgets.Widget:
        return widgets.HTML(controls.paragraph(str(tuned)))

    return Panel(
        "tuning", list(rows.values()), read, work, view=(chart,), verb="Look for it", advise=advise, show=show
    )


def _controls(seed: Aim) -> controls.Controls:
    chosen = LATENCY if seed.load is not None else THROUGHPUT if seed.max_latency_ms is None else WITHIN
    return {
        "aim": controls.dropdown("aim", "Look for", [(words, name) for name, words in WORDS.items()], chosen),
        "limit": controls.number("limit", "A call may take (ms, p99)", seed.max_latency_ms or 50.0),
        "load": controls.number("load", "Images that arrive in a second", seed.load or 20.0),
        "max_batch": controls.integer("max-batch", "Images per call at most", seed.max_batch, 1, 1024),
        "max_streams": controls.integer("max-streams", "Calls at a time at most", seed.max_streams, 1, 64),
        "seconds": controls.slider("seconds", "Measure each for (s)", seed.seconds, 10.0),
    }


def _figure(variant: Variant, points, best: Point | None, aim: Aim):
    """The points so far; the best one is ringed once it is known."""
    chosen = None if best is None else best.setting
    return figures.throughput_over_latency(
        frame_of(points), variant.recipe.precision, chosen, aim.max_latency_ms, waiting=aim.load is not None
    )
