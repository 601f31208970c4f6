"""Everything that needs a GPU, in one command: this project's ViTs on TensorRT, and beside them JAX and PyTorch.

Here, where the whole workbench is installed (some minutes, a file of some MB)::

    python benchmarks/gpu_host.py prepare gpu-host.zip

On the GPU host, in a checkout, with a Python that has NumPy, pycuda and TensorRT 8.6 or later::

    python benchmarks/gpu_host.py run gpu-host.zip --out results

Each case is built, measured at its batches and with its streams, and its kernels are listed; ``results/CASE.json``
holds the records. With ``--checks`` the backend's contract, the sharing of weights, and that nothing leaks over 30
openings are checked too. With ``--python OTHER`` each engine is built and measured by a host (``studies.hosts``) on
that interpreter, to which the light half travels. The shipped model is measured on images that are rendered first::

    python benchmarks/gpu_host.py render shapes.npz --count 10000         # needs Pillow
    python benchmarks/gpu_host.py run gpu-host.zip --evaluation shapes.npz --only shapes-fp16 shapes-int8

The baselines need a Python with JAX or PyTorch, and so does the sweep over resolutions of notebook 01::

    python benchmarks/gpu_host.py baselines --only b32-jax-bfloat16 b32-torch-float16-compiled --out results
    python benchmarks/gpu_host.py attention --out results

Back here, what was found becomes the records that come with the workbench (``wb.recorded``)::

    python benchmarks/gpu_host.py keep results data/recorded/h200.jsonl

The weights of the other models are one short random tile, repeated, so that the files compress to almost nothing:
its repeats lie within deflate's window of 32 KiB even where q, k and v are side by side, and its length is prime,
so that no two rows are equal.
"""

from __future__ import annotations

import argparse
import dataclasses
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from tests.gpu import checks
from workbench.backends.hardware.cpu import environment
from workbench.backends.kernel_record import recorded_kernels
from workbench.datasets.preprocessing import normalise
from workbench.measuring.throughput import measure_streams
from workbench.records import Batches, Engine, Measurement, Recipe, Variant, decode, encode
from workbench.remote.job import EvaluationSet, Job, Report, run_job

ROOT = Path(__file__).parents[1]
TILE, OPSET, IMAGES = 1021, 17, 32
SHIPPED = "shapes"
INT8 = Recipe("int8", scope="attention")


class Case(NamedTuple):
    """An engine to build and measure.

    Attributes:
        model: of the published sizes, or the shipped one.
        recipe: how it is quantized.
        batches: what it is built for.
        measure: batches at which it is measured.
        streams: numbers of streams, at the batch that it is tuned for.
        input: ``float32`` or ``uint8``.
        of: the case whose file it is built from; empty for a file of its own.
        level: TensorRT's optimization level; None leaves it at 3.
    """

    model: str
    recipe: Recipe
    batches: Batches
    measure: tuple[int, ...]
    streams: tuple[int, ...] = (1, 2, 4, 8)
    input: str = "float32"
    of: str = ""
    level: int | None = None


