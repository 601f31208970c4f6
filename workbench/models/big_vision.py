"""Checkpoints of big_vision's ViT under vit_jax's names, and what the other models of both projects are called.

Source: ``big_vision/models/vit.py`` in github.com/google-research/big_vision.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import refuse_unless, shown
from ..records import whole
from ..records.models import MOST_BLOCKS, MOST_TOKENS
from .spec_inference import POSITIONS

#: How the name of a parameter begins that only another family of models has -> the name of that family.
OTHER_FAMILIES = {
    r"(conv_root|gn_root|block\d+/unit\d+)/": "a hybrid with a ResNet root (R+ViT)",
    r"(stem|MixerBlock_\d+|pre_head_layer_norm)/": "an MLP-Mixer",
    r"(img|txt)/": "two towers for images and text (LiT or SigLIP)",
    r"(MAPHead_0/|probe$)": "a ViT with attention pooling (the MAP head of SigLIP and big_vision)",
    r"Transformer/encoderblock_\d+/MlpBlock_0/(Mlp|Moe)/": "a mixture of experts (V-MoE)",
}
_SCANNED = re.compile(r"Transformer/encoderblock/(.+)")


def refuse_other_families(arrays: Mapping[str, np.ndarray], prefixes: tuple[str, ...], path: Path) -> None:
    """Raise a ``WorkbenchError`` that names the family of a checkpoint that holds no plain ViT."""
    for pattern, family in OTHER_FAMILIES.items():
        other = [key for key in arrays if re.match(f"({'|'.join(prefixes)}){pattern}", key)]
        refuse_unless(
            not other,
            f"{path.name} holds {family}, not a plain Vision Transformer",
            why=f"it has {other[0] if other else ''}",
            remedy="export its image encoder as ONNX and use workbench.import_onnx, or use a checkpoint of a plain"
            " ViT, such as ViT-B_16",
        )


def in_vit_jax_names(
    arrays: Mapping[str, np.ndarray], path: Path, image_size: int | None = None
) -> dict[str, np.ndarray]:
    """The parameters under vit_jax's names; those that have them already stay as they are.

    big_vision adds position embeddings before it puts the class token in front, so the row for the class token is
    zero. It stores blocks that were scanned as one array each, with the blocks along the first axis. Models with
    ``posemb="sincos2d"`` hold no position embeddings and take images of any size; where ``image_size`` is given
    they are computed for it.

    Raises:
        WorkbenchError: scanned arrays have no blocks, or differ in their number; there are no position embeddings,
            and no size is given or it does not fit.
    """
    renamed = _unrolled(arrays, path)
    positions, kernel = renamed.pop("pos_embedding", None), renamed.get("embedding/kernel")
    without = positions is None and POSITIONS not in renamed and kernel is not None and "head/kernel" in renamed
    if without and image_size is not None:
        positions = _computed_positions(kernel, image_size, path)
    refuse_unless(
        not without or positions is not None,
        f"{path.name} holds no position embeddings: {POSITIONS}",
        why="found nothing of this name: a ViT of big_vision with posemb='sincos2d' computes them for the size of "
        "the image, which no file says",
        remedy="if it is one, say for which images, load_checkpoint(path, image_size=224), and let save_checkpoint"
        " write them out",
    )
    if positions is not None and POSITIONS not in renamed:
        token = renamed.get("cls")
        if token is not None and positions.ndim == 3 and token.shape == (1, 1, positions.shape[2]):
            positions = np.concatenate([np.zeros(token.shape, positions.dtype), positions], axis=1)
        renamed[POSITIONS] = positions
    elif positions is not None:
        renamed["pos_embedding"] = positions  # an unknown key beside the other
    return renamed


def _computed_positions(kernel: np.ndarray | None, image_size: int, path: Path) -> np.ndarray:
    """The position embeddings of a model whose patches have this kernel, for images of this size."""
    shape, pixels = np.shape(kernel), whole(image_size) or 0
    patch, width = (shape[0], shape[3]) if len(shape) == 4 else (0, 0)
    grid = pixels // patch if patch else 0
    refuse_unless(
        grid > 0 and grid * patch == pixels and grid**2 <= MOST_TOKENS and width % 4 == 0 and width >= 8,
        f"The position embeddings of {path.name} cannot be computed",
        why=f"images of {shown(image_size)} pixels are no whole patches or too many, or the width is no multiple of 4"
        f" from 8 on: embedding/kernel is {shape}",
        remedy="give the image_size that the model was trained at, a multiple of its patch",
    )
    return sincos_positions(grid, grid, width)


def sincos_positions(height: int, width: int, channels: int, temperature: float = 10_000.0) -> np.ndarray:
    """The fixed position embeddings of MoCo v3 (arXiv:2104.02057) as big_vision's ``posemb_sincos_2d`` has them.

    A quarter of the channels each holds the sine and the cosine of the column, and those of the row, times
    frequencies that fall from 1 to 1 / temperature. Rows of patches follow each other.

    Args:
        height: patches from top to bottom.
        width: patches from left to right.
        channels: of a token; a multiple of 4, 8 or more.
        temperature: the ratio of the highest and the lowest frequency.

    Returns:
        (1, height * width, channels) float32.
    """
    frequencies = temperature ** -np.linspace(0, 1, channels // 4)
    row, column = np.divmod(np.arange(height * width), width)
    of_row, of_column = np.outer(row, frequencies), np.outer(column, frequencies)
    parts = [np.sin(of_column), np.cos(of_column), np.sin(of_row), np.cos(of_row)]
    return np.concatenate(parts, axis=1).astype(np.float32)[None]


def _unrolled(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    scanned = {key: match[1] for key in arrays if (match := _SCANNED.fullmatch(key))}
    depths = {arrays[key].shape[:1] for key in scanned}
    refuse_unless(
        len(depths) <= 1 and all(depth and 0 < depth[0] <= MOST_BLOCKS for depth in depths),
        f"{path.name} holds scanned blocks that differ in their number",
        why=f"the first axes are {sorted(depths)[:5]}",
        remedy="save the whole parameter tree of one model",
    )
    unrolled = {key: array for key, array in arrays.items() if key not in scanned}
    for key, rest in scanned.items():
        for index, array in enumerate(arrays[key]):
            unrolled[f"Transformer/encoderblock_{index}/{rest}"] = array
    return unrolled
