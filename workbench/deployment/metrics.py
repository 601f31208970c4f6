"""What a service counts and times, as Prometheus metrics (https://prometheus.io/docs/concepts/metric_types/)."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

from .drift import DriftMonitor
from .fallback import ENGINE, ORIGINAL

ANSWERED, REFUSED, FAILED = "answered", "refused", "failed"
#: Upper bounds of the buckets: seconds from half a millisecond to a minute, and images of a batch.
SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


class Metrics:
    """The metrics of one service, in a registry of their own, so that a process may have several services."""

    def __init__(self, drift: DriftMonitor):
        self.registry = registry = CollectorRegistry()
        self.latency = Histogram(
            "workbench_request_seconds", "Time from request to answer.", buckets=SECONDS, registry=registry
        )
        self.batch = Histogram("workbench_batch_images", "Images of a batch.", buckets=IMAGES, registry=registry)
        self.requests = Counter("workbench_requests", "Requests by outcome.", ["outcome"], registry=registry)
        self.images = Counter(
            "workbench_images", "Images by the model that answered.", ["model"], registry=registry
        )
        self.fallbacks = Counter("workbench_fallbacks", "How often the original took over.", registry=registry)
        for outcome in (ANSWERED, REFUSED, FAILED):
            self.requests.labels(outcome)
        for model in (ENGINE, ORIGINAL):
            self.images.labels(model)
        self._gauge("workbench_drift_input", "Shift of the channel means, in reference spreads.", drift.input_shift)
        self._gauge("workbench_drift_classes", "Population stability index of top classes.", drift.class_shift)
        self._gauge("workbench_drift_confidence", "Change of the mean top probability.", drift.confidence_shift)
        ProcessCollector(registry=registry)

    def watch(self, queued: Callable[[], float], active: Callable[[], str], pid: Callable[[], int | None]) -> None:
        """Add what a service can be asked at any time: images that wait, the model, and the engine's process."""
        self._gauge("workbench_queue_images", "Images that wait.", queued)
        self._gauge("workbench_engine_active", "1 while the engine answers.", lambda: float(active() == ENGINE))
        # a process that has just ended has no files under /proc, and the collector then gives no samples
        ProcessCollector(namespace="workbench_engine", pid=lambda: pid() or "none", registry=self.registry)

    def _gauge(self, name: str, text: str, value: Callable[[], float]) -> None:
        Gauge(name, text, registry=self.registry).set_function(value)

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self.registry)

    def values(self) -> dict[str, float]:
        """The same numbers by their names, labels included: ``workbench_images_total{model="engine"}``."""
        samples = [sample for metric in self.registry.collect() for sample in metric.samples]
        return {_name(sample.name, sample.labels): sample.value for sample in samples}


def _name(name: str, labels: dict[str, str]) -> str:
    inside = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{inside}}}" if inside else name