WIDE, ALONE = Batches(1, 128, 256, exact=(32, 128)), Batches(128, 128, 128)
#: A profile for the batch that the floors are at, and one for the others; a third one builds half as long again.
TWO = Batches(1, 128, 256, exact=(128,))
SIZES = (1, 8, 32, 128, 256)
CASES = {
    "b32-fp16": Case("B/32", Recipe("fp16"), WIDE, SIZES),
    "b32-fp16-uint8": Case("B/32", Recipe("fp16"), ALONE, (128,), input="uint8"),
    "b32-int8": Case("B/32", INT8, WIDE, SIZES),
    "b32-int8-uint8": Case("B/32", INT8, ALONE, (128,), input="uint8"),
    "b32-int8-linear": Case("B/32", Recipe("int8"), ALONE, (128,)),
    "b32-int8-linear-uint8": Case("B/32", Recipe("int8"), ALONE, (128,), input="uint8"),
    "b32-fp16-range": Case("B/32", Recipe("fp16"), Batches(1, 128, 256), SIZES, (), of="b32-fp16"),
    "b32-fp16-level5": Case("B/32", Recipe("fp16"), ALONE, (128,), (), of="b32-fp16", level=5),
    "b32-int8-level5": Case("B/32", INT8, ALONE, (128,), (), of="b32-int8", level=5),
    "b32-fp32": Case("B/32", Recipe("fp32"), Batches(1, 128, 256), SIZES, (1, 4)),
    "shapes-fp32": Case(SHIPPED, Recipe("fp32"), Batches(1, 128, 256), (1, 256), ()),
    "shapes-fp16": Case(SHIPPED, Recipe("fp16"), Batches(1, 128, 256), (1, 256), ()),
    "shapes-int8": Case(SHIPPED, INT8, Batches(1, 128, 256), (1, 256), ()),
    "shapes-int8-linear": Case(SHIPPED, Recipe("int8"), Batches(1, 128, 256), (1, 256), ()),
    "b16-fp16": Case("B/16", Recipe("fp16"), TWO, SIZES),
    "b16-int8": Case("B/16", INT8, TWO, SIZES),
    "l16-fp16": Case("L/16", Recipe("fp16"), TWO, SIZES),
    "l16-int8": Case("L/16", INT8, TWO, SIZES),
    "l16-int8-linear": Case("L/16", Recipe("int8"), ALONE, (128,), (1, 4)),
    "h14-fp16": Case("H/14", Recipe("fp16"), Batches(1, 32, 128), (1, 8, 32, 128), (1, 4)),
}
#: Error of a logit against FP32 on ONNX Runtime, as a share of the largest. FP16 rounded after every operator errs
#: by 0.004 here, TensorRT 8.6 by 0.034, whatever type LayerNorm has and from an FP32 file with the FP16 flag alike:
#: that is how its kernels accumulate. INT8 has 7 bits and many layers.
TOLERANCE = {"fp32": 0.02, "fp16": 0.05, "int8": 0.7}
#: Model, framework and type, and whether ``torch.compile`` compiles it.
BASELINES = {
    f"{model.lower().replace('/', '')}-{framework}-{dtype}{'-compiled' * compiled}": (
        model,
        framework,
        dtype,
        compiled,
    )
    for model in ("B/32", "L/16")
    for framework, dtype, compiled in (
        ("jax", "float32", False),
        ("jax", "bfloat16", False),
        ("torch", "float32", False),
        ("torch", "float16", False),
        ("torch", "float16", True),
    )
}

PRECISIONS = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


class Sweep(NamedTuple):
    """A model whose parts are timed over resolution: the first ``depth`` blocks, ``batch`` images a call."""

    model: str
    depth: int
    batch: int
    dtype: str
    sizes: tuple[int, ...] = (224, 320, 416, 512, 640, 768, 896)


SWEEPS = {
    "attention-b16-bfloat16": Sweep("B/16", 4, 8, "bfloat16"),
    "attention-b16-float32": Sweep("B/16", 4, 8, "float32"),
}

# ---- here --------------------------------------------------------------------------------------------------------


def prepare(target: Path, names: list[str]) -> None:
    names = list(dict.fromkeys(CASES[name].of or name for name in names))
    with (
        tempfile.TemporaryDirectory() as folder,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive,
    ):
        for model in dict.fromkeys(CASES[name].model for name in names):
            graphs = _exported(model, {CASES[n].input for n in names if CASES[n].model == model}, folder)
            evaluation = _evaluation(model, graphs["float32"], folder)
            np.savez(Path(folder) / "evaluation.npz", **evaluation)
            archive.write(Path(folder) / "evaluation.npz", f"{_folder(model)}.npz")
            for name in (n for n in names if CASES[n].model == model):
                _pack(archive, name, graphs[CASES[name].input], folder)
    print(f"{target}: {target.stat().st_size >> 20} MiB")


