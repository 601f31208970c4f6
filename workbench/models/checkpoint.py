"""Checkpoints in vit_jax's ``.npz`` format. The model's shape is inferred from the arrays; nothing is unpickled."""

from __future__ import annotations

import collections
import dataclasses
import functools
import math
import re
from pathlib import Path

import numpy as np
import scipy.ndimage
from flax import traverse_util

from ..errors import WorkbenchError, one_of, path_of, refuse_unless
from ..files import new_file
from ..records import ModelSpec
from .sizes import PUBLISHED, model_spec
from .tree import ATTENTION, MLP, check_parameters

#: Prefixes of the parameters' names: vit_jax writes none, training checkpoints have one of these.
PREFIXES = ("", "params/", "param/", "opt/target/")
DTYPES = ("float32", "float16")
POSITIONS = "Transformer/posembed_input/pos_embedding"

#: vit_jax publishes the numbering of old Flax, which counts all layers of a block together.
_PUBLISHED_TO_LINEN = {
    "MultiHeadDotProductAttention_1": ATTENTION,
    "LayerNorm_2": "LayerNorm_1",
    "MlpBlock_3": MLP,
}
_OURS = re.compile(r"(cls|embedding/.*|Transformer/.*|head/.*)$")
#: A path that only another family of models has -> the name of that family.
_OTHER_FAMILIES = {
    r"(conv_root|gn_root|block\d+/unit\d+)/": "a hybrid with a ResNet root (R+ViT)",
    r"(stem|MixerBlock_\d+|pre_head_layer_norm)/": "an MLP-Mixer",
}


def load_checkpoint(path, *, image_size: int | None = None) -> tuple[ModelSpec, dict]:
    """Read a vit_jax checkpoint.

    Args:
        path: an ``.npz`` file in the published or in the in-memory (Linen) naming, in any floating type.
        image_size: pixels along an edge of the images; position embeddings are resized where the checkpoint was
            trained at another size. None takes the size of the checkpoint.

    Returns:
        The shape inferred from the arrays, and the parameter tree with Linen names, float32 NumPy arrays.

    Raises:
        WorkbenchError: no such file, a damaged one, one that needs pickle, a hybrid or a Mixer, a key that is
            missing or unknown, or an array of a wrong shape or type; it says expected and found.
    """
    path = path_of("A checkpoint", path)
    arrays = _linen_names(_parameters(_read(path), path), path)
    spec = _infer(arrays, path)
    params = traverse_util.unflatten_dict(arrays, sep="/")
    check_parameters(spec, params, origin=f"The checkpoint {path.name}")
    if image_size is not None and image_size != spec.image_size:
        spec, params = _resized(spec, params, image_size)
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
    key = "its list of arrays"
    try:
        with open(path, "rb") as stream:
            file = np.load(stream, allow_pickle=False)
            arrays = {}
            for key in getattr(file, "files", ()):  # a bare array has none
                arrays[key] = file[key]
            return arrays
    except FileNotFoundError as error:
        raise WorkbenchError(
            f"There is no checkpoint {path}",
            why="no file has this name",
            remedy="check the path, or download one with `workbench fetch-checkpoint NAME`",
        ) from error
    except Exception as error:  # a damaged byte can raise almost anything in zipfile and in NumPy
        raise WorkbenchError(
            f"The checkpoint {path.name} cannot be read: {key}",
            why=f"expected an array of numbers in an undamaged .npz file, found: {error}",
            remedy="download or save it again; arrays of Python objects are never unpickled",
        ) from error


