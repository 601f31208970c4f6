"""Served against bare: images/s of `workbench serve` under load, and p99 of a request at half of that load.

Served engines should keep 90 % of the images/s of the bare ONNX Runtime session at its best batch, and the p99 of a
request at half load should be within 1.5 times the bare session's for the same images. The load comes from hey
(https://github.com/rakyll/hey, Debian's package), a process of its own, over loopback: it, the service and the
engine share the machine's cores, while the bare session has them alone. Rounds of bare and served are interleaved,
and a ratio is the median over rounds, with the smallest and the largest.

Two kinds of request are sent: one image (many clients, the service makes batches), and a whole batch (few clients).
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import workbench as wb
from workbench.deployment.open_inference import HEADER_LENGTH
from workbench.records import Engine, quantile

ROOT = Path(__file__).parents[1]
BATCHES, PRECISIONS = (1, 2, 4, 8, 16), ("fp32", "int8-dynamic")
KEPT, SLOWER = 0.9, 1.5


@dataclass(frozen=True)
class Load:
    """What came back in a run of some seconds: images/s, and the seconds of every call or request."""

    images_per_second: float
    seconds: list[float]

    @property
    def p99(self) -> float:
        return quantile(self.seconds, 0.99)


def bare_load(session, name: str, images: np.ndarray, seconds: float) -> Load:
    """Calls of the bare session one after the other."""
    times, begin = [], time.perf_counter()
    while (now := time.perf_counter()) < begin + seconds:
        session.run({name: images})
        times.append(time.perf_counter() - now)
    return Load(len(images) * len(times) / (time.perf_counter() - begin), times)


def best_batch(session, name: str, images: np.ndarray, seconds: float) -> int:
    found = {batch: bare_load(session, name, images[:batch], seconds) for batch in BATCHES}
    return max(found, key=lambda batch: found[batch].images_per_second)


def write_body(path: Path, name: str, images: np.ndarray) -> int:
    """A request in the binary form of the Open Inference Protocol, as a file; the length of its JSON."""
    content = images.tobytes()
    parameters = {"binary_data_size": len(content)}
    tensor = {"name": name, "datatype": "UINT8", "shape": list(images.shape), "parameters": parameters}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    path.write_bytes(head + content)
    return len(head)


@contextlib.contextmanager
def served(bundle: Path, batch: int) -> Iterator[str]:
    """`workbench serve` in a process of its own; the address of the model."""
    command = [sys.executable, "-m", "workbench", "serve", str(bundle), "--port", "0", "--batch", str(batch)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        try:
            assert process.stdout
            yield next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
        finally:
            process.terminate()


def hey(address: str, body: Path, head: int, images: int, clients: int, seconds: float, rate: float = 0.0) -> Load:
    """Requests from hey; ``rate`` is requests/s of each client, 0 as many as are answered."""
    command = ["hey", "-z", f"{seconds:.3g}s", "-c", str(clients), "-o", "csv", "-m", "POST", "-D", str(body)]
    command += ["-T", "application/octet-stream", "-H", f"{HEADER_LENGTH}: {head}"]
    command += ["-q", f"{rate:.4f}"] if rate else []
    text = subprocess.run([*command, address], capture_output=True, text=True, check=True).stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    failed = [row for row in rows if row["status-code"] != "200"]
    if failed or not rows:
        sys.exit(f"{len(failed)} of {len(rows)} requests failed: {failed[:1]}")
    times = [float(row["response-time"]) for row in rows]
    ends = [float(row["offset"]) + took for row, took in zip(rows, times)]
    return Load(images * len(rows) / max(ends), times)


def spread(values: list[float]) -> str:
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


@dataclass(frozen=True)
class Subject:
    """A bare session of an engine, its input's name, and images, normalised and as pixels."""

    session: object
    name: str
    images: np.ndarray
    pixels: np.ndarray

    def bare(self, count: int, seconds: float) -> Load:
        return bare_load(self.session, self.name, self.images[:count], seconds)


def ratios(subject: Subject, address: str, body: Path, batch: int, count: int, run) -> tuple[list, list]:
    """Served by bare images/s, and p99 at half load by bare p99, of requests with ``count`` images, by round."""
    head = write_body(body, subject.name, subject.pixels[:count])
    clients, kept, slower = (2 * batch + 2 if count < batch else 2), [], []
    for _ in range(run.rounds):
        bare = subject.bare(batch, run.seconds)
        full = hey(address, body, head, count, clients, run.seconds)
        kept.append(full.images_per_second / bare.images_per_second)
        alone = subject.bare(count, run.seconds)
        rate = full.images_per_second / count / 2
        slower.append(hey(address, body, head, count, 1, run.seconds, rate).p99 / alone.p99)
    return kept, slower


def measure(engine: Engine, pixels: np.ndarray, folder: Path, run) -> bool:
    """Print both ratios of an engine for both kinds of request; whether all are within the limits."""
    graph, good = engine.variant.graph, True
    images = wb.normalise(pixels, graph.preprocessing)
    bundle = wb.export_bundle(engine, folder / "bundle", images=images)
    with wb.open_engine(engine) as session:
        subject = Subject(session, graph.input_name, images, pixels)
        batch = best_batch(session, graph.input_name, images, run.seconds / 2)
        with served(bundle, batch) as address:
            for count in sorted({1, batch}):
                kept, slower = ratios(subject, address, folder / f"request{count}", batch, count, run)
                good &= statistics.median(kept) >= KEPT and statistics.median(slower) <= SLOWER
                print(f"{engine.label}, best batch {batch}, requests of {count}: served / bare {spread(kept)},")
                print(f"  p99 at half load / bare p99 {spread(slower)}, {run.rounds} rounds of {run.seconds:g} s")
    return good


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if not shutil.which("hey"):
        sys.exit("There is no load generator. Remedy: apt-get install hey")
    spec, params = wb.load_checkpoint(ROOT / "data/checkpoints/shapes-vit.npz")
    pixels = wb.images("shapes", split="evaluation", count=64, size=spec.image_size).pixels
    with tempfile.TemporaryDirectory() as folder:
        graph, good = wb.export_onnx(spec, params, folder), []
        for precision in PRECISIONS:
            variant = wb.apply_recipe(graph, wb.Recipe(precision, layout="cpu"), folder)
            engine = wb.build_engine(variant, "onnxruntime", folder)
            home = Path(folder) / f"served-{precision}"
            home.mkdir()
            good.append(measure(engine, pixels, home, options))
    print(f"limits: served / bare at least {KEPT}, p99 at most {SLOWER} times: {'kept' if all(good) else 'missed'}")
    return int(not all(good))


if __name__ == "__main__":
    sys.exit(main())