def _folder(model: str) -> str:
    return model.lower().replace("/", "")


def _exported(model: str, inputs: set[str], folder: str) -> dict:
    import workbench as wb
    from workbench.models.vit import model_spec

    if model == SHIPPED:
        spec, params = wb.load_checkpoint(ROOT / "data" / "checkpoints" / "shapes-vit.npz")
    else:
        spec = model_spec(model)
        params = repeating_parameters(spec)
    return {
        kind: wb.export_onnx(spec, params, folder, opset=OPSET, input=kind, images=_pixels(spec, 4, kind))
        for kind in sorted({"float32", *inputs})
    }


def _pixels(spec, count: int, kind: str) -> np.ndarray:
    import workbench as wb

    images = wb.images("shapes", count=count, size=spec.image_size)
    return images.x if kind == "float32" else images.pixels


def _evaluation(model: str, graph, folder: str) -> dict[str, np.ndarray]:
    """Pixels, and what FP32 on ONNX Runtime answers."""
    import workbench as wb

    images = wb.images("shapes", count=IMAGES, size=graph.spec.image_size)
    with wb.open_engine(
        wb.build_engine(wb.apply_recipe(graph, Recipe("fp32"), folder), "onnxruntime", folder)
    ) as session:
        logits = [session.run({"images": images.x[i : i + 8]})["logits"] for i in range(0, IMAGES, 8)]
    return {"pixels": images.pixels, "logits": np.concatenate(logits)}


def _pack(archive: zipfile.ZipFile, name: str, graph, folder: str) -> None:
    import workbench as wb

    prepared = dataclasses.replace(graph.preprocessing, classes=())
    calibration = wb.images("shapes", split="calibration", count=32, preprocessing=prepared).x
    variant = wb.apply_recipe(graph, CASES[name].recipe, folder, calibration=calibration)
    print(f"{name}: opset {variant.opset}, {variant.path.stat().st_size >> 20} MiB", *variant.notes, flush=True)
    for file in sorted(variant.path.parent.iterdir()):
        if file.name != "record.json":
            archive.write(file, f"{name}/{file.name}")
    record = encode(variant, lambda path: f"{name}/{Path(path).name}")
    archive.writestr(f"{name}.json", json.dumps(record))


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


def run(asked: argparse.Namespace) -> int:
    from workbench.remote.doctor import rows, table

    print(table(rows()), flush=True)
    asked.out.mkdir(parents=True, exist_ok=True)
    failed = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = [(CASES[case].of or case, _folder(CASES[case].model)) for case in asked.only]
        wanted = {part for case, model in files for part in (case, f"{case}.json", f"{model}.npz")}
        with zipfile.ZipFile(asked.archive) as zipped:
            zipped.extractall(folder, [each for each in zipped.namelist() if each.split("/")[0] in wanted])
        for case in asked.only:
            record = {"case": case, "machine": rows()}
            try:
                for found in _found(case, folder, asked):
                    record |= found
                    write_record(asked.out, record)
            except Exception as error:
                traceback.print_exc()
                failed.append(case)
                record["error"] = str(error)
                write_record(asked.out, record)
            print(summary(record), flush=True)
    return 1 if failed else 0


def write_record(out: Path, record: dict) -> None:
    """Write what is known of a case to ``out/CASE.json.gz``, whole or not at all."""
    target = out / f"{record['case']}.json.gz"
    draft = target.with_suffix(".part")
    with gzip.open(draft, "wt") as file:
        json.dump(record, file)
    draft.replace(target)


