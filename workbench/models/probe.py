"""A matrix product and a pass over memory in JAX: the two calls that ``performance.roofline`` times."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ..dtypes import TYPES

#: Edges of the square matrices; bytes of passes over memory, several times what a cache holds; and bytes of passes
#: that a cache holds. The first are large enough to fill a data-centre GPU, the second suit a CPU.
SIZES = {
    "gpu": ((4096, 8192), (512 << 20, 1 << 30), (4 << 20, 16 << 20)),
    "cpu": ((256, 512, 1024), (128 << 20, 256 << 20), (1 << 18, 1 << 20, 4 << 20)),
}


def sizes() -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    """Edges of matrices, bytes of passes over memory and bytes of cached passes for JAX's default device."""
    return SIZES["cpu" if jax.devices()[0].platform == "cpu" else "gpu"]


def device_name() -> str:
    """``this CPU``, or the name of the GPU."""
    device = jax.devices()[0]
    return "this CPU" if device.platform == "cpu" else device.device_kind


def version() -> str:
    """``JAX`` and its version."""
    return f"JAX {jax.__version__}"


def product(edge: int, precision: str) -> Callable[[], object]:
    """A compiled product of two square matrices; the call ends when the result is there."""
    dtype = jnp.dtype(TYPES[precision].numpy)
    left, right = (jax.random.normal(jax.random.key(seed), (edge, edge), dtype) for seed in (0, 1))
    compiled = jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(compiled(left, right))


def memory_pass(size: int) -> Callable[[], object]:
    """A compiled pass that reads ``size`` bytes and writes them back in place, so that no page is mapped anew."""
    numbers = [jnp.ones(size // 4, jnp.float32)]
    compiled = jax.jit(lambda x: x + 1, donate_argnums=0)

    def call():
        numbers[0] = jax.block_until_ready(compiled(numbers[0]))

    return call
