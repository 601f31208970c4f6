"""Checkpoints of big_vision's ViT under vit_jax's names, and what the other models of both projects are called.

Source: ``big_vision/models/vit.py`` in github.com/google-research/big_vision.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ..errors import refuse_unless
from ..records.models import MOST_BLOCKS
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


def in_vit_jax_names(arrays: Mapping[str, np.ndarray], path: Path) -> dict[str, np.ndarray]:
    """The parameters under vit_jax's names; those that have them already stay as they are.

    big_vision adds position embeddings before it puts the class token in front, so the row for the class token is
    zero. It stores blocks that were scanned as one array each, with the blocks along the first axis.

    Raises:
        WorkbenchError: scanned arrays have no blocks, or differ in their number.
    """
    renamed = _unrolled(arrays, path)
    positions = renamed.pop("pos_embedding", None)
    if positions is not None and POSITIONS not in renamed:
        token = renamed.get("cls")
        whole = token is not None and positions.ndim == 3 and token.shape == (1, 1, positions.shape[2])
        renamed[POSITIONS] = np.concatenate([np.zeros_like(token), positions], axis=1) if whole else positions
    elif positions is not None:
        renamed["pos_embedding"] = positions  # an unknown key beside the other
    refuse_unless(
        POSITIONS in renamed or "embedding/kernel" not in renamed or "head/kernel" not in renamed or not renamed,
        f"{path.name} holds no position embeddings: {POSITIONS}",
        why="found nothing of this name: a ViT of big_vision with posemb='sincos2d' computes them",
        remedy="add them as pos_embedding (1, tokens, width), see posemb_sincos_2d in big_vision/models/vit.py",
    )
    return renamed


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
