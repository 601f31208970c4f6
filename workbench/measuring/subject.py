"""The subject of a measurement: the facts about an engine, or a baseline, that measuring it needs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field

import numpy as np

from ..backends import backend, open_engine
from ..backends.base import Backend, Session
from ..datasets.model_input import check_model_input, in_layout
from ..errors import refuse_unless
from ..records import Batches, Engine, Graph, Recipe, Variant, whole
from ..workspace import check_artefact
from .accuracy import check_label_range, checked_labels


@dataclass(frozen=True)
class Subject:
    """What measuring must know about an engine, or about a baseline such as the JAX model.

    The subject of a baseline is ``Subject("jax", spec.name, spec.image_size, spec.classes)``. Where ``batches`` is
    None, it takes any batch. ``emulated`` names the types that its runtime does not compute as the file has them.
    """

    backend: str
    model: str
    size: int
    classes: int | None = None
    recipe: Recipe = field(default_factory=Recipe)
    variant: str = ""
    batches: Batches | None = None
    input_name: str = "images"
    output_name: str = "logits"
    layout: str = "NHWC"
    input: str = "float32"
    card: str | None = None
    engine_bytes: int = 0
    build_seconds: float = 0.0
    emulated: tuple[str, ...] = ()
    engine: Engine | None = None

    @classmethod
    def of(cls, engine: Engine) -> Subject:
        """The subject of an engine, from the engine's own records.

        Raises:
            WorkbenchError: it is no engine, or its files are gone.
        """
        refuse_unless(
            isinstance(engine, Engine),
            "Only an engine can be measured",
            why=f"given was {type(engine).__name__}",
            remedy="build one with build_engine; an open session goes to measure_session",
        )
        graph, runtime = engine.variant.graph, backend(engine.backend)
        refuse_unless(
            engine.path.is_file(),
            f"The file of {engine.label} is missing",
            why=f"there is no {engine.path}",
            remedy="build the engine again",
        )
        return cls(
            backend=engine.backend,
            model=model_name(graph),
            size=graph.preprocessing.size,
            classes=graph.classes or (graph.spec.classes if graph.spec else None),
            recipe=engine.variant.recipe,
            variant=engine.variant.digest,
            batches=engine.batches,
            input_name=graph.input_name,
            output_name=graph.output_name,
            layout=graph.preprocessing.layout,
            input=graph.preprocessing.input,
            card=engine.card,
            engine_bytes=sum(file.stat().st_size for file in runtime.files(engine)),
            build_seconds=engine.build_seconds,
            emulated=_emulated(runtime, engine.variant),
            engine=engine,
        )

    @contextlib.contextmanager
    def exact(self, session: Session) -> Generator[Session]:
        """The session whose logits are those of the subject's own types, which accuracy is measured on.

        That is the given one, or, where its runtime computes in other types or with products that saturate, one of
        the engine that ``Backend.as_written`` gives.

        Raises:
            WorkbenchError: there is no such engine, or it cannot be opened.
        """
        if not self.emulated or self.engine is None:
            yield session
            return
        exact = backend(self.backend).as_written(self.engine)
        check_artefact(exact.path)
        with open_engine(exact) as opened:
            yield opened

    def feeds(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """One batch (n, H, W, 3) under the input's name, in the graph's layout."""
        return {self.input_name: in_layout(images, self.layout)}

    def logits(self, session: Session) -> Callable[[np.ndarray], np.ndarray]:
        """The session as a function from images (n, H, W, 3) to logits (n, classes)."""
        return lambda images: session.run(self.feeds(images))[self.output_name]

    def check_batch(self, batch: int) -> None:
        """Refuse a batch size that the engine was not built for."""
        refuse_unless(
            (whole(batch) or 0) > 0,
            "The batch must be a positive whole number",
            why=f"it is {batch!r}",
            remedy="give the number of images per call",
        )
        low, high = (self.batches.min, self.batches.max) if self.batches else (1, batch)
        wider = f"build for Batches({min(low, batch)}, {batch}, {max(high, batch)})"
        one = f"measure {low} images a call, or {wider} where the graph's batch is open; else export an open one"
        refuse_unless(
            low <= batch <= high,
            f"A batch of {batch} is outside what the engine was built for",
            why=f"it takes {low} to {high} images"
            if low < high
            else f"it takes {low} images, no more and no fewer",
            remedy=one if low == high else f"measure within these, or {wider}",
        )

    def checked_images(self, images) -> np.ndarray:
        """Images with the channels last, (N, size, size, 3); a graph's own layout may be given as well.

        Raises:
            WorkbenchError: anything but finite images of the model's type and size, or none at all.
        """
        return check_model_input(images, self.size, self.layout, self.model, self.input)

    def checked_labels(self, labels, count: int) -> np.ndarray:
        """Labels as (N,) int64, one for each of ``count`` images and all within the classes."""
        labels = checked_labels(labels, count)
        if self.classes:
            check_label_range(labels, self.classes)
        return labels


def _emulated(runtime: Backend, variant: Variant) -> tuple[str, ...]:
    if runtime.computes_as_written(variant):
        return ()
    return runtime.emulated_types(variant) or (variant.recipe.precision,)


def model_name(graph: Graph) -> str:
    """The spec's name, or the file's where no spec could be read."""
    return graph.spec.name if graph.spec else graph.path.stem
