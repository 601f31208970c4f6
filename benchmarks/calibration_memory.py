"""Peak memory of calibrating ViT-B/16, above the model: 512 images and an eighth, every Q/DQ site, all methods.

Each run is a process of its own, whose peak counts everything from the interpreter up; the graph comes from a file,
as for a model that was exported earlier. The images are a data set's, read as they are needed.

    python benchmarks/calibration_memory.py [--images 512]

It fails where the peak is more than 3 GB above the model's file, or grows with the number of images.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import workbench as wb
from workbench.models import vit
from workbench.records import encode

ROOT = Path(__file__).parents[1]
MOST, GROWTH = 3e9, 1.05
CODE = """
import json, resource, sys, time
import workbench as wb
from workbench.records import Graph, decode
folder, count = sys.argv[1:]
graph = decode(Graph, json.load(open(f"{folder}/graph.json")))
begin = time.perf_counter()
wb.calibrate(graph, wb.Calibration("shapes", samples=int(count)), f"{folder}/{count}", scope="attention")
seconds = time.perf_counter() - begin
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - graph.path.stat().st_size, seconds)
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=512)
    asked = parser.parse_args()
    spec = wb.model_spec("B/16")
    with tempfile.TemporaryDirectory() as folder:
        graph = wb.export_onnx(spec, vit.init(spec), folder)
        (Path(folder) / "graph.json").write_text(json.dumps(encode(graph)))
        few, many = (above_the_model(folder, count) for count in (max(1, asked.images // 8), asked.images))
    claims = {
        f"at most {MOST / 1e9:g} GB above the model: {many / 1e9:.2f}": many <= MOST,
        f"no more for {asked.images} images than for an eighth of them: {many / few:.2f} x": many <= GROWTH * few,
    }
    for claim, holds in claims.items():
        print("holds " if holds else "BROKEN", claim)
    return sum(not holds for holds in claims.values())


def above_the_model(folder: str, count: int) -> int:
    """Bytes of peak memory beyond the size of the model's file."""
    command = [sys.executable, "-c", CODE, folder, str(count)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"calibrating on {count} images failed:\n{done.stderr[-3000:]}")
    peak, seconds = map(float, done.stdout.split())
    print(f"{count:5d} images: {peak / 1e9:.2f} GB above the model, {seconds:.0f} s", flush=True)
    return int(peak)


if __name__ == "__main__":
    sys.exit(main())
