"""Results as ``benchmarks/gpu_host.py`` writes them, of an engine, a baseline, the shipped model and a sweep."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tests.backends.hardware import traces
from tests.performance.engines import B32, engine_of_86
from workbench.records import Batches, Measurement, Recipe, Window, encode

GPU = {
    "gpu": "NVIDIA H200",
    "runtime": "TensorRT 8.6.0",
    "time": "2026-11-28T18:20:51+00:00",
    "platform": "Linux-x",
}


def measured(batch: int, rate: float, recipe: Recipe | None = None, **facts) -> dict:
    """A measurement that computes ``rate`` images a second and takes twice as long end to end."""
    calls = rate / batch
    known = {"backend": "tensorrt", "model": "ViT-B/32", "environment": GPU, "engine_bytes": 3 << 20, **facts}
    return encode(
        Measurement(
            recipe=recipe or Recipe("fp16"),
            batch=batch,
            variant="digest",
            latencies_s=(2 / calls, 2.1234567891234 / calls),
            compute=Window((100,), (100 / calls,)),
            end_to_end=Window((100,), (200 / calls,)),
            memory_bytes=5 << 20,
            **known,
        )
    )


def engine_of(folder: Path, recipe: Recipe, batches: Batches, model: str = "ViT-B/32") -> dict:
    engine = engine_of_86(folder, recipe)
    spec = dataclasses.replace(B32, name=model)
    variant = dataclasses.replace(engine.variant, graph=dataclasses.replace(engine.variant.graph, spec=spec))
    found = dataclasses.replace(engine, variant=variant, batches=batches, build_seconds=143.0, environment=GPU)
    return encode(found, lambda path: Path(path).name)


def results(folder: Path) -> list[dict]:
    """One result a case; the figures are round, so that tables can be checked by hand."""
    half, plain = Recipe("fp16"), Recipe()
    kernels = {"32": [kernel.row() for kernel in traces.int8_attention_apart(12)]}
    labels, wrong = [0] * 8 + [1] * 2, [1] * 2 + [0] * 6 + [1] * 2
    seen = {"model": "shapes-vit", "labels": labels, "reference_predictions": labels}
    return [
        {
            "case": "b32-fp16",
            "machine": [{"item": "numpy"}],
            "engine": engine_of(folder / "a", half, Batches(1, 128, 256, exact=(32,))),
            "measurements": [measured(32, 20_000), measured(128, 30_000)],
            "streams": [measured(128, 30_000, streams=1), measured(128, 28_000, streams=8)],
            "kernels": {"128": [kernel.row() for kernel in traces.fp16_fused(12)]},
            "log": "a long log",
            "logits": 0.03,
            "checks": {"leak": {"bytes lost": 0}},
        },
        {
            "case": "b32-fp16-range",
            "engine": engine_of(folder / "b", half, Batches(1, 128, 256)),
            "measurements": [measured(32, 16_000), measured(128, 25_000)],
            "streams": [],
            "kernels": {},
        },
        {
            "case": "b32-int8",
            "engine": engine_of(folder / "c", Recipe("int8"), Batches(128, 128, 128)),
            "measurements": [measured(32, 22_000, Recipe("int8"))],
            "streams": [],
            "kernels": kernels,
        },
        {
            "case": "b32-fp32",
            "engine": engine_of(folder / "d", plain, Batches(1, 128, 256)),
            "measurements": [measured(32, 10_000, plain)],
            "streams": [],
            "kernels": {},
            "error": "timed out",
        },
        {
            "case": "shapes-fp32",
            "engine": engine_of(folder / "e", plain, Batches(1, 128, 256), "shapes-vit"),
            "measurements": [measured(1, 1_000, plain, predictions=labels, **seen)],
            "streams": [],
        },
        {
            "case": "shapes-fp16",
            "engine": engine_of(folder / "f", half, Batches(1, 128, 256), "shapes-vit"),
            "measurements": [measured(1, 2_000, half, predictions=wrong, **seen)],
            "streams": [],
        },
        {
            "case": "b32-jax-bfloat16",
            "measurements": [
                measured(256, 24_000, Recipe("bf16"), backend="jax", environment={"runtime": "JAX 0.11"})
            ],
            "streams": [],
        },
        {
            "case": "attention-b16-bfloat16",
            "sweep": {
                "model": "B/16",
                "depth": 2,
                "batch": 8,
                "dtype": "bfloat16",
                "sizes": [64, 96, 128, 160, 192],
            },
            "source": "JAX on gpu, bfloat16",
            "environment": GPU,
            "load": {"cores": 32, "others": 0.5, "stolen": 0.0, "clock": 1.0},
            "times": [
                {"image_size": size, "part": part, "fastest_s": share * size**2 * 1e-9, "median_s": size**2 * 2e-9}
                for size in (64, 96, 128, 160, 192)
                for part, share in (("attention", 0.3), ("mlp", 0.5), ("rest", 0.1), ("whole", 0.9))
            ],
        },
    ]
