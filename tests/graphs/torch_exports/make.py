"""Writes the ONNX files beside it: tiny ViTs, and two models that are none, as torch exports them.

Run with torch 2.13 to 2.15 and onnxscript: ``python tests/graphs/torch_exports/make.py [NAME ...]``. The files are
committed, so that tests need no torch. ``expected.npz`` holds what torch computes in each of them for ``images()``.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnx_ir.passes.common as passes
import torch
import torch.nn.functional as F
from torch import nn

HERE = Path(__file__).parent
SIZE, PATCH, WIDTH, HEADS, MLP, DEPTH, CLASSES = 32, 8, 16, 2, 32, 2, 10
BATCH = 3


class FusedAttention(nn.Module):
    """timm's: one linear layer for q, k and v, then ``scaled_dot_product_attention``."""

    def __init__(self):
        super().__init__()
        self.qkv, self.proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, n, c))


class MaskedAttention(FusedAttention):
    """``scaled_dot_product_attention`` under a mask that hides nothing, as Hugging Face's models hand it one."""

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4).unbind(0)
        mask = torch.ones(b, 1, n, n, dtype=torch.bool)
        context = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.proj(context.transpose(1, 2).reshape(b, n, c))


class SeparateAttention(nn.Module):
    """The one of Hugging Face: three linear layers, softmax written out, no bias on the keys."""

    def __init__(self):
        super().__init__()
        self.query, self.value, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.key = nn.Linear(WIDTH, WIDTH, bias=False)

    def forward(self, x):
        b, n, c = x.shape
        q, k, v = (f(x).view(b, n, HEADS, -1).transpose(1, 2) for f in (self.query, self.key, self.value))
        scores = q @ k.transpose(-1, -2) / (c // HEADS) ** 0.5
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))


class LibraryAttention(nn.Module):
    """torchvision's: ``nn.MultiheadAttention``, which puts the tokens before the batch on the way."""

    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)

    def forward(self, x):
        return self.attention(x, x, x, need_weights=False)[0]


class Block(nn.Module):
    """A pre-norm encoder block; ``scale`` adds DeiT III's LayerScale."""

    def __init__(self, attention, gelu, scale):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH, eps=1e-6), nn.LayerNorm(WIDTH, eps=1e-6)
        self.attention, self.gelu = attention(), gelu
        self.fc1, self.fc2 = nn.Linear(WIDTH, MLP), nn.Linear(MLP, WIDTH)
        self.scale = nn.Parameter(torch.rand(2, WIDTH)) if scale else (1.0, 1.0)

    def forward(self, x):
        if isinstance(self.scale, tuple):
            x = x + self.attention(self.norm1(x))
            return x + self.fc2(self.gelu(self.fc1(self.norm2(x))))
        x = x + self.scale[0] * self.attention(self.norm1(x))
        return x + self.scale[1] * self.fc2(self.gelu(self.fc1(self.norm2(x))))


