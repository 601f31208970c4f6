"""Everything that needs a GPU, in one command: ViT-B/32 made by this project, on TensorRT.

Here, where the whole workbench is installed (some minutes, a file of about 20 MB)::

    python benchmarks/gpu_host.py prepare gpu-host.zip

On the GPU host, in a checkout, with a Python that has NumPy, pycuda and TensorRT 8.6 or later::

    python benchmarks/gpu_host.py run gpu-host.zip --out results

It builds and measures FP32, FP16 and INT8 at batches 1, 32 and 64, streams 1 to 8 and every layer; checks the
backend's contract, the sharing of weights and that nothing leaks over 30 openings; compares logits with ONNX
Runtime's FP32 ones; and writes ``results/gpu_host.json`` and a table. With ``--python OTHER`` each engine is built
and measured by a host (``studies.hosts``) on that interpreter, to which the light half travels.

The weights are one short random tile, repeated, so that the files compress to almost nothing: its repeats lie
within deflate's window of 32 KiB even where q, k and v are side by side, and its length is prime, so that no two
rows are equal.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.gpu import checks
from workbench.backends.kernel_record import KERNELS, recorded_kernels
from workbench.datasets.preprocessing import normalise
from workbench.records import Batches, Engine, Measurement, Recipe, Variant, decode, encode
from workbench.remote.job import EvaluationSet, Job, Report, run_job

TILE = 1021
MODEL, OPSET = "B/32", 17
IMAGES = 96
BATCHES, MEASURE, STREAMS = Batches(1, 32, 64), (1, 32, 64), (1, 2, 4, 8)
RECIPES = {
    "fp32": Recipe("fp32"),
    "fp16": Recipe("fp16"),
    "int8": Recipe("int8"),
    "int8-high-fp32": Recipe("int8", high_precision="fp32"),
    "int8-attention": Recipe("int8", scope="attention"),
}
#: Error of a logit against FP32 on ONNX Runtime, as a share of the largest. FP16 rounded after every operator errs
#: by 0.004 here, TensorRT 8.6 by 0.034, whatever type LayerNorm has and from an FP32 file with the FP16 flag alike:
#: that is how its kernels accumulate. INT8 has 7 bits and many layers.
TOLERANCE = {"fp32": 0.02, "fp16": 0.05, "int8": 0.5, "int8-high-fp32": 0.5, "int8-attention": 0.7}


# ---- here --------------------------------------------------------------------------------------------------------


def prepare(target: Path) -> None:
    import workbench as wb
    from workbench.models.vit import model_spec

    spec, images = model_spec(MODEL), wb.images("shapes", count=IMAGES, size=224)
    calibration = wb.images("shapes", split="calibration", count=32, size=224).x
    with tempfile.TemporaryDirectory() as folder:
        graph = wb.export_onnx(spec, repeating_parameters(spec), folder, opset=OPSET, images=images.x[:8])
        reference = wb.apply_recipe(graph, RECIPES["fp32"], folder)
        with wb.open_engine(wb.build_engine(reference, "onnxruntime", folder, batches=BATCHES)) as session:
            logits = [session.run({"images": images.x[i : i + 32]})["logits"] for i in range(0, IMAGES, 32)]
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            np.savez(Path(folder) / "evaluation.npz", pixels=images.pixels, logits=np.concatenate(logits))
            archive.write(Path(folder) / "evaluation.npz", "evaluation.npz")
            for name, recipe in RECIPES.items():
                variant = wb.apply_recipe(graph, recipe, folder, calibration=calibration)
                print(f"{name}: opset {variant.opset}, {variant.path.stat().st_size >> 20} MiB", *variant.notes)
                for file in sorted(variant.path.parent.iterdir()):
                    if file.name != "record.json":
                        archive.write(file, f"{name}/{file.name}")
                record = encode(variant, lambda path, name=name: f"{name}/{Path(path).name}")
                archive.writestr(f"{name}.json", json.dumps(record))
    print(f"{target}: {target.stat().st_size >> 20} MiB")


def repeating_parameters(spec) -> dict:
    """vit_jax's parameters with kernels made of one tile, scaled as Glorot and Bengio (2010) have it."""
    from flax import traverse_util

    from workbench.models.vit import init

    tile = np.clip(np.random.default_rng(0).integers(-134, 135, TILE), -127, 127) / 127
    flat = traverse_util.flatten_dict(init(spec), sep="/")
    for index, (path, value) in enumerate(sorted(flat.items())):
        if path.endswith("kernel"):
            # logits of random weights are large, and so would be their rounding errors
            limit = float(np.abs(value).max()) * (0.1 if path.startswith("head") else 1)
            flat[path] = np.resize(limit * np.roll(tile, 997 * index), value.shape).astype(np.float32)
    return traverse_util.unflatten_dict(flat, sep="/")


