"""The roofline of the device that JAX computes on, measured in seconds."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from ..errors import one_of
from ..performance.roofline import Roof, fastest

TYPES = {"fp32": jnp.float32, "fp16": jnp.float16, "bf16": jnp.bfloat16}
#: Edge of the square matrices and bytes that are copied, large enough to fill a data-centre GPU; and for a CPU.
SIZES = {"gpu": (8192, 1 << 30), "cpu": (1024, 256 << 20)}


def measure_jax_roof(precision: str = "fp32", seconds: float = 1.0) -> Roof:
    """Time a matrix product and a pass over memory on JAX's default device.

    The fastest repetition counts, because a roof is a limit. On a GPU, products of float32 go through the tensor
    cores in TF32, which is JAX's default and the models' as well.

    Args:
        precision: ``fp32``, ``fp16`` or ``bf16``.
        seconds: for each of the two.

    Raises:
        WorkbenchError: an unknown precision.
    """
    one_of("precision of a JAX product", precision, tuple(TYPES))
    device, dtype = jax.devices()[0], TYPES[precision]
    edge, size = SIZES["cpu" if device.platform == "cpu" else "gpu"]
    left, right = (jax.random.normal(jax.random.key(seed), (edge, edge), dtype) for seed in (0, 1))
    numbers = jnp.ones(size // 4, jnp.float32)
    product, copy = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)  # reads and writes every number once
    for compiled, arguments in ((product, (left, right)), (copy, (numbers,))):
        jax.block_until_ready(compiled(*arguments))
    product_s = fastest(lambda: jax.block_until_ready(product(left, right)), seconds)
    copy_s = fastest(lambda: jax.block_until_ready(copy(numbers)), seconds)
    name = "this CPU" if device.platform == "cpu" else device.device_kind
    return Roof(
        label=f"{name} {precision}",
        precision=precision,
        peak_flops=2 * edge**3 / product_s,
        bandwidth=2 * size / copy_s,
        measured=True,
        source=f"JAX {jax.__version__}: a product of {edge} × {edge} matrices, a pass over {size >> 20} MiB",
    )