def _parameters(arrays: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """The arrays under the prefix that holds a ViT, named without the prefix."""
    for pattern, family in _OTHER_FAMILIES.items():
        other = [key for key in arrays if re.match(f"({'|'.join(PREFIXES)}){pattern}", key)]
        refuse_unless(
            not other,
            f"{path.name} holds {family}, not a plain Vision Transformer",
            why=f"it has {other[0] if other else ''}",
            remedy="use a checkpoint of a plain ViT, such as ViT-B_16",
        )
    for prefix in PREFIXES:
        inside = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        if any(_OURS.match(key) for key in inside):
            return inside
    raise WorkbenchError(
        f"{path.name} holds no Vision Transformer: embedding/kernel",
        why=f"expected vit_jax's names, found {', '.join(sorted(arrays)[:5]) or 'no array at all'}",
        remedy="give a vit_jax checkpoint; other ViTs come in as ONNX through workbench.import_onnx",
    )


def _linen_names(arrays: dict[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    renamed = {}
    for key, array in arrays.items():
        refuse_unless(
            np.issubdtype(array.dtype, np.floating),
            f"{path.name} has a wrong type: {key}",
            why=f"expected floating-point numbers, found {array.dtype}",
            remedy="save the parameters as float32 or float16",
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


# ---- inferring the shape -----------------------------------------------------------------------------------------


def _infer(arrays: dict[str, np.ndarray], path: Path) -> ModelSpec:
    """The shape that most arrays agree on: a single wrong array is then named by ``check_parameters``."""
    block = r"Transformer/encoderblock_\d+"
    vote = functools.partial(_vote, arrays, path)
    blocks = [int(m[1]) for key in arrays if (m := re.match(r"Transformer/encoderblock_(\d+)/", key))]
    patch = vote("patch", ("embedding/kernel", 0), ("embedding/kernel", 1))
    classifier, grid = _tokens(arrays, path)
    spec = ModelSpec(
        name=path.stem,
        image_size=grid * patch,
        patch=patch,
        width=vote("width", ("embedding/bias", 0), ("embedding/kernel", 3), (rf"{block}/LayerNorm_\d/\w+", 0)),
        depth=max(blocks, default=0) + 1,
        heads=vote(
            "number of heads",
            (rf"{block}/{ATTENTION}/query/kernel", 1),
            (rf"{block}/{ATTENTION}/(query|key|value)/bias", 0),
            (rf"{block}/{ATTENTION}/out/kernel", 0),
        ),
        mlp=vote(
            "width of the MLP",
            (rf"{block}/{MLP}/Dense_0/kernel", 1),
            (rf"{block}/{MLP}/Dense_0/bias", 0),
            (rf"{block}/{MLP}/Dense_1/kernel", 0),
        ),
        classes=vote("number of classes", ("head/bias", 0), ("head/kernel", 1)),
        classifier=classifier,
        representation=vote(
            "width of pre_logits", ("pre_logits/kernel", 1), ("pre_logits/bias", 0), ("head/kernel", 0)
        )
        if any(key.startswith("pre_logits/") for key in arrays)
        else None,
    )
    return _named(spec)


def _vote(arrays: dict[str, np.ndarray], path: Path, what: str, *places: tuple[str, int]) -> int:
    """The size that most of the arrays at these places have along these axes."""
    shapes = {key: array.shape for key, array in arrays.items()}
    votes = [
        (shape[axis], f"{key} of shape {shape}")
        for pattern, axis in places
        for key, shape in shapes.items()
        if re.fullmatch(pattern, key) and len(shape) > axis
    ]
    first = places[0][0].replace(r"_\d+/", "_0/")
    refuse_unless(
        bool(votes),
        f"The checkpoint {path.name} does not show its {what}: {first}",
        why=f"expected a whole array, found {shapes.get(first, 'nothing of this name')}",
        remedy="save the whole parameter tree of a vit_jax model",
    )
    ranking = collections.Counter(size for size, _ in votes).most_common(2)
    refuse_unless(
        len(ranking) == 1 or ranking[0][1] > ranking[1][1],
        f"The checkpoint {path.name} contradicts itself about its {what}",
        why=f"expected arrays that agree, found {' and '.join(dict.fromkeys(text for _, text in votes))}",
        remedy="save the whole parameter tree of one vit_jax model",
    )
    return ranking[0][0]


def _tokens(arrays: dict[str, np.ndarray], path: Path) -> tuple[str, int]:
    """Classifier and patches along an edge, from the rows of the position embeddings.

    The answer is unique: no two squares but 0 and 1 differ by one.
    """
    shape = arrays[POSITIONS].shape if POSITIONS in arrays else ()
    refuse_unless(
        len(shape) == 3,
        f"The checkpoint {path.name} does not show its number of tokens: {POSITIONS}",
        why=f"expected shape (1, tokens, width), found {shape or 'nothing of this name'}",
        remedy="save the whole parameter tree of a vit_jax model",
    )
    for classifier, others in (("gap", 0), ("token", 1)):
        grid = math.isqrt(max(shape[1] - others, 0))
        if grid and grid * grid == shape[1] - others:
            return classifier, grid
    raise WorkbenchError(
        f"The checkpoint {path.name} has no square grid of patches: {POSITIONS}",
        why=f"expected a square number of patches, with or without a class token, found {shape[1]} rows",
        remedy="use a checkpoint that was trained on square images",
    )


def _named(spec: ModelSpec) -> ModelSpec:
    """The spec with its name in the size table; with the file's name where the table has no such size."""
    for name in PUBLISHED:
        size = model_spec(name)
        if all(getattr(size, f) == getattr(spec, f) for f in ("patch", "width", "depth", "heads", "mlp")):
            return dataclasses.replace(spec, name=size.name)
    return spec


# ---- position embeddings -----------------------------------------------------------------------------------------


def resize_positions(embedding: np.ndarray, tokens: int) -> np.ndarray:
    """Resize position embeddings as vit_jax does: linear ``scipy.ndimage.zoom`` on the grid, the cls row unchanged.

    Args:
        embedding: (1, S, D); a square grid, after one row for the class token where there is one.
        tokens: the length wanted, of the same kind.

    Returns:
        (1, tokens, D) float32.
    """
    rows = embedding.shape[1]
    first = rows - int(rows**0.5 + 1e-9) ** 2  # 1 where there is a class token, else 0
    old, new = int((rows - first) ** 0.5 + 0.5), int((tokens - first) ** 0.5 + 0.5)
    grid = embedding[0, first:].reshape(old, old, -1)
    zoomed = scipy.ndimage.zoom(grid, (new / old, new / old, 1), order=1).reshape(1, new * new, -1)
    return np.concatenate([embedding[:, :first], zoomed], axis=1).astype(np.float32)


def _resized(spec: ModelSpec, params: dict, image_size: int) -> tuple[ModelSpec, dict]:
    spec = dataclasses.replace(spec, image_size=image_size)
    encoder = params["Transformer"]
    embedding = resize_positions(encoder["posembed_input"]["pos_embedding"], spec.tokens)
    encoder = {**encoder, "posembed_input": {"pos_embedding": embedding}}
    return spec, {**params, "Transformer": encoder}
