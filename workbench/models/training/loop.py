"""Train a ViT from scratch on the generated shapes.

AdamW with warm-up and a cosine schedule (Loshchilov and Hutter, 2019, arXiv:1711.05101), clipped gradients, label
smoothing, and rotations and mirror images, which do not change a shape's class. The images stay on the device as
bytes; one compiled call takes many steps. Batches and augmentation depend on seed and step alone, and the state is
written to disk every half minute: a run that was stopped continues to the same result.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import time
from collections.abc import Generator
from pathlib import Path

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ...code_version import code_digest
from ...datasets import shapes
from ...digests import digest
from ...errors import one_of, refuse_unless
from ...files import new_file
from ...progress import Progress, silent
from ...records import ModelSpec
from .. import vit
from .images import training_images

#: Seconds between two writes of the state. A killed run loses at most this much, plus one call.
SAVE_EVERY = 30.0
#: The types that products can be computed in.
COMPUTE = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Plan:
    """Everything a training run depends on.

    ``compute`` is the type of the products; parameters and optimizer stay in float32. ``steps_per_call`` is how
    many steps one compiled call takes; it changes nothing but speed.
    """

    spec: ModelSpec = vit.TUTORIAL
    images: int = 200_000
    epochs: int = 60
    batch: int = 1024
    seed: int = 0
    learning_rate: float = 1e-3
    weight_decay: float = 0.05
    warmup: float = 0.05
    smoothing: float = 0.1
    compute: str = "float32"
    steps_per_call: int = 20

    def __post_init__(self):
        one_of("type to compute in", self.compute, COMPUTE)
        refuse_unless(
            self.images >= self.batch >= 1 and self.steps >= 1,
            "There is nothing to train on",
            why=f"{self.images} images, batches of {self.batch}, {self.epochs} epochs, "
            f"{self.steps_per_call} steps a call make no whole call",
            remedy="ask for at least one batch of images, and more epochs than one call takes",
        )
        refuse_unless(
            self.spec.classes == len(shapes.CLASSES),
            f"{self.spec.name} has the wrong number of classes for shapes",
            why=f"it has {self.spec.classes}, shapes has {len(shapes.CLASSES)}",
            remedy=f"give classes={len(shapes.CLASSES)}",
        )

    @property
    def steps(self) -> int:
        """Steps in all: whole calls only."""
        return self.epochs * (self.images // self.batch) // self.steps_per_call * self.steps_per_call


def train(plan: Plan, folder, *, progress: Progress = silent) -> dict:
    """Train from random parameters, or continue where an earlier call in the same folder stopped.

    Args:
        plan: what to train, on what, how.
        folder: for the images (27 kB each at 96 px) and the state. Both are found again by a digest of everything
            that they depend on, so several plans can share a folder.
        progress: called after each compiled call.

    Returns:
        The parameters, as ``load_checkpoint`` gives them.

    Raises:
        WorkbenchError: the folder cannot be written.
        Cancelled: ``progress`` raised it; the state was written first.
    """
    folder = Path(folder)
    pixels, labels = (
        jnp.asarray(a) for a in training_images(plan.images, plan.seed, plan.spec.image_size, folder, progress)
    )
    state_path = folder / f"state-{digest(plan, code_digest(__name__))}.msgpack"
    state = _restored(state_path, _first_state(plan))
    saved = time.monotonic()
    for step in range(int(state["step"]), plan.steps, plan.steps_per_call):
        orders = np.stack([_order(plan, step + i) for i in range(plan.steps_per_call)])
        state, loss = _run(plan, state, pixels, labels, orders)
        loss, done = float(loss), step + plan.steps_per_call
        with _saved_on_error(state_path, state):
            progress(f"training, loss {loss:.3f}", done, plan.steps)
        if done == plan.steps or time.monotonic() - saved > SAVE_EVERY:
            _save(state_path, state)
            saved = time.monotonic()
    params = vit.split_qkv(jax.tree.map(np.asarray, state["params"]), plan.spec.heads)
    vit.check_parameters(plan.spec, params)
    return params


# ---- one step ----------------------------------------------------------------------------------------------------


def _optimizer(plan: Plan) -> optax.GradientTransformation:
    warmup = max(1, int(plan.warmup * plan.steps))
    schedule = optax.warmup_cosine_decay_schedule(0.0, plan.learning_rate, warmup, plan.steps)
    decayed = functools.partial(jax.tree.map, lambda leaf: leaf.ndim > 1)  # not biases, nor LayerNorm's scale
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.adamw(schedule, weight_decay=plan.weight_decay, mask=decayed),
    )


def _first_state(plan: Plan) -> dict:
    params = jax.tree.map(jnp.asarray, vit.join_qkv(vit.init(plan.spec, plan.seed)))
    return {"params": params, "optimizer": _optimizer(plan).init(params), "step": jnp.zeros((), jnp.int32)}


@functools.partial(jax.jit, static_argnums=0, donate_argnums=1)
def _run(plan: Plan, state: dict, pixels, labels, orders) -> tuple[dict, jax.Array]:
    """Take several steps; ``orders`` (steps, batch) are the images of each. Returns the state and the mean loss."""
    optimizer = _optimizer(plan)

    def one(state, order):
        key = jax.random.fold_in(jax.random.key(plan.seed), state["step"])
        images = _augmented(key, pixels[order])
        loss, gradients = jax.value_and_grad(_loss, argnums=1)(plan, state["params"], images, labels[order])
        updates, moments = optimizer.update(gradients, state["optimizer"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        return {"params": params, "optimizer": moments, "step": state["step"] + 1}, loss

    state, losses = jax.lax.scan(one, state, orders)
    return state, losses.mean()


def _augmented(key, pixels: jax.Array) -> jax.Array:
    """Each image in one of the eight rotations and mirror images of a square."""
    transpose, flip_rows, flip_columns = jax.random.bernoulli(key, 0.5, (3, len(pixels), 1, 1, 1))
    pixels = jnp.where(transpose, pixels.transpose(0, 2, 1, 3), pixels)
    pixels = jnp.where(flip_rows, pixels[:, ::-1], pixels)
    return jnp.where(flip_columns, pixels[:, :, ::-1], pixels)


def _loss(plan: Plan, params: dict, pixels: jax.Array, labels: jax.Array) -> jax.Array:
    """Cross entropy with smoothed labels, on pixels normalised as in vit_jax."""
    compute = jnp.dtype(plan.compute)
    images = ((pixels.astype(jnp.float32) - 127.5) / 127.5).astype(compute)
    logits = vit.forward(plan.spec, jax.tree.map(lambda leaf: leaf.astype(compute), params), images)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, plan.spec.classes), plan.smoothing)
    return optax.softmax_cross_entropy(logits.astype(jnp.float32), targets).mean()


@functools.lru_cache(maxsize=2)
def _epoch(images: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(images).astype(np.int32)


def _order(plan: Plan, step: int) -> np.ndarray:
    """The images of a step; each epoch is a new permutation."""
    epoch, place = divmod(step, plan.images // plan.batch)
    return _epoch(plan.images, plan.seed, epoch)[place * plan.batch : (place + 1) * plan.batch]


# ---- the state on disk -------------------------------------------------------------------------------------------


def _restored(path: Path, first: dict) -> dict:
    if not path.exists():
        return first
    return jax.tree.map(jnp.asarray, flax.serialization.from_bytes(first, path.read_bytes()))


def _save(path: Path, state: dict) -> None:
    with new_file(path) as partial:
        partial.write_bytes(flax.serialization.to_bytes(state))


@contextlib.contextmanager
def _saved_on_error(path: Path, state: dict) -> Generator[None]:
    try:
        yield
    except BaseException:
        _save(path, state)
        raise