# ---- on the GPU host ---------------------------------------------------------------------------------------------


def run(archive: Path, out: Path, names: list[str], backend: str, python: str | None) -> int:
    from workbench.remote.doctor import rows, table

    print(table(rows()), flush=True)
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with zipfile.ZipFile(archive) as zipped:
            zipped.extractall(folder)
        results = {"machine": rows(), "engines": {}, "checks": {}}
        for recipe in names:
            try:
                _one(recipe, folder, out, backend, python, results)
            except Exception as error:
                traceback.print_exc()
                results["engines"][recipe] = {"error": str(error)}
            (out / "gpu_host.json").write_text(json.dumps(results, indent=1))
    text = summary(results)
    (out / "gpu_host.md").write_text(text)
    print(text)
    failed = [n for n, e in results["engines"].items() if "error" in e or "error" in results["checks"].get(n, {})]
    return 1 if failed else 0


def _one(recipe: str, folder: Path, out: Path, backend: str, python: str | None, results: dict) -> None:
    variant = decode(Variant, json.loads((folder / f"{recipe}.json").read_text()), lambda path: folder / path)
    with np.load(folder / "evaluation.npz") as arrays:
        images, logits = normalise(arrays["pixels"], variant.graph.preprocessing), arrays["logits"]
    evaluation, begin = EvaluationSet(images, None, logits.argmax(axis=1)), time.perf_counter()
    print(f"== {recipe}", flush=True)
    if python:
        report = _on_host(python, backend, variant, evaluation, folder)
    else:
        job = Job(variant, backend, BATCHES, MEASURE, STREAMS, layers=True, dataset="shapes")
        report = run_job(job, folder / "workspace", evaluation)
    if report.refusal:
        raise RuntimeError(f"{report.refusal.reason}; {report.refusal.remedy}")
    engine = report.engine
    for file in (engine.log_path, *map(engine.path.with_name, ("layers.json", KERNELS))):
        if file.is_file() and file.stat().st_size < 12 << 20:
            (out / f"{recipe}-{file.name}").write_bytes(file.read_bytes())
    results["engines"][recipe] = {
        "build_seconds": engine.build_seconds,
        "engine_bytes": engine.path.stat().st_size,
        "measurements": [_figures(m) for m in report.measurements],
        "streams": [_figures(m) for m in report.streams],
        "layers": [dict(row) for row in report.layers],
        "kernels": _kernels(report),
        "notes": list(variant.notes),
        "seconds": time.perf_counter() - begin,
    }
    record = folder / f"{recipe}-engine.json"
    record.write_text(json.dumps(encode(engine)))
    # in a process of its own: what is left over there shows what the driver keeps, not what earlier checks left
    command = [python or sys.executable, str(Path(__file__).resolve()), "check", recipe, str(record), str(folder)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=500)
    found = child.stdout.strip().splitlines()
    results["checks"][recipe] = (
        json.loads(found[-1]) if child.returncode == 0 and found else {"error": child.stderr[-3000:]}
    )
    print(json.dumps(results["checks"][recipe], indent=1), flush=True)


def _kernels(report: Report) -> dict:
    """How many kernels a call launches, and in which types they multiply; or why they are not known."""
    if report.kernels_refusal:
        return {"refusal": report.kernels_refusal.reason}
    rows = recorded_kernels(report.engine).get(report.engine.batches.opt, ())
    multiplied = Counter(row["type"] for row in rows if row["type"])
    return {
        "launched": len(rows),
        "attention": sum(row["attention"] for row in rows),
        "seconds": sum(row["seconds"] for row in rows),
        "types": dict(multiplied),
    }


def _on_host(python: str, backend: str, variant: Variant, evaluation: EvaluationSet, folder: Path):
    from workbench.remote.host import Host

    host = Host("gpu", backend, (python,), cache=str(folder / "cache"))
    return host.run(
        variant,
        folder / "workspace",
        batches=BATCHES,
        measure=MEASURE,
        streams=STREAMS,
        layers=True,
        images=evaluation.images,
        reference=evaluation.reference,
        dataset="shapes",
    )


