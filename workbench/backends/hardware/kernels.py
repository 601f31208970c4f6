"""The kernels that a GPU runs, and what their names say: a product and its type, a fused attention, a copy.

NVIDIA documents no grammar of kernel names. These forms were seen in traces of TensorRT 8.6 on an H200, in builds
of TensorRT for RTX, and in published traces of cuBLAS, cuDNN and CUTLASS:

- ``sm90_xmma_gemm_i8f32_i8i32_f32_tn_n_tilesize64x256x64_cgasize4x1x1...``: after the operation the types of the
  operands in memory, then the type that is multiplied and the one of the sum. ``f32f32_tf32f32`` reads float32 and
  multiplies in TF32.
- ``mha0``, ``_gemm_mha_v2_0x...``, ``fmha_v2_..._fp16_...``: a whole attention.
- ``__myl_bb0_25_MaxSubExpSumDivMul``: a kernel that Myelin generated, named after its operations. 8.6 writes three
  letters of each (``Cas``), later versions four (``Cast``).
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: The name of a type inside a kernel's name -> the type that a product is counted in.
_TYPES = {
    **{"e4m3": "fp8", "e5m2": "fp8", "i8": "int8", "u8": "int8", "s8": "int8"},
    **{"f16": "fp16", "bf16": "bf16", "tf32": "tf32", "f32": "fp32"},
}
#: All types that a kernel can multiply in, by the names of this module's rows.
MULTIPLIED = tuple(dict.fromkeys(_TYPES.values()))
_TYPE = "|".join((*_TYPES, "i32", "f64"))
#: Types of an XMMA kernel: two operands in memory; then, where the name is whole, what is multiplied and summed.
_XMMA = re.compile(rf"_xmma_\w*?_(?P<memory>{_TYPE})(?:(?:{_TYPE})(?:_(?P<multiplied>{_TYPE}))?)?")
#: Parts of the names of other libraries' kernels, the first that is found counts.
_WORDS = (
    (re.compile(r"e4m3|e5m2|fp8"), "fp8"),
    (re.compile(r"int8|_[us]8|_i\d{4,5}(?:gemm|cudnn|fprop)"), "int8"),
    (re.compile(r"tf32"), "tf32"),
    (re.compile(r"bf16|bfloat16"), "bf16"),
    (re.compile(r"fp16|_f16|_h\d{3,5}|hgemm|__half|half_t"), "fp16"),
    (re.compile(r"fp32|sgemm|_scudnn|simt|float"), "fp32"),
)
_ATTENTION = re.compile(r"(?<![a-z])f?mha(?![a-z])|flash_(?:fwd|attention)|multi_?head", re.IGNORECASE)
_CONVOLUTION = re.compile(r"cudnn|_fprop_|implicit_convolve")
_PRODUCT = re.compile(r"gemm|gemv|nvjet|matmul", re.IGNORECASE)
#: Kernels that only move or repack numbers.
_MOVE = re.compile(r"reformat|permut|transpose|nhwc|nchw|cuPad|copy|memcpy", re.IGNORECASE)
_GENERATED = re.compile(r"^__my\w*?_(?:bb\d+_\d+_)?((?:[A-Z][a-z0-9]*)+)")
#: Three letters of an operation, as 8.6 writes them -> four letters, as later versions do.
_LONGER = {
    "Cas": "Cast", "Rou": "Roun", "Mov": "Move", "Res": "Resh", "Tra": "Tran", "Sli": "Slic", "Con": "Conc",
    "Gat": "Gath", "Squ": "Sque", "Uns": "Unsq", "Rep": "Repl", "Cop": "Copy", "Mea": "Mean", "Tan": "Tanh",
}  # fmt: skip


class Kernel(NamedTuple):
    """One launch of a kernel: its name, its seconds, and its thread blocks in x, y and z where they are known."""

    name: str
    seconds: float
    grid: tuple[int, int, int] | None = None

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations of a generated kernel, see ``operations_of``."""
        return operations_of(self.name)

    @property
    def is_attention(self) -> bool:
        """Whether it computes a whole attention: two products and the softmax between them."""
        return bool(_ATTENTION.search(self.name))

    @property
    def is_convolution(self) -> bool:
        """Whether it computes a convolution."""
        return not self.is_attention and bool(_CONVOLUTION.search(self.name))

    @property
    def is_product(self) -> bool:
        """Whether it computes a matrix product, convolutions included and fused attention left out."""
        if self.is_attention or "splitK" in self.name:  # the second half of a product only adds
            return False
        return self.is_convolution or bool(_PRODUCT.search(self.name)) or "Fc" in self.operations

    @property
    def is_move(self) -> bool:
        """Whether it only moves or repacks numbers; generated kernels say so by their operations."""
        return not (self.is_attention or self.is_product or self.operations) and bool(_MOVE.search(self.name))

    @property
    def type(self) -> str | None:
        """The type that it multiplies in, one of ``MULTIPLIED``; None where its name does not tell.

        Kernels that are neither a product nor an attention multiply no matrices and have none.
        """
        if not (self.is_product or self.is_attention):
            return None
        if match := _XMMA.search(self.name):
            return _TYPES.get(match["multiplied"] or match["memory"])
        return next((kind for words, kind in _WORDS if words.search(self.name)), None)

    @property
    def tile(self) -> tuple[int, int] | None:
        """Rows and columns of the result that one thread block computes, or None where the name does not tell."""
        match = re.search(r"tilesize(\d+)x(\d+)x\d+", self.name)
        return (int(match[1]), int(match[2])) if match else None

    @property
    def cluster(self) -> tuple[int, int]:
        """Thread blocks of a cluster along rows and columns; the grid is a multiple of it. (1, 1) without one."""
        match = re.search(r"cgasize(\d+)x(\d+)x\d+", self.name)
        return (int(match[1]), int(match[2])) if match else (1, 1)

    def row(self) -> dict:
        """The kernel as ``Session.kernels`` gives it."""
        return {
            "name": self.name,
            "seconds": self.seconds,
            "type": self.type,
            "attention": self.is_attention,
            "grid": self.grid,
        }


def operations_of(name: str) -> tuple[str, ...]:
    """The operations in a name that Myelin made: ``__myl_ReshCastMul_myl0_3`` -> Resh, Cast, Mul; else none."""
    match = _GENERATED.match(name)
    found = re.findall(r"[A-Z][a-z0-9]*", match[1]) if match else ()
    return tuple(_LONGER.get(one, one) for one in found)
