"""A study to be killed: ``python -m tests.studies.kill FOLDER [CALL]`` kills itself at that call of progress."""

import os
import signal
import sys
from pathlib import Path

import numpy as np

import workbench as wb
from tests.tiny import SIZE, Tiny
from workbench.measuring import timing

RECIPES = (wb.Recipe(), wb.Recipe("int8-dynamic"))


def study(folder: Path) -> wb.Study:
    """Four cells on a tiny model; the same in every process."""
    tiny = Tiny.of()
    images = np.random.default_rng(1).normal(size=(60, SIZE, SIZE, 3)).astype(np.float32)
    labels = tiny.logits(images).argmax(axis=1)
    (folder / "model").mkdir(exist_ok=True)
    given = {"recipes": RECIPES, "images": images, "labels": labels, "batches": (1, 8), "seconds": 0.05}
    return wb.Study(tiny.graph(folder / "model"), folder / "workspace", **given)


if __name__ == "__main__":
    timing.WINDOW_S = 0.002  # the warm-up of a model that takes 20 µs
    calls, deadly = 0, int(sys.argv[2]) if len(sys.argv) > 2 else -1

    def progress(stage, done, total):
        global calls
        if calls == deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        print(stage, flush=True)

    study(Path(sys.argv[1])).run(progress)
