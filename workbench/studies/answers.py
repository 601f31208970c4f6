"""An engine's answers to a set of images: computed once per variant and runtime, kept as an artefact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..backends import open_engine
from ..backends.base import Progress
from ..records import Engine
from ..workspace import Workspace

#: Images per call where the engine takes as many; accuracy does not depend on how the images are grouped, except
#: with dynamic quantization, whose ranges are those of the batch.
BATCH = 32


@dataclass(frozen=True)
class Answers:
    """The five highest classes of every image, best first, in a ``.npy`` file of shape (N, min(5, classes))."""

    path: Path

    def load(self) -> np.ndarray:
        """(N, min(5, classes)) int32."""
        return np.load(self.path, allow_pickle=False)


def answers(
    engine: Engine, images: np.ndarray, workspace: Workspace, inputs, progress: Progress, images_digest: str
) -> np.ndarray:
    """The top classes of every image, computed now or found from an earlier run.

    Args:
        engine: what answers.
        images: (N, ...) float32, as the engine's input takes them.
        workspace: where the answers are kept.
        inputs: what beside variant and images decides them: runtime, options, machine.
        progress: told after every batch.
        images_digest: a digest of ``images``.

    Returns:
        (N, min(5, classes)) int32, best class first.
    """

    def make(folder: Path, key: str) -> Answers:
        path = folder / "top.npy"
        np.save(path, _top_classes(engine, images, progress), allow_pickle=False)
        return Answers(path)

    identity = [engine.variant.digest, inputs, images_digest]
    return workspace.artefact("answers", Answers, identity, make, code=[__name__]).load()


def _top_classes(engine: Engine, images: np.ndarray, progress: Progress) -> np.ndarray:
    graph, size = engine.variant.graph, min(BATCH, engine.batches.max)
    tops = []
    with open_engine(engine) as session:
        for start in range(0, len(images), size):
            progress("images", start, len(images))
            batch = images[start : start + size]
            short = max(engine.batches.min - len(batch), 0)  # a last batch below the engine's minimum is filled up
            filled = np.concatenate([batch, np.repeat(batch[-1:], short, axis=0)]) if short else batch
            logits = session.run({graph.input_name: np.ascontiguousarray(filled)})[graph.output_name]
            tops.append(top_five(logits[: len(batch)]))
    return np.concatenate(tops)


def top_five(logits: np.ndarray) -> np.ndarray:
    """(N, classes) -> the indices of the (at most five) highest logits per row, highest first."""
    return np.argsort(-logits, axis=1, kind="stable")[:, :5].astype(np.int32)
