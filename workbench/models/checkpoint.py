"""Checkpoints in vit_jax's ``.npz`` format. The model's shape is inferred from the arrays; nothing is unpickled."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
from flax import traverse_util

from ..datasets.npz import read_npz
from ..errors import WorkbenchError, one_of, path_of, refuse_unless
from ..files import looked_for, new_file
from ..records import ModelSpec
from .big_vision import in_vit_jax_names, refuse_other_families
from .position_embedding import resize_positions
from .spec_inference import infer_spec
from .tree import ATTENTION, MLP, check_parameters

#: Prefixes of the parameters' names: vit_jax writes none, training checkpoints have one of these.
PREFIXES = ("", "params/", "param/", "opt/target/")
DTYPES = ("float32", "float16")

#: vit_jax publishes the numbering of old Flax, which counts all layers of a block together.
_PUBLISHED_TO_LINEN = {
    "MultiHeadDotProductAttention_1": ATTENTION,
    "LayerNorm_2": "LayerNorm_1",
    "MlpBlock_3": MLP,
}
_OURS = re.compile(r"(cls|embedding/.*|Transformer/.*|head/.*)$")
#: bfloat16 as NumPy stores it: two bytes without a type.
_BFLOAT16 = np.dtype("V2")


def load_checkpoint(path, *, image_size: int | None = None) -> tuple[ModelSpec, dict]:
    """Read a checkpoint of vit_jax, or of a plain ViT of big_vision (pooling ``gap`` or ``tok``).

    Args:
        path: an ``.npz`` file in the published or in the in-memory (Linen) naming, in any floating type; bfloat16
            as NumPy stores it, two bytes without a type, is read too.
        image_size: pixels along an edge of the images; position embeddings are resized where the checkpoint was
            trained at another size. None takes the size of the checkpoint. A model of big_vision with
            ``posemb="sincos2d"`` holds none and needs it: they are computed.

    Returns:
        The shape inferred from the arrays, and the parameter tree with Linen names, float32 NumPy arrays.

    Raises:
        WorkbenchError: no such file, a damaged one or one of another format, which is named; a hybrid, a Mixer, two
            towers or a MAP head; a key that is missing, unknown or there twice, or an array of a wrong shape or
            type; it says expected and found.
    """
    path = path_of("A checkpoint", path)
    arrays = _linen_names(_parameters(_read(path), path, image_size), path)
    spec = infer_spec(arrays, path)
    params = traverse_util.unflatten_dict(arrays, sep="/")
    check_parameters(spec, params, origin=f"The checkpoint {path.name}")
    if image_size is not None:
        wanted = dataclasses.replace(spec, image_size=image_size)  # which checks it
        spec, params = (wanted, params) if wanted == spec else _resized(wanted, params)
    return spec, params


def save_checkpoint(path, spec: ModelSpec, params: dict, dtype: str = "float32") -> Path:
    """Write parameters in vit_jax's published naming. The file appears complete or not at all.

    Args:
        path: the ``.npz`` file to write.
        spec: the shape that the parameters must have.
        params: a tree as ``load_checkpoint`` returns it.
        dtype: ``float32``, or ``float16`` for half the size.

    Raises:
        WorkbenchError: parameters that are not the model's or do not fit the type; a full or read-only disk.
    """
    one_of("type for a checkpoint", dtype, DTYPES)
    path = path_of("A checkpoint", path)
    check_parameters(spec, params)
    published = {linen: old for old, linen in _PUBLISHED_TO_LINEN.items()}
    arrays = {}
    for key, leaf in traverse_util.flatten_dict(params, sep="/").items():
        with np.errstate(over="ignore"):
            array = np.asarray(leaf).astype(dtype)
        refuse_unless(
            bool(np.isfinite(array).all()),
            f"{key} cannot be written as {dtype}",
            why=f"its largest magnitude is {np.abs(np.asarray(leaf, np.float64)).max():.3g}",
            remedy="save as float32, or repair the training that made it",
        )
        arrays["/".join(published.get(part, part) for part in key.split("/"))] = array
    with new_file(path) as partial, open(partial, "wb") as file:
        np.savez(file, **arrays)  # ty: ignore[invalid-argument-type]  # a stub takes every array for allow_pickle
    return path


# ---- reading -----------------------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, np.ndarray]:
    """Every array of the file that is read without unpickling."""
    refuse_unless(
        path.exists(),
        f"There is no checkpoint {path}",
        why="no file has this name",
        remedy=f"check the path{looked_for(path)}, or download one with `workbench fetch-checkpoint NAME`",
    )
    refuse_unless(
        path.suffix != ".onnx",
        f"{path.name} is no checkpoint",
        why="it is an ONNX file, and a checkpoint is an .npz file of parameters",
        remedy="bring it in with workbench.import_onnx(path, workspace)",
    )
    return read_npz(path, f"The checkpoint {path.name}")


def _parameters(arrays: dict[str, np.ndarray], path: Path, image_size: int | None) -> dict[str, np.ndarray]:
    """The arrays under the prefix that holds a ViT, named without the prefix as vit_jax names them."""
    refuse_other_families(arrays, PREFIXES, path)
    for prefix in PREFIXES:
        inside = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        if any(_OURS.match(key) for key in inside):
            _refuse_branches(inside, path)
            return in_vit_jax_names(inside, path, image_size)
    raise WorkbenchError(
        f"{path.name} holds no Vision Transformer: embedding/kernel",
        why=f"expected vit_jax's names, found {', '.join(sorted(arrays)[:5])[:300] or 'no array at all'}",
        remedy="give a vit_jax checkpoint; other ViTs come in as ONNX through workbench.import_onnx",
    )


def _refuse_branches(arrays: Collection[str], path: Path) -> None:
    """Refuse a name that is both a parameter and the beginning of another's: no tree holds both."""
    for key in arrays:
        parts = key.split("/")
        above = next((name for i in range(1, len(parts)) if (name := "/".join(parts[:i])) in arrays), None)
        refuse_unless(
            above is None and all(parts),
            f"{path.name} holds a parameter that cannot be: {key}",
            why=f"{above} is a parameter itself" if above else "a part of its name is empty",
            remedy="save the whole parameter tree of a vit_jax model",
        )


