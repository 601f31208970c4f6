"""Kernels of real calls, as ``ncu`` names them.

The names and the seconds were recorded on an H200 with TensorRT 8.6.0: four blocks of a ViT-B/32 at batch 32, from
saved plans. The record holds the kernels of each name together, the longest first; here they stand in the order in
which a block must compute them. The order of the tiles among the linear layers, and the grids, are chosen so that
they fit their matrices; names that the record cuts off are cut off here too.
"""

from __future__ import annotations

from workbench.backends.hardware.kernels import Kernel

#: The linear layers in INT8: 64 x 256 for qkv and fc1, 128 x 128 for proj, 256 x 128 for fc2.
_I8 = "sm90_xmma_gemm_i8f32_i8i32_f32_tn_n_tilesize"
I8_WIDE = f"{_I8}64x256x64_cgasize4x1x1_warpgroupsize1x1x1_beta0_execute_segment_k_"
I8_SQUARE = f"{_I8}128x128x128_cgasize1x2x1_warpgroupsize1x1x1_beta0_execute_segment_"
I8_TALL = f"{_I8}256x128x64_cgasize1x2x1_warpgroupsize2x1x1_beta0_execute_segment_k"
F16_WIDE = (
    "sm90_xmma_gemm_f16f16_f16f16_f16_tn_n_tilesize64x256x32_cgasize4x1x1_warpgroupsize1x1x1_beta0_execute_segment_"
)
F16_SUM32 = (
    "sm90_xmma_gemm_f16f16_f16f32_f32_tn_n_tilesize128x256x32_cgasize2x1x1_warpgroupsize2x1x1_beta0_execute_segment"
)
F16_HEAD = (
    "sm90_xmma_gemm_f16f16_f16f16_f16_tn_n_tilesize128x64x64_cgasize2x4x1_warpgroupsize1x1x1_beta0_execute_segment_"
)
TF32 = (
    "sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize32x32x64_stage3_warpsize2x1x2_tensor16x8x8_execute_kernel_trt"
)
F32 = (
    "sm80_xmma_gemm_f32f32_f32f32_f32_nn_n_tilesize64x64x8_stage3_warpsize1x4x1_ffma_aligna4_alignc4_execute_kernel"
)
CONVOLUTION = (
    "sm80_xmma_fprop_implicit_gemm_indexed_wo_smem_f16f16_f16f16_f16_nhwckrsc_nhwc_tilesize128x32x64_stage1_warpsiz"
)
REFORMAT = (
    "void genericReformat::copyPackedKernel<float, float, 1, 1, genericReformat::IdentityCoordMapper<4>, 4>(unsigne"
)
PERMUTE = (
    "void CUTENSOR_NAMESPACE::permutationKernelPLC3<CUTENSOR_NAMESPACE::VectorWrite2DTensorView<0, 1, 0, 4, float, "
)
NCHW = "void cuInt8::nhwcTonchw<__half, 32, 16, 2>(const __half *, T1 *, int, int, int, int, int, int)"
PAD = "void cuPad::pad<float, float, 128, 1>(T2 *, nvinfer1::Dims4, const T2 *, nvinfer1::Dims4, int, int, int, "
SPLIT = "__myl_bb0_26_TraSliSliTraSli"
SOFTMAX = "__myl_bb0_25_MaxSubExpSumDivMul"
GELU_ROUNDED = "__myl_bb0_22_MulMulAddMulNegExpResAddDivMulMulMinMaxRouCas"
GELU = "__myl_bb0_23_MulMulAddMulNegExpResAddDivMul"
NORM = "__myl_bb0_24_ResMulMeaAddSqrDivMulCasMulAdd"

#: What comes before the blocks in every list here: images repacked, patches, tokens.
EMBEDDING = [
    Kernel(PERMUTE, 15.8e-6),
    Kernel(REFORMAT, 26.7e-6),
    Kernel(CONVOLUTION, 147.6e-6),
    Kernel(NCHW, 8.9e-6),
    Kernel(PAD, 8.1e-6),
]


def int8_attention_apart(depth: int = 4) -> list[Kernel]:
    """Linear layers in INT8, attention unfused in FP32: what 8.6 made of scope="linear"."""
    block = [
        Kernel(NORM, 7e-6),
        Kernel(I8_WIDE, 11.5e-6),
        Kernel(SPLIT, 12.7e-6),
        Kernel(F32, 10.1e-6),
        Kernel(SOFTMAX, 7.8e-6),
        Kernel(F32, 10.1e-6),
        Kernel(I8_SQUARE, 16.4e-6),
        Kernel(NORM, 7e-6),
        Kernel(I8_WIDE, 11.5e-6),
        Kernel(GELU_ROUNDED, 12e-6),
        Kernel(I8_TALL, 13.1e-6),
    ]
    return [*EMBEDDING, *depth * block, Kernel(TF32, 8.5e-6)]


def fp16_fused(depth: int = 4) -> list[Kernel]:
    """Everything in FP16, attention in one kernel each: ``mha0``, ``mha1`` and so on."""
    blocks = []
    for index in range(depth):
        blocks += [
            Kernel(NORM, 4.9e-6),
            Kernel(F16_WIDE, 16e-6),
            Kernel("__myl_bb0_26_TraSliSliTraSliResMovResMovResMov", 6.3e-6),
            Kernel(f"mha{index}", 9.3e-6),
            Kernel(F16_WIDE, 16e-6),
            Kernel(NORM, 4.9e-6),
            Kernel(F16_WIDE, 16e-6),
            Kernel(GELU, 9.6e-6),
            Kernel(F16_SUM32, 15e-6),
        ]
    return [*EMBEDDING, *blocks, Kernel(F16_HEAD, 19.4e-6)]


_HEADER = (
    '"ID","Process ID","Process Name","Host Name","Kernel Name","Context","Stream","Block Size","Grid Size",'
    '"Device","CC","Section Name","Metric Name","Metric Unit","Metric Value"'
)


def csv_of(kernels: list[Kernel], unit: str = "nsecond") -> str:
    """The kernels as ``ncu --csv --metrics gpu__time_duration.sum`` prints them, between what it says itself."""
    scale = {"nsecond": 1e9, "ns": 1e9, "usecond": 1e6, "us": 1e6}[unit]
    rows = []
    for index, kernel in enumerate(kernels):
        grid = "({}, {}, {})".format(*(kernel.grid or (132, 1, 1)))
        fields = [index, 2117, "python3.10", "127.0.0.1", kernel.name, 1, 13, "(128, 1, 1)", grid, 0, "9.0"]
        duration = f"{kernel.seconds * scale:,.2f}"
        fields += ["Command line profiler metrics", "gpu__time_duration.sum", unit, duration]
        rows.append(",".join(f'"{field}"' for field in fields))
    before = ["==PROF== Connected to process 2117 (/usr/bin/python3.10)", "loading the plan", _HEADER]
    return "\n".join([*before, *rows, "==PROF== Disconnected from process 2117", ""])