class ViT(nn.Module):
    """Images (B, 3, H, W) to logits; ``tokens`` learnt tokens stand before the patches.

    ``registers`` more stand between them (arXiv:2309.16588); then only the patches have positions, as in timm.
    """

    def __init__(self, attention=FusedAttention, *, tokens=1, registers=0, gelu="none", scale=False):
        super().__init__()
        self.tokens = tokens
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.learnt = nn.Parameter(torch.randn(1, tokens, WIDTH)) if tokens else None
        self.registers = nn.Parameter(torch.randn(1, registers, WIDTH)) if registers else None
        placed = (SIZE // PATCH) ** 2 + (0 if registers else tokens)
        self.position = nn.Parameter(torch.randn(1, placed, WIDTH) * 0.5)
        self.blocks = nn.ModuleList(Block(attention, nn.GELU(approximate=gelu), scale) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH, eps=1e-6)
        self.heads = nn.ModuleList(nn.Linear(WIDTH, CLASSES) for _ in range(max(tokens, 1)))

    def forward(self, images):
        x = self.patches(images).flatten(2).transpose(1, 2)
        if self.registers is not None:
            learnt = [rows.expand(x.shape[0], -1, -1) for rows in (self.learnt, self.registers)]
            x = torch.cat([*learnt, x + self.position], dim=1)
        else:
            x = torch.cat([self.learnt.expand(x.shape[0], -1, -1), x], dim=1) if self.tokens else x
            x = x + self.position
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        if not self.tokens:
            return self.heads[0](x.mean(dim=1))
        logits = [head(x[:, index]) for index, head in enumerate(self.heads)]
        return logits[0] if self.tokens == 1 else (logits[0] + logits[1]) / 2


def cnn():
    """Two convolutions and a linear layer."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, 2, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, CLASSES),
    )


def mlp():
    """Two linear layers with a GELU between them."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 4), nn.GELU(), nn.Linear(4, CLASSES))


#: File -> (model, how it is exported). ``dynamo=False`` is torch's older exporter; below 17 it spells LayerNorm.
MODELS = {
    "fused_dynamo": (lambda: ViT(gelu="tanh"), dict(dynamo=True, opset_version=20)),
    "fused_dynamo_static": (lambda: ViT(scale=True), dict(dynamo=True, opset_version=18, static=True)),
    "fused_legacy": (lambda: ViT(), dict(dynamo=False, opset_version=17)),
    "separate_mean_legacy": (lambda: ViT(SeparateAttention, tokens=0), dict(dynamo=False, opset_version=14)),
    "separate_dynamo": (lambda: ViT(SeparateAttention), dict(dynamo=True, opset_version=18)),
    "distilled_dynamo": (lambda: ViT(tokens=2), dict(dynamo=True, opset_version=18)),
    "distilled_legacy": (lambda: ViT(tokens=2, gelu="tanh"), dict(dynamo=False, opset_version=16)),
    "library_legacy": (lambda: ViT(LibraryAttention), dict(dynamo=False, opset_version=17)),
    "masked_dynamo": (lambda: ViT(MaskedAttention), dict(dynamo=True, opset_version=18)),
    "masked_op": (lambda: ViT(MaskedAttention), dict(dynamo=True, opset_version=23)),
    "registers_legacy": (lambda: ViT(registers=3), dict(dynamo=False, opset_version=17)),
    "separate_legacy": (lambda: ViT(SeparateAttention), dict(dynamo=False, opset_version=17)),
    "attention_op": (lambda: ViT(), dict(dynamo=True, opset_version=23)),
    "cnn": (cnn, dict(dynamo=True, opset_version=18)),
    "mlp": (mlp, dict(dynamo=True, opset_version=18)),
}


def images():
    """The batch that ``expected.npz`` answers, NCHW."""
    return np.random.default_rng(0).standard_normal((BATCH, 3, SIZE, SIZE)).astype(np.float32)


def export(model, path, *, dynamo, opset_version, static=False):
    """Write one file, without the stack traces that torch puts in; the batch is symbolic unless ``static``."""
    names = {"input_names": ["pixel_values"], "output_names": ["scores"]}
    if static:
        batch = {}
    elif dynamo:
        batch = {"dynamic_shapes": ({0: torch.export.Dim("batch", min=1, max=1024)},)}
    else:
        batch = {"dynamic_axes": {"pixel_values": {0: "batch"}, "scores": {0: "batch"}}}
    torch.onnx.export(
        model,
        (torch.from_numpy(images()),),
        path,
        dynamo=dynamo,
        opset_version=opset_version,
        external_data=False,
        **names,
        **batch,
    )
    traced = ir.load(path)
    passes.ClearMetadataAndDocStringPass()(traced)
    ir.save(traced, path)
    onnx.checker.check_model(path)


def main(names):
    """Write the files of these names and what torch computes with each; what was there of others stays."""
    torch.backends.mha.set_fastpath_enabled(False)  # its one fused operator has no ONNX form
    kept = HERE / "expected.npz"
    expected = dict(np.load(kept)) if kept.exists() else {}
    for name in names:
        build, how = MODELS[name]
        torch.manual_seed(0)
        model = build().eval()
        for parameter in model.parameters():  # no two LayerNorms alike, or the exporters share their weights
            parameter.data += 0.2 * torch.randn_like(parameter)
        with torch.no_grad():
            export(model, HERE / f"{name}.onnx", **how)
            expected[name] = model(torch.from_numpy(images())).numpy()
    np.savez_compressed(kept, **expected)


if __name__ == "__main__":
    main(sys.argv[1:] or MODELS)
