"""Times attention, MLP and the rest of the Flax model under ``jax.jit``: a meter for ``profile_attention``."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterator

import flax.linen as nn
import jax
import numpy as np
from flax import traverse_util

from ..records import ModelSpec
from . import vit
from .tree import ATTENTION, MLP, join_qkv


class JaxMeter:
    """Times the parts of the Flax model by themselves, on tensors that the model itself feeds them.

    ``attention`` is the attention of all blocks, one after the other; ``mlp`` likewise. ``rest`` is the model
    without both. The cost of a call that computes nothing is counted once, in the rest. The calls of all parts are
    interleaved, so that other work on the machine slows all of them alike.

    Args:
        batch: images per call.
        seconds: how long all parts of one resolution are timed together, after one call of each to compile it.
        dtype: the type of parameters and activations.
    """

    def __init__(self, batch: int = 1, seconds: float = 0.5, dtype: str = "float32"):
        self._batch, self._seconds, self._dtype = batch, seconds, dtype
        self._compiled: dict[ModelSpec, dict[str, Callable[[], object]]] = {}

    def __call__(self, spec: ModelSpec) -> dict[str, list[float]]:
        """Seconds of single calls of each part and of the whole; three calls at least."""
        if spec not in self._compiled:
            self._compiled[spec] = dict(self._calls(spec))
            for call in self._compiled[spec].values():
                call()
        calls = self._compiled[spec]
        times: dict[str, list[float]] = {name: [] for name in calls}
        end = time.perf_counter() + self._seconds
        while len(times["whole"]) < 3 or time.perf_counter() < end:
            for name, call in calls.items():
                begin = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - begin)
        nothing = min(times.pop("nothing"))
        for part in ("attention", "mlp"):  # each is one call more than the model makes
            times[part] = [max(s - nothing, 0.01 * s) for s in times[part]]
        return times

    def _calls(self, spec: ModelSpec) -> Iterator[tuple[str, Callable[[], object]]]:
        random = np.random.default_rng(0)
        params = _parameters(spec, random, self._dtype)
        shape = (self._batch, spec.image_size, spec.image_size, 3)
        images = random.standard_normal(shape, dtype=np.float32).astype(self._dtype)
        tensors = _intermediates(dataclasses.replace(spec, depth=1), params, images)
        attention, mlp = vit.Attention(spec.heads), vit.Mlp(spec.mlp)
        yield "whole", _call(lambda p, x: vit.forward(spec, p, x), params, images)
        yield "attention", _call(_chain(attention, ATTENTION, spec.depth), params, tensors["block00/norm1"])
        yield "mlp", _call(_chain(mlp, MLP, spec.depth), params, tensors["block00/norm2"])
        yield "rest", _call(lambda p, x: _without_parts(spec, p, x), params, images)
        yield "nothing", _call(lambda p, x: x[:1, :1, :1], params, images)


def device() -> str:
    """The platform of JAX's default device, such as ``cpu``."""
    return jax.default_backend()


def _parameters(spec: ModelSpec, random: np.random.Generator, dtype: str) -> dict:
    """Random numbers in the model's tree; ``vit.init`` would compile a program for every size."""
    tree = {path: random.normal(0, 0.02, shape).astype(dtype) for path, shape in vit.parameter_shapes(spec).items()}
    return join_qkv(traverse_util.unflatten_dict(tree, sep="/"))


@functools.partial(jax.jit, static_argnums=0)
def _intermediates(spec: ModelSpec, params: dict, images) -> dict:
    return vit.forward_with_intermediates(spec, params, images)[1]


def _chain(module: nn.Module, name: str, depth: int):
    """One part of every block, each fed with the result of the one before it."""

    def run(params, x):
        for index in range(depth):
            x = module.apply({"params": params["Transformer"][f"encoderblock_{index}"][name]}, x)
        return x

    return run


def _call(function, params, x) -> Callable[[], object]:
    """A compiled call that ends when its result is there."""
    compiled, params, x = jax.jit(function), jax.device_put(params), jax.device_put(x)
    return lambda: jax.block_until_ready(compiled(params, x))


def _without_parts(spec: ModelSpec, params, images):
    """The model where attention and MLP return their input: embedding, LayerNorms, residuals and head."""

    def skip(call, arguments, named, context):
        return arguments[0] if isinstance(context.module, vit.Attention | vit.Mlp) else call(*arguments, **named)

    with nn.intercept_methods(skip):
        return vit.forward(spec, params, images)
