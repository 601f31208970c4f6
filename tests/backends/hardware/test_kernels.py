"""What the names of kernels say. Every name was seen in a trace; ``traces`` says which on the H200."""

from __future__ import annotations

import pytest

from tests.backends.hardware import traces
from workbench.backends.hardware.kernels import Kernel, operations_of

#: Name -> the type that it multiplies in, and whether it is attention, a product, a copy.
NAMES = {
    traces.I8_WIDE: ("int8", "product"),
    traces.F16_SUM32: ("fp16", "product"),
    traces.TF32: ("tf32", "product"),
    traces.F32: ("fp32", "product"),
    traces.CONVOLUTION: ("fp16", "product"),
    "sm90_xmma_gemm_f32f32_tf32f32": ("tf32", "product"),
    "sm80_xmma_fprop_implicit_gemm_indexed_wo_smem_f16": ("fp16", "product"),
    "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize64x128x64_warpgroupsize1x1x1": ("bf16", "product"),
    "sm89_xmma_gemm_e4m3bf16_e4m3f32_f32_tn_n_tilesize256x64x64_stage4": ("fp8", "product"),
    "ampere_sgemm_32x128_tn": ("fp32", "product"),
    "ampere_fp16_s1688gemm_fp16_256x64_ldg8_f2f_stages_32x1_nn": ("fp16", "product"),
    "void cutlass::Kernel2<cutlass_80_tensorop_f16_s16816gemm_f16_256x128_64x3_tn_align2>": ("fp16", "product"),
    "mha0": (None, "attention"),
    "_gemm_mha_v2_0xe98c": (None, "attention"),
    "__mye8037_gemm_mha_v2": (None, "attention"),
    "fmha_v2_flash_attention_fp16_64_32_S_qkv_128_sm89_kernel_nl": ("fp16", "attention"),
    traces.REFORMAT: (None, "move"),
    traces.PERMUTE: (None, "move"),
    traces.NCHW: (None, "move"),
    traces.PAD: (None, "move"),
    traces.SOFTMAX: (None, "other"),
    traces.GELU_ROUNDED: (None, "other"),
    "void cublasLt::splitKreduce_kernel<32, 16, int, float, __half, float>": (None, "other"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_tells_what_a_kernel_does_and_the_type_that_it_multiplies_in(name):
    kernel = Kernel(name, 1e-6)
    does = {"attention": kernel.is_attention, "product": kernel.is_product, "move": kernel.is_move}
    assert (kernel.type, next((what for what, so in does.items() if so), "other")) == NAMES[name]
    assert sum(does.values()) <= 1
    assert kernel.row()["type"] == NAMES[name][0]


def test_only_the_convolution_is_a_convolution():
    assert [name for name in NAMES if Kernel(name, 0).is_convolution] == [
        traces.CONVOLUTION,
        "sm80_xmma_fprop_implicit_gemm_indexed_wo_smem_f16",
    ]


def test_tile_and_cluster_are_read_where_a_name_has_them():
    assert (Kernel(traces.I8_WIDE, 0).tile, Kernel(traces.I8_WIDE, 0).cluster) == ((64, 256), (4, 1))
    assert (Kernel(traces.F32, 0).tile, Kernel(traces.F32, 0).cluster) == ((64, 64), (1, 1))
    assert Kernel("mha0", 0).tile is None


def test_operations_of_86_have_the_names_of_later_versions():
    assert operations_of("__myl_bb0_5_CasResTraRouMeaExp") == ("Cast", "Resh", "Tran", "Roun", "Mean", "Exp")
    assert operations_of("__myl_CastReshTranRounMeanExp_myl0_3") == ("Cast", "Resh", "Tran", "Roun", "Mean", "Exp")
    assert operations_of("block00/mlp/fc1") == ()