def _found(name: str, folder: Path, asked: argparse.Namespace) -> Iterator[dict]:
    """The findings of a case, in parts, so that a run that is cut short keeps the earlier ones."""
    case, begin = CASES[name], time.perf_counter()
    record = json.loads((folder / f"{case.of or name}.json").read_text())
    variant = decode(Variant, record, lambda path: folder / path)
    evaluation, logits = _images(case, variant, folder, asked.evaluation)
    print(f"== {name}", flush=True)
    report = _built(case, variant, evaluation, folder, asked)
    engine = report.engine
    yield {
        "engine": encode(engine, lambda path: Path(path).name),
        "measurements": encode(report.measurements),
        "streams": encode(report.streams),
        "layers": [dict(row) for row in report.layers],
        "kernels": recorded_kernels(engine),
        "kernels_refusal": report.kernels_refusal and report.kernels_refusal.reason,
        "log": engine.log_path.read_text(errors="replace")[-20_000:],
        "logits": _logit_error(engine, evaluation.images, logits),
        "seconds": time.perf_counter() - begin,
    }
    streams = list(report.streams)
    for count in case.streams if not streams else ():
        streams += measure_streams(engine, [count], images=evaluation.images, seconds=asked.seconds)
        yield {"streams": encode(tuple(streams)), "seconds": time.perf_counter() - begin}
    if asked.checks:
        yield {"checks": _checked(name, engine, folder, asked.python), "seconds": time.perf_counter() - begin}


def _built(
    case: Case, variant: Variant, evaluation: EvaluationSet, folder: Path, asked: argparse.Namespace
) -> Report:
    """Build and measure here, streams left out, or all of it on a host that is another interpreter."""
    if asked.python:
        report = _on_host(asked.python, asked.backend, case, variant, evaluation, folder)
    else:
        job = Job(
            variant,
            asked.backend,
            case.batches,
            case.measure,
            layers=True,
            options={} if case.level is None else {"optimization_level": case.level},
            seconds=asked.seconds,
            dataset="shapes",
        )
        report = run_job(job, folder / "workspace", evaluation)
    if report.refusal:
        raise RuntimeError(f"{report.refusal.reason}; {report.refusal.remedy}")
    return report


def _images(
    case: Case, variant: Variant, folder: Path, rendered: Path | None
) -> tuple[EvaluationSet, np.ndarray | None]:
    """The images of a case; the shipped model has labels where many were rendered."""
    if case.model == SHIPPED and rendered:
        with np.load(rendered) as arrays:
            return EvaluationSet(normalise(arrays["pixels"], variant.graph.preprocessing), arrays["labels"]), None
    with np.load(folder / f"{_folder(case.model)}.npz") as arrays:
        images, logits = normalise(arrays["pixels"], variant.graph.preprocessing), arrays["logits"]
    return EvaluationSet(images, None, logits.argmax(axis=1)), logits


def _logit_error(engine: Engine, images: np.ndarray, logits: np.ndarray | None) -> float | None:
    """The largest error against FP32 on ONNX Runtime, as a share of the largest logit."""
    from workbench.backends import open_engine

    if logits is None:
        return None
    batch = np.arange(engine.batches.opt) % len(images)
    with open_engine(engine) as session:
        found = session.run({"images": images[batch]})["logits"]
    return float(np.abs(found - logits[batch]).max() / np.abs(logits).max())


def _checked(name: str, engine: Engine, folder: Path, python: str | None) -> dict:
    """Every check, in a process of its own: what is left over there shows what the driver keeps."""
    record = folder / f"{name}-engine.json"
    record.write_text(json.dumps(encode(engine)))
    command = [python or sys.executable, str(Path(__file__).resolve()), "check", name, str(record), str(folder)]
    child = subprocess.run(command, capture_output=True, text=True, timeout=500)
    found = child.stdout.strip().splitlines()
    return json.loads(found[-1]) if child.returncode == 0 and found else {"error": child.stderr[-3000:]}


