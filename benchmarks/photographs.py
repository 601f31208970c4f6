"""What each precision costs on photographs: a checkpoint trained on CIFAR-10, on all of its test images.

The table says of each recipe whether it was executed on ONNX Runtime or emulated number for number. Calibration
images are of the training batches; a model of ``workbench.models.training`` has not seen them. The results go to a
file of records that ``workbench.studies.recorded.read_run`` reads.

    workbench fetch-images cifar10
    python -m workbench.models.training --recipe cifar10 --out runs/cifar10-vit.npz
    python benchmarks/photographs.py runs/cifar10-vit.npz [--images 10000] [--out runs/cifar10.jsonl]

A run that was interrupted goes on where it stopped. It fails where FP16 loses more than 0.1 points, and INT8 in
either layout or int8-dynamic more than 1.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

import workbench as wb
from workbench.digests import digest
from workbench.graphs.quantization.emulation import emulated
from workbench.records import encode
from workbench.reporting.recorded import accuracy
from workbench.studies.recorded import read_run, write_run

ROOT = Path(__file__).parents[1]
LOOK = wb.Calibration("cifar10", samples=128)
NOISE = wb.Calibration("cifar10", "random-noise", samples=128)
#: Case -> the recipe, and the points of top-1 that it may lose.
CASES = {
    "fp32": (wb.Recipe(), 0.0),
    "fp16": (wb.Recipe("fp16"), 0.1),
    "int8": (wb.Recipe("int8", high_precision="fp32", calibration=LOOK), 1.0),
    "int8-cpu": (wb.Recipe("int8", layout="cpu", calibration=LOOK), 1.0),
    "int8-dynamic": (wb.Recipe("int8-dynamic"), 1.0),
    "int8-random-noise": (wb.Recipe("int8", high_precision="fp32", calibration=NOISE), None),
    "w4": (wb.Recipe("w4", layout="cpu"), None),
    "mxfp8": (wb.Recipe("mxfp8", high_precision="fp32", calibration=LOOK), None),
    "nvfp4": (wb.Recipe("nvfp4", high_precision="fp32", calibration=LOOK), None),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--workspace", type=Path, default=ROOT / "runs" / "photographs")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "cifar10.jsonl")
    asked = parser.parse_args()
    graph = wb.export_onnx(*wb.load_checkpoint(asked.checkpoint), asked.workspace)
    images = wb.images("cifar10", count=asked.images, preprocessing=graph.preprocessing)
    results, reference = [], images.labels
    for name, (recipe, _) in CASES.items():
        results.append(measured(name, recipe, graph, images, reference, asked.workspace))
        if name == "fp32":
            reference = np.array(results[0]["measurements"][0]["predictions"])
        write_run(asked.out, results)
    table = accuracy(read_run(asked.out))
    print(table.round(4).to_string(index=False))
    return broken(table)


def measured(name: str, recipe: wb.Recipe, graph, images, reference: np.ndarray, workspace: Path) -> dict:
    """A case as ``write_run`` takes it; one that an earlier call measured is read from the workspace."""
    kept = workspace / f"{name}-{digest(graph.digest, images.digest, recipe)}.json"
    if kept.exists():
        return json.loads(kept.read_text())
    began = time.perf_counter()
    run = emulated(wb.apply_recipe(graph, recipe, workspace), workspace)
    engine = wb.build_engine(run, "onnxruntime", workspace)
    found = wb.measure(
        engine, images.x, images.labels, batch=32, reference=reference, seconds=0, dataset=images.name
    )
    print(f"{name}: top-1 {found.top1:.2%}, {found.execution}, {time.perf_counter() - began:.0f} s", flush=True)
    engine_record = encode(engine, lambda path: Path(path).name)
    case = {"case": f"cifar10-{name}", "engine": engine_record, "measurements": [encode(found)], "streams": []}
    kept.write_text(json.dumps(case))
    return case


def broken(table) -> int:
    """How many limits are broken; each is printed."""
    rows = table.set_index("case")
    limits = {f"cifar10-{name}": points for name, (_, points) in CASES.items() if points is not None}
    late = [name for name, points in limits.items() if rows.loc[name, "points lost"] > points]
    for name in late:
        print(f"BROKEN: {name} loses {rows.loc[name, 'points lost']:.2f} points, at most {limits[name]:g}")
    return len(late)


if __name__ == "__main__":
    sys.exit(main())
