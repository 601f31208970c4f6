"""The same ViT in plain PyTorch, for baselines and for the graph that ``torch.onnx`` makes of it.

PyTorch is not a requirement: only ``baselines.open_torch`` and benchmarks import this module.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from ..records import ModelSpec
from .tree import ATTENTION, MLP, join_qkv
from .vit import EPSILON


class Block(nn.Module):
    """One pre-norm encoder block."""

    def __init__(self, spec: ModelSpec):
        super().__init__()
        self.heads, self.head_size = spec.heads, spec.head_size
        self.norm1 = nn.LayerNorm(spec.width, eps=EPSILON)
        self.qkv = nn.Linear(spec.width, 3 * spec.width)
        self.proj = nn.Linear(spec.width, spec.width)
        self.norm2 = nn.LayerNorm(spec.width, eps=EPSILON)
        self.fc1 = nn.Linear(spec.width, spec.mlp)
        self.fc2 = nn.Linear(spec.mlp, spec.width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, S, D) to (B, S, D)."""
        x = x + self.proj(self._attention(self.norm1(x)))
        return x + self.fc2(F.gelu(self.fc1(self.norm2(x)), approximate="tanh"))

    def _attention(self, x: torch.Tensor) -> torch.Tensor:
        parts = self.qkv(x).unflatten(-1, (3, self.heads, self.head_size))  # (B, S, 3, H, h)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)


class VisionTransformer(nn.Module):
    """(B, image_size, image_size, 3), normalised, to logits (B, classes)."""

    def __init__(self, spec: ModelSpec):
        super().__init__()
        self.token = spec.classifier == "token"
        self.embedding = nn.Conv2d(3, spec.width, spec.patch, stride=spec.patch)
        self.cls = nn.Parameter(torch.zeros(1, 1, spec.width)) if self.token else None
        self.positions = nn.Parameter(torch.zeros(1, spec.tokens, spec.width))
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.depth))
        self.norm = nn.LayerNorm(spec.width, eps=EPSILON)
        self.pre_logits = nn.Linear(spec.width, spec.representation) if spec.representation else None
        self.head = nn.Linear(spec.representation or spec.width, spec.classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """NHWC images to logits."""
        x = self.embedding(images.permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)
        if self.token:
            x = torch.cat([self.cls.expand(x.shape[0], -1, -1), x], dim=1)
        x = x + self.positions
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        x = x[:, 0] if self.token else x.mean(dim=1)
        if self.pre_logits is not None:
            x = torch.tanh(self.pre_logits(x))
        return self.head(x)


def torch_module(spec: ModelSpec, params: dict) -> VisionTransformer:
    """A module in evaluation mode that holds a copy of JAX's parameters."""
    module = VisionTransformer(spec)
    module.load_state_dict(_state(spec, join_qkv(params)))
    return module.eval().requires_grad_(False)


def _state(spec: ModelSpec, params: dict) -> dict[str, torch.Tensor]:
    """A joined parameter tree under PyTorch's names; kernels are (inputs, outputs) in JAX and turned in PyTorch."""
    encoder = params["Transformer"]
    state = {
        "embedding.weight": params["embedding"]["kernel"].transpose(3, 2, 0, 1),
        "embedding.bias": params["embedding"]["bias"],
        "positions": encoder["posembed_input"]["pos_embedding"],
        **_norm("norm", encoder["encoder_norm"]),
        **_linear("head", params["head"]),
    }
    if "cls" in params:
        state["cls"] = params["cls"]
    if "pre_logits" in params:
        state |= _linear("pre_logits", params["pre_logits"])
    for index in range(spec.depth):
        block, name = encoder[f"encoderblock_{index}"], f"blocks.{index}"
        attention, mlp = block[ATTENTION], block[MLP]
        state |= _norm(f"{name}.norm1", block["LayerNorm_0"]) | _norm(f"{name}.norm2", block["LayerNorm_1"])
        state |= _linear(f"{name}.qkv", attention["qkv"]) | _linear(f"{name}.proj", attention["proj"])
        state |= _linear(f"{name}.fc1", mlp["Dense_0"]) | _linear(f"{name}.fc2", mlp["Dense_1"])
    return {key: torch.tensor(np.asarray(value)) for key, value in state.items()}


def _linear(name: str, dense: dict) -> dict:
    return {f"{name}.weight": dense["kernel"].T, f"{name}.bias": dense["bias"]}


def _norm(name: str, norm: dict) -> dict:
    return {f"{name}.weight": norm["scale"], f"{name}.bias": norm["bias"]}
