"""An engine's predictions: computed once for each variant and runtime, and kept as an artefact."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..backends import open_engine
from ..measuring import Subject
from ..measuring.accuracy import Predictions, predict
from ..progress import Progress
from ..records import Engine
from ..workspace import Workspace

#: Images per call where the engine takes as many and an image's logits do not depend on the images beside it.
BATCH = 32


@dataclass(frozen=True)
class KeptPredictions:
    """The top class of every image, int64 (N,) in a ``.npy`` file; the rest as in ``accuracy.Predictions``."""

    path: Path
    top5_hits: int
    constant: bool = False


def predictions_of(
    engine: Engine,
    images: np.ndarray,
    labels: np.ndarray,
    workspace: Workspace,
    inputs,
    progress: Progress,
    batch: int = BATCH,
) -> Predictions:
    """An engine's predictions for images, computed now or found from an earlier run.

    Args:
        engine: what predicts.
        images: (N, H, W, 3) float32, normalised.
        labels: (N,) int64.
        workspace: where the predictions are kept.
        inputs: what else decides them besides the variant: images, runtime, options, machine.
        progress: see ``progress.Progress``; stage ``accuracy``, in images.
        batch: images per call, where an image's logits depend on the images beside it; else a large batch is taken.

    Raises:
        WorkbenchError: the engine cannot be opened here, or its logits are NaN or infinite.
    """

    own_size = engine.variant.recipe.depends_on_batch
    size = min(batch if own_size else BATCH, engine.batches.max)

    def make(folder: Path, key: str) -> KeptPredictions:
        subject, path = Subject.of(engine), folder / "classes.npy"
        with open_engine(engine) as session, subject.exact(session) as exact:
            logits = subject.logits(exact)
            at_least = engine.batches.min
            found = predict(logits, images, labels, batch=size, at_least=at_least, progress=progress)
        np.save(path, found.classes, allow_pickle=False)
        return KeptPredictions(path, found.top5_hits, found.constant)

    decides = [engine.variant.digest, inputs, size if own_size else None]
    kept = workspace.artefact("predictions", KeptPredictions, decides, make)
    return Predictions(np.load(kept.path, allow_pickle=False), kept.top5_hits, kept.constant)
