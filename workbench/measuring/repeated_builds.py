"""The same build several times: builders time kernels while they build, so two builds of one file can differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from ..backends import build_engine
from ..errors import refuse_unless
from ..progress import Progress, silent
from ..records import Batches, Engine, Measurement, Variant
from .measurement import measure_interleaved


@dataclass(frozen=True)
class RepeatedBuilds:
    """Builds of one variant with the same arguments, and what each of them measures; the builds are in their order.

    Attributes:
        engines: one for each build.
        measurements: of the engines, their calls interleaved.
    """

    engines: tuple[Engine, ...]
    measurements: tuple[Measurement, ...]

    def rows(self) -> list[dict]:
        """One row per build.

        Its keys are ``run_id``, ``build_s``, ``engine_mib``, ``p50_ms``, ``compute_ms``, ``top1``, ``agreement``;
        ``compute_ms`` is the median by the device's clock, None without one; accuracies are NaN without images.
        """
        return [
            {
                "run_id": engine.run_id,
                "build_s": engine.build_seconds,
                "engine_mib": found.engine_bytes / (1 << 20),
                "p50_ms": found.p50_ms,
                "compute_ms": 1e3 * median(found.device_s) if found.device_s else None,
                "top1": found.top1,
                "agreement": found.agreement,
            }
            for engine, found in zip(self.engines, self.measurements)
        ]

    def spread(self, column: str) -> tuple[float, float]:
        """The smallest and the largest value of a column of ``rows``; NaN where a build lacks it."""
        values = [row[column] if row[column] is not None else float("nan") for row in self.rows()]
        return float(np.min(values)), float(np.max(values))

    @property
    def same_answers(self) -> float:
        """The share of images on which all builds choose the same class, 0...1; NaN without images."""
        chosen = np.array([found.predictions for found in self.measurements])
        return float((chosen == chosen[0]).all(axis=0).mean()) if chosen.size else float("nan")

    def __str__(self) -> str:
        return "; ".join(self._sentences()) + "."

    def _sentences(self) -> Iterator[str]:
        first, (low, high) = self.measurements[0], self.spread("p50_ms")
        yield (
            f"{len(self.engines)} builds of {self.engines[0].label} at batch {first.batch}: a median call takes "
            f"{low:.3g} to {high:.3g} ms, a spread of {high / low - 1:.1%}"
        )
        yield "a build takes {:.3g} to {:.3g} s".format(*self.spread("build_s"))
        if first.labels:
            low, high = self.spread("top1")
            yield f"top-1 is {low:.2%} to {high:.2%} on {first.images} images"
        if first.images:
            yield f"all builds choose the same class on {self.same_answers:.1%} of {first.images} images"


def repeat_builds(
    variant: Variant,
    backend_name: str,
    workspace,
    *,
    builds: int = 3,
    batches: Batches | None = None,
    card: str | None = None,
    options: dict | None = None,
    images: np.ndarray | None = None,
    labels=None,
    batch: int | None = None,
    seconds: float = 2.0,
    progress: Progress = silent,
) -> RepeatedBuilds:
    """Build an engine several times and measure all builds with interleaved calls.

    Args:
        variant: what to build.
        backend_name: the runtime.
        workspace: see ``build_engine``.
        builds: how many, 2 or more. TensorRT's option ``timings`` makes builds alike; leave it out here.
        batches: the batch sizes that the engines must take.
        card: the GPU to build for, see ``build_engine``.
        options: of the backend.
        images: see ``measure``; None times the builds on noise.
        labels: N whole numbers.
        batch: images per call; None takes the size that the engines are tuned for.
        seconds: how long each build is timed.
        progress: see ``progress.Progress``.

    Raises:
        WorkbenchError: fewer than two builds, or what ``build_engine`` and ``measure`` refuse.
    """
    (found,) = repeat_builds_together(
        [variant],
        backend_name,
        workspace,
        builds=builds,
        batches=batches,
        card=card,
        options=options,
        images=images,
        labels=labels,
        batch=batch,
        seconds=seconds,
        progress=progress,
    )
    return found


def repeat_builds_together(
    variants: Sequence[Variant],
    backend_name: str,
    workspace,
    *,
    builds: int = 3,
    batches: Batches | None = None,
    card: str | None = None,
    options: dict | None = None,
    images: np.ndarray | None = None,
    labels=None,
    batch: int | None = None,
    seconds: float = 2.0,
    progress: Progress = silent,
) -> tuple[RepeatedBuilds, ...]:
    """Build each of several variants several times, and measure all builds in the same rounds.

    ``statistics.builds.compare_builds`` then says whether one variant is faster whichever build is taken. The
    builds of the variants alternate, so that a machine that changes meanwhile treats them alike. Arguments are
    those of ``repeat_builds``.

    Raises:
        WorkbenchError: fewer than two builds, or what ``build_engine`` and ``measure`` refuse.
    """
    refuse_unless(
        isinstance(builds, int) and builds >= 2,
        "One build shows no spread",
        why=f"builds is {builds!r}",
        remedy="ask for 2 builds or more",
    )
    given: dict = {"batches": batches, "card": card, "options": options, "progress": progress}
    engines = [
        build_engine(variant, backend_name, workspace, **given) for _ in range(builds) for variant in variants
    ]
    found = measure_interleaved(engines, images, labels, batch=batch, seconds=seconds, progress=progress)
    step = len(variants)
    return tuple(RepeatedBuilds(tuple(engines[start::step]), found[start::step]) for start in range(step))