def check(recipe: str, record: Path, folder: Path) -> int:
    """Every check on one engine; the last line printed is JSON."""
    engine = decode(Engine, json.loads(record.read_text()))
    with np.load(folder / "evaluation.npz") as arrays:
        images, logits = normalise(arrays["pixels"], engine.variant.graph.preprocessing), arrays["logits"]
    found = {
        "contract": checks.contract(engine, images, logits, TOLERANCE[recipe]),
        "sharing": checks.sharing(engine, images),
        "leak": checks.leak(engine, images),
        "profile": checks.profile(engine, images),
        "kernels": checks.kernels(engine, images),
    }
    print(json.dumps(found))
    return 0


def _figures(m: Measurement) -> dict:
    return {
        "batch": m.batch,
        "streams": m.streams,
        "calls": len(m.latencies_s),
        "p50_ms": m.p50_ms,
        "p90_ms": m.p90_ms,
        "p99_ms": m.p99_ms,
        "device_p50_ms": 1e3 * float(np.median(m.device_s)) if m.device_s else None,
        "images_per_second": m.images_per_second,
        "compute_images_per_second": m.compute_images_per_second,
        "agreement": m.agreement if m.reference_predictions else None,
        "memory_bytes": m.memory_bytes,
        "environment": dict(m.environment),
        "notes": list(m.notes),
    }


def summary(results: dict) -> str:
    """Tables of throughput, streams and checks in Markdown."""
    lines = [
        f"{MODEL}, opset {OPSET}; medians, calls one after the other; agreement with ONNX Runtime's FP32 on"
        f" {IMAGES} images",
        "",
        "| engine | batch | p50 ms | p99 ms | compute ms | img/s end to end | img/s compute | calls | agreement |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    engines = {name: e for name, e in results["engines"].items() if "error" not in e}
    for name, e in engines.items():
        for m in e["measurements"]:
            lines.append(
                f"| {name} | {m['batch']} | {m['p50_ms']:.3f} | {m['p99_ms']:.3f} | {m['device_p50_ms']:.3f} |"
                f" {m['images_per_second']:,.0f} | {m['compute_images_per_second']:,.0f} | {m['calls']} |"
                f" {m['agreement']:.3f} |"
            )
    lines += ["", f"Streams, batch {BATCHES.opt}:", "", "| engine | " + " | ".join(map(str, STREAMS)) + " |"]
    lines.append("| --- |" + " --- |" * len(STREAMS))
    for name, e in engines.items():
        rates = (
            f"{m['images_per_second']:,.0f} img/s end to end, {m['compute_images_per_second']:,.0f} of compute,"
            f" p50 {m['p50_ms']:.2f} ms"
            for m in e["streams"]
        )
        lines.append(f"| {name} | " + " | ".join(rates) + " |")
    lines += ["", "Builds and checks:", ""]
    for name, e in results["engines"].items():
        if "error" in e:
            lines.append(f"- {name}: FAILED: {e['error']}")
            continue
        found = results["checks"].get(name, {})
        facts = found.get("error") or json.dumps({k: v for k, v in found.items() if k != "profile"})
        size, kernels = f"{e['engine_bytes'] >> 20} MiB", json.dumps(e["kernels"])
        lines.append(f"- {name}: built in {e['build_seconds']:.0f} s, {size}; kernels {kernels}; {facts}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("prepare").add_argument("archive", type=Path)
    runs = verbs.add_parser("run")
    runs.add_argument("archive", type=Path)
    runs.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "results")))
    runs.add_argument("--only", nargs="+", choices=RECIPES, default=list(RECIPES))
    runs.add_argument("--backend", default="tensorrt", choices=("tensorrt", "tensorrt-rtx"))
    runs.add_argument("--python", help="build and measure on a host that is this interpreter")
    one = verbs.add_parser("check")
    one.add_argument("recipe")
    one.add_argument("record", type=Path)
    one.add_argument("folder", type=Path)
    asked = parser.parse_args()
    if asked.verb == "prepare":
        prepare(asked.archive)
        return 0
    if asked.verb == "run":
        return run(asked.archive, asked.out, asked.only, asked.backend, asked.python)
    return check(asked.recipe, asked.record, asked.folder)


if __name__ == "__main__":
    sys.exit(main())
