"""ViT-S/16 on two CPU threads: our graph, the graph that torch.onnx makes of the same model, and jax.jit.

All have the same random weights and take the same batch of 8. Calls alternate in one run, so that a busy machine
slows all of them alike; speeds are compared by the median of the ratios within each round. Floors: 0.97 of torch's
graph on ONNX Runtime; 1.15 of jax.jit of the model as vit_jax writes it, which is what a user comes with. Our own
Flax model, in which q, k and v are one product as in the graph, is shown without a floor. int8-dynamic must run at
1.25 of FP32's speed.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
import warnings
from pathlib import Path

if hasattr(os, "sched_setaffinity"):  # XLA takes every core it may run on
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:2])

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from workbench.backends.onnxruntime import inference_session
from workbench.graphs.export import export_onnx
from workbench.graphs.quantization.recipe import apply_recipe
from workbench.models import vit
from workbench.models.tree import init, join_qkv
from workbench.records import ModelSpec, Recipe

MODEL, BATCH, THREADS, ROUNDS = "S/16", 8, 2, 40
OURS, DYNAMIC = "our graph on ONNX Runtime", "the same in int8-dynamic"
#: The least and the most that our graph's speed may be, as a share of the other's.
LIMITS = {
    "torch.onnx on ONNX Runtime": (0.97, np.inf),
    "jax.jit of vit_jax's model": (1.15, np.inf),
    DYNAMIC: (0, 1 / 1.25),
}


class VitJaxMlp(nn.Module):
    """``MlpBlock`` of vit_jax."""

    spec: ModelSpec

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.spec.width, name="Dense_1")(nn.gelu(nn.Dense(self.spec.mlp, name="Dense_0")(x)))


class VitJaxBlock(nn.Module):
    """``Encoder1DBlock`` of vit_jax: Flax's own attention, with a product each for q, k and v."""

    spec: ModelSpec

    @nn.compact
    def __call__(self, x):
        y = nn.LayerNorm(name="LayerNorm_0")(x)
        name = "MultiHeadDotProductAttention_0"
        x = x + nn.MultiHeadDotProductAttention(self.spec.heads, deterministic=True, name=name)(y, y)
        return x + VitJaxMlp(self.spec, name="MlpBlock_0")(nn.LayerNorm(name="LayerNorm_1")(x))


class VitJaxEncoder(nn.Module):
    """``Encoder`` of vit_jax."""

    spec: ModelSpec

    @nn.compact
    def __call__(self, x, positions):
        x = x + positions
        for index in range(self.spec.depth):
            x = VitJaxBlock(self.spec, name=f"encoderblock_{index}")(x)
        return nn.LayerNorm(name="encoder_norm")(x)


class VitJax(nn.Module):
    """``VisionTransformer`` of vit_jax with the classifier ``token``, for timing only."""

    spec: ModelSpec

    @nn.compact
    def __call__(self, images, positions):
        spec, tile = self.spec, (self.spec.patch, self.spec.patch)
        x = nn.Conv(spec.width, tile, strides=tile, padding="VALID", name="embedding")(images)
        x = x.reshape(len(images), -1, spec.width)
        cls = self.param("cls", nn.initializers.zeros, (1, 1, spec.width))
        x = jnp.concatenate([jnp.tile(cls, (len(images), 1, 1)), x], axis=1)
        return nn.Dense(spec.classes, name="head")(VitJaxEncoder(spec, name="Transformer")(x, positions)[:, 0])


def vit_jax_call(spec: ModelSpec, params: dict, images: np.ndarray):
    """A function that computes the logits once with vit_jax's model under jax.jit."""
    positions = params["Transformer"]["posembed_input"]["pos_embedding"]
    given = jax.device_put({"params": params}), jax.device_put(positions)
    compiled = jax.jit(VitJax(spec).apply)
    return lambda: np.asarray(compiled(given[0], images, given[1]))


def onnxruntime_call(path: Path, images: np.ndarray):
    """A function that computes the logits once on ONNX Runtime."""
    session = inference_session(path, threads=THREADS)
    feeds = {session.get_inputs()[0].name: images}
    return lambda: session.run(None, feeds)[0]


def torch_graph(spec, params, path: Path, images: np.ndarray) -> Path:
    """The same model, exported from plain PyTorch with torch.onnx's defaults and an open batch."""
    import torch

    from workbench.models.torch_vit import torch_module

    batch = ({0: torch.export.Dim("batch", min=1, max=1024)},)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch_module(spec, params).eval()
        torch.onnx.export(module, (torch.from_numpy(images),), path, dynamic_shapes=batch, verbose=False)
    return path


def alternate(calls: dict) -> dict[str, list[float]]:
    """Seconds of every call, without the first round. Rounds begin in turn: a call depends on the one before."""
    seconds, names = {name: [] for name in calls}, list(calls)
    for index in range(ROUNDS + 1):
        first = index % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
    return {name: values[1:] for name, values in seconds.items()}


def main() -> int:
    spec = vit.model_spec(MODEL)
    params = init(spec)
    images = np.random.default_rng(0).standard_normal((BATCH, spec.image_size, spec.image_size, 3), np.float32)
    with tempfile.TemporaryDirectory() as folder:
        graph = export_onnx(spec, params, folder, images=images)
        compiled, joined = jax.jit(vit.forward, static_argnums=0), jax.device_put(join_qkv(params))
        dynamic = apply_recipe(graph, Recipe("int8-dynamic"), folder)
        calls = {
            OURS: onnxruntime_call(graph.path, images),
            DYNAMIC: onnxruntime_call(dynamic.path, images),
            "jax.jit of vit_jax's model": vit_jax_call(spec, params, images),
            "jax.jit of our Flax model": lambda: np.asarray(compiled(spec, joined, images)),
        }
        try:
            other = torch_graph(spec, params, Path(folder) / "torch.onnx", images)
            calls["torch.onnx on ONNX Runtime"] = onnxruntime_call(other, images)
        except ImportError as error:
            print(f"No comparison with torch.onnx: {error}. Install torch and onnxscript to have it.")
        logits = {name: call() for name, call in calls.items()}
        seconds = alternate(calls)
    print(f"{spec.name}, batch {BATCH}, {THREADS} threads, {ROUNDS} rounds, alternating")
    failed = 0
    for name, values in seconds.items():
        low, _, high = statistics.quantiles(values, n=4)
        error = np.abs(logits[name] - logits[OURS]).max()
        line = f"{name:28} {1e3 * statistics.median(values):7.1f} ms ({1e3 * low:.1f} to {1e3 * high:.1f})"
        if name != OURS:
            speed = statistics.median(theirs / ours for theirs, ours in zip(values, seconds[OURS]))
            least, most = LIMITS.get(name, (0, np.inf))
            failed += not least <= speed <= most
            line += (
                f"; ours runs at {speed:.3f} of its speed (limits {least:g} to {most:g}), logits within {error:.1e}"
            )
        print(line)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