def _linen_names(arrays: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    renamed = {}
    for key, array in arrays.items():
        if array.dtype == _BFLOAT16:  # its bits are the upper half of a float32's
            array = (array.view(np.uint16).astype(np.uint32) << 16).view(np.float32)
        refuse_unless(
            np.issubdtype(array.dtype, np.floating),
            f"{path.name} has a wrong type: {key}",
            why=f"expected floating-point numbers, found {array.dtype}",
            remedy="save the parameters as float32, float16 or bfloat16",
        )
        linen = "/".join(_PUBLISHED_TO_LINEN.get(part, part) for part in key.split("/"))
        refuse_unless(
            linen not in renamed,
            f"{path.name} holds a parameter twice: {linen}",
            why="once in the published and once in the in-memory naming",
            remedy="keep one of them",
        )
        with np.errstate(over="ignore"):
            renamed[linen] = array.astype(np.float32)
        refuse_unless(
            bool(np.isfinite(renamed[linen]).all()),
            f"{path.name} holds NaN or infinity: {key}",
            why="a model with such a parameter computes nothing",
            remedy="save the checkpoint again, in float32 when float16 overflowed",
        )
    return renamed


def _resized(spec: ModelSpec, params: dict) -> tuple[ModelSpec, dict]:
    """The spec of another image size, and parameters whose position embeddings fit it."""
    encoder = params["Transformer"]
    embedding = resize_positions(encoder["posembed_input"]["pos_embedding"], spec.tokens)
    encoder = {**encoder, "posembed_input": {"pos_embedding": embedding}}
    return spec, {**params, "Transformer": encoder}