def _on_host(
    python: str, backend: str, case: Case, variant: Variant, evaluation: EvaluationSet, folder: Path
) -> Report:
    from workbench.remote.host import Host

    host = Host("gpu", backend, (python,), cache=str(folder / "cache"))
    return host.run(
        variant,
        folder / "workspace",
        batches=case.batches,
        measure=case.measure,
        streams=case.streams,
        layers=True,
        images=evaluation.images,
        labels=evaluation.labels,
        reference=evaluation.reference,
        dataset="shapes",
    )


def check(name: str, record: Path, folder: Path) -> int:
    """Every check on one engine; the last line printed is JSON."""
    engine = decode(Engine, json.loads(record.read_text()))
    evaluation, logits = _images(CASES[name], engine.variant, folder, None)
    images = evaluation.images
    found = {
        "contract": checks.contract(engine, images, logits, TOLERANCE[engine.variant.recipe.precision]),
        "sharing": checks.sharing(engine, images),
        "leak": checks.leak(engine, images),
        "profile": checks.profile(engine, images),
        "kernels": checks.kernels(engine, images),
    }
    print(json.dumps(found))
    return 0


def render(target: Path, count: int) -> None:
    """Write images of the shipped model's data set, with labels."""
    from workbench.datasets import images

    found = images(SHIPPED, split="evaluation", count=count)
    np.savez(target, pixels=found.pixels, labels=found.labels)


def baselines(names: list[str], batches: list[int], out: Path, seconds: float) -> int:
    """Measure the same models in JAX and PyTorch."""
    out.mkdir(parents=True, exist_ok=True)
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    from workbench.measuring.measurement import measure_session
    from workbench.measuring.subject import Subject
    from workbench.models.baselines import open_jax, open_torch
    from workbench.models.vit import model_spec

    failed = []
    for name in names:
        model, framework, dtype, compiled = BASELINES[name]
        spec, record = model_spec(model), {"case": name, "measurements": [], "streams": []}
        subject = Subject(framework, spec.name, spec.image_size, spec.classes, Recipe(PRECISIONS[dtype]))
        options = {"compiled": True} if compiled else {}
        try:
            opened = open_jax if framework == "jax" else open_torch
            with opened(spec, repeating_parameters(spec), dtype=dtype, **options) as session:
                for batch in batches:
                    found = measure_session(session, subject, None, None, batch=batch, seconds=seconds)
                    record["measurements"].append(encode(found))
                    write_record(out, record)
        except Exception as error:
            traceback.print_exc()
            failed.append(name)
            record["error"] = str(error)
            write_record(out, record)
        print(summary(record), flush=True)
    return 1 if failed else 0


def attention(names: list[str], out: Path, seconds: float) -> int:
    """Time attention, MLP and the rest over resolution in JAX, as notebook 01 does."""
    out.mkdir(parents=True, exist_ok=True)
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    from workbench.models.meter import JaxMeter, device
    from workbench.models.vit import model_spec
    from workbench.performance.attention_profile import profile_attention

    for name in names:
        sweep = SWEEPS[name]
        spec = dataclasses.replace(model_spec(sweep.model), depth=sweep.depth)
        meter = JaxMeter(sweep.batch, seconds, sweep.dtype)
        source = f"JAX on {device()}, {sweep.dtype}"
        found = profile_attention(spec, sweep.sizes, meter=meter, source=source)
        write_record(out, {"case": name, "sweep": sweep._asdict(), "environment": environment(), **_times(found)})
        print(found.verdict(), flush=True)
    return 0


def _times(profile) -> dict:
    """The fastest and the median call of each part at each size, and where attention overtakes the MLP."""
    rows = [
        {"image_size": size, "part": part, "fastest_s": fastest, "median_s": middle}
        for (size, part), (fastest, middle) in profile.spread.items()
    ]
    return {"source": profile.source, "times": rows, "load": dataclasses.asdict(profile.load)}


