"""Train a ViT from scratch: a plan in, parameters out.

AdamW with warm-up and a cosine schedule (Loshchilov and Hutter, 2019, arXiv:1711.05101), clipped gradients, label
smoothing, and a moving average of the parameters (Polyak and Juditsky, 1992). The images stay on the device as
bytes; one compiled call takes many steps. Batches and augmentation depend on seed and step alone, and the state is
written to disk every half minute: a run that was stopped continues to the same result.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import time
from collections.abc import Callable, Generator
from pathlib import Path

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax

from ...code_version import code_digest
from ...digests import digest
from ...errors import refuse_unless
from ...files import new_file
from ...progress import Progress, silent
from .. import vit
from .augmentation import augmented
from .images import training_images
from .plan import Plan
from .start import starting_parameters

#: Seconds between two writes of the state. A killed run loses at most this much, plus one call.
SAVE_EVERY = 30.0
#: Calls that ``within`` times.
TIMED_CALLS = 3


def train(plan: Plan, folder, *, progress: Progress = silent) -> dict:
    """Train from random parameters, or continue where an earlier call in the same folder stopped.

    Args:
        plan: what to train, on what, how.
        folder: for drawn images (27 kB each at 96 px) and the state. Both are found again by a digest of everything
            that they depend on, so several plans can share a folder.
        progress: called after each compiled call.

    Returns:
        The parameters, as ``load_checkpoint`` gives them.

    Raises:
        WorkbenchError: the folder cannot be written, or the data set has not what the plan asks for.
        Cancelled: ``progress`` raised it; the state was written first.
    """
    folder = Path(folder)
    pixels, labels = training_images(plan, folder, progress)
    state_path = folder / f"state-{digest(plan, labels, code_digest(__name__))}.msgpack"
    state = _restored(state_path, _first_state(plan))
    pixels, labels = jnp.asarray(pixels), jnp.asarray(labels)
    saved = time.monotonic()
    for step in range(int(state["step"]), plan.steps, plan.steps_per_call):
        orders = np.stack([_order(plan, step + i) for i in range(plan.steps_per_call)])
        state, loss = _run(_of_every_length(plan), plan.steps, state, pixels, labels, orders)
        loss, done = float(loss), step + plan.steps_per_call
        with _saved_on_error(state_path, state):
            progress(f"training, loss {loss:.3f}", done, plan.steps)
        if done == plan.steps or time.monotonic() - saved > SAVE_EVERY:
            _save(state_path, state)
            saved = time.monotonic()
    params = vit.split_qkv(jax.tree.map(np.asarray, state["average"]), plan.spec.heads)
    vit.check_parameters(plan.spec, params)
    return params


# ---- how long ----------------------------------------------------------------------------------------------------


def within(
    plan: Plan,
    folder,
    seconds: float,
    *,
    progress: Progress = silent,
    clock: Callable[[], float] = time.monotonic,
) -> Plan:
    """The plan with as many of its epochs as this machine takes in so many seconds, compilation included.

    A few calls are timed on images without content, and their result is thrown away. The answer is kept in the
    folder: a run that was stopped goes on with the number of epochs that it began with.

    Raises:
        WorkbenchError: not one call fits in this time.
    """
    note = Path(folder) / f"epochs-{digest(plan, seconds, code_digest(__name__))}.json"
    if note.exists():
        return dataclasses.replace(plan, epochs=json.loads(note.read_text()))
    began, size = clock(), plan.spec.image_size
    pixels, labels = jnp.zeros((plan.images, size, size, 3), jnp.uint8), jnp.zeros(plan.images, jnp.int32)
    orders = np.zeros((plan.steps_per_call, plan.batch), np.int32)
    state, times = _first_state(plan), [clock()]
    for _ in range(1 + TIMED_CALLS):  # the first one compiles
        state, loss = _run(_of_every_length(plan), plan.steps, state, pixels, labels, orders)
        jax.block_until_ready(loss)
        times.append(clock())
    a_call = float(np.median(np.diff(times[1:])))
    progress(f"timing, {100 * a_call / plan.steps_per_call:.2f} s for 100 steps", 1, 1)
    calls = int((seconds - (times[-1] - began)) / a_call)
    epochs = min(plan.epochs, calls * plan.steps_per_call // (plan.images // plan.batch))
    refuse_unless(
        epochs >= 1,
        "The time is too short to train in",
        why=f"{plan.steps_per_call} steps take {a_call:.2f} s, and {seconds - (times[-1] - began):.0f} s were left",
        remedy="give more minutes, or fewer images",
    )
    with new_file(note) as partial:
        partial.write_text(json.dumps(epochs))
    return dataclasses.replace(plan, epochs=epochs)


# ---- one step ----------------------------------------------------------------------------------------------------


def _of_every_length(plan: Plan) -> Plan:
    """The plan that is compiled, with a fixed number of epochs: a step takes the number of steps as a value."""
    return dataclasses.replace(plan, epochs=plan.steps_per_call)


def _optimizer(plan: Plan) -> optax.GradientTransformation:
    """AdamW before the learning rate."""
    decayed = functools.partial(jax.tree.map, lambda leaf: leaf.ndim > 1)  # not biases, nor LayerNorm's scale
    return optax.chain(
        optax.clip_by_global_norm(1.0),
        optax.scale_by_adam(),
        optax.add_decayed_weights(plan.weight_decay, decayed),
    )


def _learning_rate(plan: Plan, steps, step) -> jax.Array:
    """Up in a line during the warm-up, then down to 0 as a cosine."""
    warmup = jnp.maximum(1, jnp.floor(plan.warmup * steps))
    fallen = jnp.maximum(0, step - warmup) / jnp.maximum(1, steps - warmup)
    return plan.learning_rate * jnp.minimum(step / warmup, 0.5 + 0.5 * jnp.cos(jnp.pi * fallen))


def _first_state(plan: Plan) -> dict:
    params = jax.tree.map(jnp.asarray, vit.join_qkv(starting_parameters(plan.spec, plan.seed, plan.start)))
    average = jax.tree.map(jnp.copy, params)  # not the same buffers, which the first call gives back
    return {
        "params": params,
        "average": average,
        "optimizer": _optimizer(plan).init(params),
        "step": jnp.zeros((), jnp.int32),
    }


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _run(plan: Plan, steps, state: dict, pixels, labels, orders) -> tuple[dict, jax.Array]:
    """Take several steps; ``orders`` (steps, batch) are the images of each. Returns the state and the mean loss."""
    optimizer = _optimizer(plan)

    def one(state, order):
        step = state["step"]
        key = jax.random.fold_in(jax.random.key(plan.seed), step)
        targets = optax.smooth_labels(jax.nn.one_hot(labels[order], plan.spec.classes), plan.smoothing)
        batch = augmented(plan.augmentation, plan.mix, key, pixels[order], targets)
        loss, gradients = jax.value_and_grad(_loss, argnums=1)(plan, state["params"], *batch)
        updates, moments = optimizer.update(gradients, state["optimizer"], state["params"])
        rate = _learning_rate(plan, steps, step)
        params = optax.apply_updates(state["params"], jax.tree.map(lambda update: -rate * update, updates))
        decay = jnp.minimum(plan.average, (1 + step) / (10 + step))  # a short memory while the parameters run
        average = optax.incremental_update(params, state["average"], 1 - decay)
        return {"params": params, "average": average, "optimizer": moments, "step": step + 1}, loss

    state, losses = jax.lax.scan(one, state, orders)
    return state, losses.mean()


def _loss(plan: Plan, params: dict, pixels: jax.Array, targets: jax.Array) -> jax.Array:
    """Cross entropy, on pixels normalised as in vit_jax."""
    compute = jnp.dtype(plan.compute)
    images = ((pixels.astype(jnp.float32) - 127.5) / 127.5).astype(compute)
    logits = vit.forward(plan.spec, jax.tree.map(lambda leaf: leaf.astype(compute), params), images)
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
