"""What the harness adds to a call: its reported latency against a bare ONNX Runtime loop, at most 1 %.

The model is two matrix products of about a millisecond, faster than any ViT, so that an overhead would show. Both
loops call the same InferenceSession, interleaved; the overhead is the median of the ratios of neighbouring calls.
Also printed: the share of time that the timing loop spends outside of calls, and how long ``import workbench``
takes.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.tiny import Tiny, some_images, variant_of
from workbench.backends import build_engine, open_engine
from workbench.measuring.timing import time_calls

ROUNDS, CALLS, LIMIT = 300, 20, 0.01


def bare_loop(native, feeds: dict, calls: int) -> list[float]:
    seconds = []
    for _ in range(calls):
        begin = time.perf_counter()
        native.run(["logits"], feeds)
        seconds.append(time.perf_counter() - begin)
    return seconds


def overhead(session, feeds: dict) -> tuple[float, float]:
    """The median ratio of harness to bare loop minus 1, and the half-width of its 95 % interval."""
    native = session._shared.native  # the session that the harness calls
    ratios = []
    for index in range(ROUNDS):
        loops = [lambda: session.time(feeds, CALLS), lambda: bare_loop(native, feeds, CALLS)]
        order = (0, 1) if index % 2 else (1, 0)
        median = {which: statistics.median(loops[which]()) for which in order}
        ratios.append(median[0] / median[1])
    means = np.median(np.random.default_rng(0).choice(ratios, size=(2000, ROUNDS)), axis=1)
    return statistics.median(ratios) - 1, 1.96 * float(means.std())


def share_outside_calls(session, feeds: dict, seconds: float = 2.0) -> float:
    """The share of the time between the first and the last timed call that is spent outside of calls."""
    times: list[float] = []

    def note(stage: str, done: int, total: int) -> None:
        if stage == "latency":
            times.append(time.perf_counter())

    latency = time_calls(session, feeds, seconds=seconds, progress=note)
    return 1 - sum(latency.seconds) / (times[-1] - times[0])


def import_seconds(runs: int = 7) -> float:
    """Median seconds of ``import workbench`` in a fresh interpreter."""
    code = "import time; t = time.perf_counter(); import workbench; print(time.perf_counter() - t)"
    return statistics.median(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(runs)
    )


def main() -> int:
    feeds = {"images": some_images(8)}
    with tempfile.TemporaryDirectory() as folder:
        variant = variant_of(Tiny.of(hidden=8192).graph(Path(folder)))
        engine = build_engine(variant, "onnxruntime", Path(folder) / "workspace", options={"threads": 1})
        with open_engine(engine) as session:
            call = statistics.median(session.time(feeds, 200))
            ratio, half = overhead(session, feeds)
            outside = share_outside_calls(session, feeds)
    print(f"a call takes {1e3 * call:.2f} ms; the harness reports {100 * ratio:+.2f} % (± {100 * half:.2f}, 95 %)")
    print(f"time outside of calls while timing: {100 * outside:.2f} %")
    print(f"import workbench: {import_seconds():.3f} s")
    too_much, proven = max(ratio - half, outside) > LIMIT, max(ratio + half, outside) <= LIMIT
    print(f"overhead at most {100 * LIMIT:.0f} %: {'no' if too_much else 'yes' if proven else 'cannot tell'}")
    return int(too_much)


if __name__ == "__main__":
    sys.exit(main())
