"""A few calls of a saved engine in a process of their own, for a profiler that starts the program itself.

``python -m workbench.backends.tensorrt.traced_call FOLDER`` reads what ``save_call`` wrote. The plan is loaded, not
built: a builder launches thousands of kernels of its own.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ...records import Engine, decode, encode
from ..hardware.kernel_trace import NCU_CALLS

#: The folder that holds this package.
ROOT = Path(__file__).parents[3]
_ENGINE, _FEEDS = "engine.json", "feeds.npz"


def save_call(engine: Engine, feeds: Mapping[str, np.ndarray], folder: Path) -> list[str]:
    """Write an engine's record and the feeds of a call into a folder; the command that makes the call.

    The engine runs without a CUDA graph there, so that each kernel is a launch of its own.
    """
    plain = dataclasses.replace(engine, options={**engine.options, "cuda_graph": False})
    (folder / _ENGINE).write_text(json.dumps(encode(plain, lambda path: str(path.resolve()))))
    np.savez(folder / _FEEDS, **feeds)  # ty: ignore[invalid-argument-type] -- the stub takes an array for allow_pickle
    return [sys.executable, "-m", __name__, str(folder)]


def main(folder: Path) -> None:
    """Make the call ``NCU_CALLS`` times."""
    from ..engines import open_engine

    engine = decode(Engine, json.loads((folder / _ENGINE).read_text()))
    with np.load(folder / _FEEDS, allow_pickle=False) as arrays:
        feeds = {name: arrays[name] for name in arrays.files}
    with open_engine(engine) as session:
        for _ in range(NCU_CALLS):
            session.run(feeds)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