def keep(results: Path, target: Path) -> None:
    """Write what the other verbs found into one file of records, which comes with the workbench."""
    from workbench.studies.recorded import write_run

    order = [*CASES, *BASELINES, *SWEEPS]
    found = {path.name.removesuffix(".json.gz"): path for path in sorted(results.glob("*.json.gz"))}
    names = [*(name for name in order if name in found), *(name for name in found if name not in order)]
    kept = [json.loads(gzip.decompress(found[name].read_bytes())) for name in names]
    write_run(target, kept)
    print(f"{target}: {len(kept)} cases, {target.stat().st_size >> 10} KiB")


# ---- tables ------------------------------------------------------------------------------------------------------


def summary(record: dict) -> str:
    """What a case found, in Markdown."""
    lines = [f"{record['case']}: FAILED: {record['error']}", ""] if "error" in record else []
    lines += [
        f"### {record['case']}",
        "",
        "| batch | streams | img/s end to end | img/s compute | p50 ms | p99 ms | memory MiB | top-1 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in (*record.get("measurements", ()), *record.get("streams", ())):
        m = decode(Measurement, row)
        top1 = f"{100 * m.top1:.2f} %" if m.labels else ""
        lines.append(
            f"| {m.batch} | {m.streams} | {m.images_per_second:,.0f} | {m.compute_images_per_second:,.0f} |"
            f" {m.p50_ms:.3f} | {m.p99_ms:.3f} | {m.memory_bytes >> 20} | {top1} |"
        )
    if "engine" in record:
        types = {
            b: dict(Counter(row["type"] for row in rows if row["type"])) for b, rows in record["kernels"].items()
        }
        lines += [
            "",
            f"Built in {record['engine']['build_seconds']:.0f} s; kernels multiply in {types}"
            f" {record['kernels_refusal'] or ''}; logit error {record['logits']}; checks {record.get('checks')};"
            f" {record['seconds']:.0f} s in all.",
        ]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    prepares = verbs.add_parser("prepare")
    prepares.add_argument("archive", type=Path)
    prepares.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    runs = verbs.add_parser("run")
    runs.add_argument("archive", type=Path)
    runs.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    runs.add_argument("--backend", default="tensorrt", choices=("tensorrt", "tensorrt-rtx"))
    runs.add_argument("--python", help="build and measure on a host that is this interpreter")
    runs.add_argument("--evaluation", type=Path, help="what `render` wrote")
    runs.add_argument(
        "--checks", action="store_true", help="check contract, sharing, leaks, profile and kernels too"
    )
    rendered = verbs.add_parser("render")
    rendered.add_argument("target", type=Path)
    rendered.add_argument("--count", type=int, default=10_000)
    others = verbs.add_parser("baselines")
    others.add_argument("--only", nargs="+", choices=BASELINES, default=list(BASELINES))
    others.add_argument("--batches", nargs="+", type=int, default=list(SIZES))
    sweeps = verbs.add_parser("attention")
    sweeps.add_argument("--only", nargs="+", choices=SWEEPS, default=list(SWEEPS))
    for one in (runs, others, sweeps):
        one.add_argument("--out", type=Path, default=Path(os.environ.get("OUT", "results")))
        one.add_argument("--seconds", type=float, default=2.0, help="how long each batch is timed")
    kept = verbs.add_parser("keep")
    kept.add_argument("results", type=Path)
    kept.add_argument("target", type=Path)
    checked = verbs.add_parser("check")
    checked.add_argument("case")
    checked.add_argument("record", type=Path)
    checked.add_argument("folder", type=Path)
    asked = parser.parse_args()
    if asked.verb == "prepare":
        prepare(asked.archive, asked.only)
    elif asked.verb == "render":
        render(asked.target, asked.count)
    elif asked.verb == "run":
        return run(asked)
    elif asked.verb == "baselines":
        return baselines(asked.only, asked.batches, asked.out, asked.seconds)
    elif asked.verb == "attention":
        return attention(asked.only, asked.out, asked.seconds)
    elif asked.verb == "keep":
        keep(asked.results, asked.target)
    else:
        return check(asked.case, asked.record, asked.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
