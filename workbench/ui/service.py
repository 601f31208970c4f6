"""Send requests to a service, and see who answers them and how long it takes, while it happens."""

from __future__ import annotations

import dataclasses

import ipywidgets as widgets
import pandas as pd

from ..deployment.fallback import ENGINE
from ..deployment.service import Deployment
from ..deployment.traffic import Interval, Traffic, send_traffic
from ..progress import Progress
from ..reporting import figures
from . import controls
from .panel import Panel

#: What of the metrics is shown beside the chart: label -> name, and the format of its value.
SHOWN = {
    "images that wait": ("workbench_queue_images", ",.0f"),
    "fallbacks so far": ("workbench_fallbacks_total", ",.0f"),
    "drift of inputs (reference spreads)": ("workbench_drift_input", ".2f"),
    "drift of classes (stability index)": ("workbench_drift_classes", ".2f"),
    "drift of confidence": ("workbench_drift_confidence", "+.3f"),
    "memory of the engine's process (MB)": ("workbench_engine_process_resident_memory_bytes", ",.0f"),
    "processors in use (%)": ("workbench_machine_cpu_utilization_percent", ".0f"),
    "GPU utilization (%)": ('workbench_gpu_utilization_percent{gpu="0"}', ".0f"),
    "GPU power (W)": ('workbench_gpu_power_watts{gpu="0"}', ".0f"),
}


def service_panel(service: Deployment, images, traffic: Traffic | None = None) -> Panel:
    """Choose how much is asked; ``panel.result()`` is a frame with one row per interval (``Interval``).

    The chart and the numbers below it follow the service while the requests run.

    Args:
        service: what ``deploy`` returned.
        images: (N, H, W, 3), normalised float32 or uint8 pixels, that are sent in turn.
        traffic: what the panel starts from.
    """
    seed = traffic or Traffic()
    chart, state = controls.with_class(controls.Chart(), "timeline"), controls.with_class(widgets.HTML(), "state")
    rows = {
        "clients": controls.integer("clients", "Clients that ask", seed.clients, 1, 64),
        "images": controls.integer("images", "Images of a request", seed.images, 1, 1024),
        "seconds": controls.slider("seconds", "For so long (s)", seed.seconds, 60.0),
    }

    def read() -> Traffic:
        seconds = controls.exact(rows["seconds"], seed.seconds)
        return Traffic(rows["clients"].value, rows["images"].value, seconds)

    def work(chosen: Traffic, progress: Progress) -> pd.DataFrame:
        seen: list[Interval] = []

        def add(interval: Interval) -> None:
            seen.append(interval)
            chart.draw(figures.service_timeline(_frame(seen)))
            state.value = state_of(service)

        send_traffic(service, images, chosen, each=add, progress=progress)
        return _frame(seen)

    def advise(chosen: Traffic) -> list:
        state.value = state_of(service)
        return []

    return Panel(
        "service", list(rows.values()), read, work, view=(chart, state), verb="Send requests", advise=advise
    )


def _frame(intervals: list[Interval]) -> pd.DataFrame:
    return pd.DataFrame([dataclasses.asdict(interval) for interval in intervals])


def state_of(service: Deployment) -> str:
    """Which model answers and why, and the newest metrics, as HTML."""
    values = service.metrics()
    words = "The engine answers." if service.active == ENGINE else f"The original answers: {service.reason}"
    table = pd.DataFrame(
        {"metric": label, "now": format(_scaled(label, values[name]), style)}
        for label, (name, style) in SHOWN.items()
        if values.get(name) is not None and values[name] == values[name]
    )
    note = controls.paragraph(words) if service.active == ENGINE else controls.warning(words)
    return note + controls.table(table)


def _scaled(label: str, value: float) -> float:
    return value / 1e6 if label.endswith("(MB)") else value
