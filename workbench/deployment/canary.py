"""A canary: a share of the requests goes to a new version, which is taken back when it exceeds a limit.

The version before answers the same requests too, afterwards and unseen by whoever asked, so that both are compared
on the same images. A limit counts as exceeded when the interval of what was seen lies beyond it (Wilson's, 99.9 %,
because it is looked at after every request), so that one slow request or one image takes no version back.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from ..errors import WorkbenchError, refuse_unless
from ..records import wilson
from .fallback import ORIGINAL
from .manifest import Manifest
from .metrics import named_values
from .registry import Registry
from .service import Deployment, deploy

#: Requests of the canary that may wait in all: with more, the version before answers.
BACKLOG = 32
#: Images, and requests, of which fewer exceed no limit; and the confidence of the interval.
FEWEST, CONFIDENCE = 20, 0.999


@dataclass(frozen=True)
class Limits:
    """What a new version must keep.

    Attributes:
        agreement: the least share of images to which it gives the same top class as the version before.
        latency_s: seconds that 99 of 100 requests may take at most; None is no limit.
        share: of the requests that the new version answers.
    """

    agreement: float = 0.95
    latency_s: float | None = None
    share: float = 0.1

    def __post_init__(self):
        shares = (self.agreement, self.share)
        fits = all(isinstance(value, int | float) and 0 < value <= 1 for value in shares)
        timed = self.latency_s is None or (isinstance(self.latency_s, int | float) and self.latency_s > 0)
        refuse_unless(
            fits and timed,
            "The limits of a canary are two shares and seconds",
            why=f"they are {self!r}",
            remedy="give agreement and share from above 0 to 1, and latency_s above 0 or None",
        )


@dataclass
class Seen:
    """What was seen of a new version: images that were compared and agreed, requests and those that were slow."""

    images: int = 0
    agreed: int = 0
    requests: int = 0
    slow: int = 0

    def excess(self, limits: Limits) -> str:
        """Which limit is exceeded, in words; empty while none is."""
        if self.images >= FEWEST and wilson(self.agreed, self.images, CONFIDENCE)[1] < limits.agreement:
            return (
                f"it gave another top class to {self.images - self.agreed} of {self.images} images, and at least"
                f" {limits.agreement:.1%} must agree"
            )
        if self.requests >= FEWEST and wilson(self.slow, self.requests, CONFIDENCE)[0] > 0.01:
            return f"{self.slow} of {self.requests} requests took over {limits.latency_s:g} s, 1 in 100 may"
        return ""


def deploy_canary(registry, version: str, limits: Limits | None = None, *, trust=None, **settings) -> Canary:
    """Serve the current version of a registry, and let a new version answer a share of the requests.

    Args:
        registry: a ``Registry`` or its folder; a version is current there.
        version: the new one, as ``Registry.add`` returned it, or the beginning of it.
        limits: beyond which the new version is taken back.
        trust: the file of the public key that signed both; None trusts the digests that are the versions' names.
        settings: of ``deploy``, for both.

    Raises:
        WorkbenchError: a version cannot be served, or the new one takes other inputs or gives other classes.
    """
    registry = registry if isinstance(registry, Registry) else Registry(registry)
    folder = registry.folder_of(version)
    _refuse_other_model(registry.manifest(registry.current_folder.name), registry.manifest(version))
    current = registry.current_folder
    stable = deploy(current, trust=trust or current.name, **settings)
    try:
        new = deploy(folder, trust=trust or folder.name, **settings)
        return Canary(registry, stable, new, folder.name, limits or Limits())
    except BaseException:
        stable.close()
        raise


def _refuse_other_model(before: Manifest, new: Manifest) -> None:
    found = [(m.classes, m.engine.variant.graph.preprocessing) for m in (before, new)]
    refuse_unless(
        found[0] == found[1],
        "The new version answers other requests than the current one",
        why=f"classes and preprocessing are {found[1]}, and of the current one {found[0]}",
        remedy="promote it without a canary when its clients are ready for it",
    )


class Canary:
    """A service made by ``deploy_canary``, with the methods of a ``Deployment``. A context manager.

    Attributes:
        version: the new version.
        rejected: why it was taken back; empty while it was not.
        seen: what was seen of it so far.
    """

    def __init__(self, registry: Registry, stable: Deployment, new: Deployment, version: str, limits: Limits):
        self.version, self.rejected, self.seen = version, "", Seen()
        self._registry, self._stable, self._limits = registry, stable, limits
        self._new: Deployment | None = new
        self._all = (stable, new)
        self._lock, self._asked, self._waiting = threading.Lock(), 0, 0
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="canary")
        self._metrics = CanaryMetrics(self)
        self._check()

    @property
    def manifest(self) -> Manifest:
        """That of the version before."""
        return self._stable.manifest

    @property
    def active(self) -> str:
        """``engine`` or ``original``: which model of the version before answers."""
        return self._stable.active

    @property
    def reason(self) -> str:
        """Why the original of the version before answers, or why the new version was taken back."""
        return self._stable.reason or self.rejected

    @property
    def queued(self) -> int:
        """How many images wait, in both versions."""
        return sum(service.queued for service in self._all)

    @property
    def running(self) -> bool:
        """Whether the new version still gets its share."""
        return self._new is not None

    def answered(self, model: str) -> int:
        """How many images ``engine`` or ``original`` of either version has answered, those compared included."""
        return sum(service.answered(model) for service in self._all)

    def predict(self, images: np.ndarray) -> np.ndarray:
        """See ``Deployment.predict``; where the new version fails, the version before answers."""
        return self._tried(images) if self._is_chosen() else self._stable.predict(images)

    def submit(self, images: np.ndarray) -> list[Future]:
        """See ``Deployment.submit``."""
        return [self._pool.submit(self._tried, images)] if self._is_chosen() else self._stable.submit(images)

    def counted(self) -> contextlib.AbstractContextManager:
        """See ``Deployment.counted``; the version before counts every request over HTTP."""
        return self._stable.counted()

    def metrics(self) -> dict[str, float]:
        """The metrics of the version before, and those of the canary."""
        return self._stable.metrics() | self._metrics.values()

    def metrics_text(self) -> bytes:
        """The same in Prometheus' text format."""
        return self._stable.metrics_text() + self._metrics.text()

    def promote(self) -> None:
        """Make the new version current in the registry, for whoever deploys it next.

        Raises:
            WorkbenchError: it was taken back.
        """
        refuse_unless(
            self.running,
            f"The version {self.version[:12]} is not promoted",
            why=self.rejected or "the service was closed",
            remedy="promote it in the registry itself, if it is right and the limits are wrong",
        )
        self._registry.promote(self.version)

    def close(self) -> None:
        """Answer what waits, then end both versions; calling it again does nothing."""
        self._pool.shutdown()
        self._new = None
        for service in self._all:
            service.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _is_chosen(self) -> bool:
        """Whether the new version answers the next request: each one that carries its share past a whole number."""
        with self._lock:
            before, self._asked = self._asked, self._asked + 1
            share = self._limits.share
            return self.running and self._waiting < BACKLOG and int(self._asked * share) > int(before * share)

    @contextlib.contextmanager
    def _counted_in(self) -> Generator[None]:
        with self._lock:
            self._waiting += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting -= 1

    def _tried(self, images: np.ndarray) -> np.ndarray:
        new, begin = self._new, time.perf_counter()
        if new is None:
            return self._stable.predict(images)
        with self._counted_in():
            try:
                logits = new.predict(images)
            except WorkbenchError:  # full, closed meanwhile, or images that fit neither version
                return self._stable.predict(images)
        took = time.perf_counter() - begin
        with contextlib.suppress(RuntimeError):  # the pool ends: the answer is given, and compared no more
            self._pool.submit(self._compare, images, logits, took)
        return logits

    def _compare(self, images: np.ndarray, logits: np.ndarray, took: float) -> None:
        with self._counted_in(), contextlib.suppress(WorkbenchError):  # a full queue: this one is not compared
            expected = self._stable.predict(images)
            limit = self._limits.latency_s
            with self._lock:
                self.seen.images += len(logits)
                self.seen.agreed += int((logits.argmax(axis=1) == expected.argmax(axis=1)).sum())
                self.seen.requests += 1
                self.seen.slow += int(limit is not None and took > limit)
            self._check()

    def _check(self) -> None:
        """Take the new version back when it exceeds a limit, or when its own engine does not serve."""
        new = self._new
        if new is None:
            return
        fault = f"its engine does not serve: {new.reason}" if new.active == ORIGINAL else ""
        if fault := fault or self.seen.excess(self._limits):
            self._take_back(new, f"The version {self.version[:12]} was taken back: {fault}")

    def _take_back(self, new: Deployment, reason: str) -> None:
        with self._lock:
            if self._new is not new:
                return
            self._new, self.rejected = None, reason
        with contextlib.suppress(WorkbenchError):  # a full disk must not keep a bad version in service
            self._registry.reject(self.version, reason)
        threading.Thread(target=new.close, daemon=True).start()


class CanaryMetrics:
    """What is counted of a canary, in addition to the metrics of the version before."""

    def __init__(self, canary: Canary):
        self._registry = registry = CollectorRegistry()
        seen = canary.seen
        gauges = {
            "running": ("1 while the new version gets its share.", lambda: float(canary.running)),
            "compared_images": ("Images that both versions answered.", lambda: seen.images),
            "agreed_images": ("Images with the same top class in both.", lambda: seen.agreed),
            "slow_requests": ("Requests of the new version over the limit.", lambda: seen.slow),
            "requests": ("Requests that the new version answered.", lambda: seen.requests),
        }
        for name, (text, value) in gauges.items():
            Gauge(f"workbench_canary_{name}", text, registry=registry).set_function(value)

    def text(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def values(self) -> dict[str, float]:
        """The same numbers by their names."""
        return named_values(self._registry)
