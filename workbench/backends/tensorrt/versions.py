"""All differences between TensorRT 8.6, 10, 11 and TensorRT for RTX, in one place.

The rest of the backend uses what they have in common: the ONNX parser, profiles, named tensors and
``execute_async_v3``. Sources: NVIDIA's migration guides 8.x to 10.x and 10.x to 11.x (https://docs.nvidia.com/
deeplearning/tensorrt/latest/api/migration-guide.html), the Python API of each version, and builds with
TensorRT for RTX 1.7 and TensorRT 8.6.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from ...dtypes import PRODUCT_TYPES, STORED_TYPES, TYPES
from ...records import Recipe
from .weak_typing import WeakTyping

#: Highest opset that the parser of a major version reads, from onnx-tensorrt's docs/operators.md (8.6, 10.15) and
#: NVIDIA's "ONNX Opset Guide" (11). The parser of TensorRT for RTX 1.7 refuses no opset by its number.
MAX_OPSET = {8: 17, 10: 24, 11: 25}
#: RTX engines built without naming a card run on these and on later ones ("CPU-Only AOT and TensorRT-RTX Engines").
PORTABLE = (80, 86, 89, 120)


@dataclass(frozen=True)
class VersionAdapter:
    """An imported ``tensorrt`` or ``tensorrt_rtx`` module, and the particulars of its version."""

    module: ModuleType

    @property
    def is_rtx(self) -> bool:
        """Whether this is TensorRT for RTX, which builds without a GPU and compiles its kernels on loading."""
        return self.module.__name__ == "tensorrt_rtx"

    @property
    def version(self) -> tuple[int, ...]:
        """Major, minor and patch number."""
        return tuple(int(part) for part in self.module.__version__.split(".")[:3] if part.isdigit())

    @property
    def title(self) -> str:
        """Product and version as people write them."""
        return f"TensorRT{' for RTX' if self.is_rtx else ''} {self.module.__version__}"

    @property
    def strongly_typed(self) -> bool:
        """Whether a network computes in the types of its file; for 8.6 they are only a hint."""
        return hasattr(self.module.NetworkDefinitionCreationFlag, "STRONGLY_TYPED")

    @property
    def network_flags(self) -> int:
        """The argument of ``create_network``: strong typing where the version has it, else an explicit batch."""
        flags = self.module.NetworkDefinitionCreationFlag
        return 1 << int(flags.STRONGLY_TYPED if self.strongly_typed else flags.EXPLICIT_BATCH)

    @property
    def max_opset(self) -> int | None:
        """The highest ONNX opset that the parser reads, or None where it refuses none."""
        return None if self.is_rtx else MAX_OPSET.get(self.version[0])

    @property
    def types(self) -> tuple[str, ...]:
        """The types that a network may compute in, or store, by the names that recipes use."""
        known = dir(self.module.DataType)
        names = (*PRODUCT_TYPES, *STORED_TYPES)
        return tuple(name for name in names if TYPES[name].tensorrt in known and self._usable(name))

    def _usable(self, name: str) -> bool:
        # 8.6 lists FP8 in its DataType and has no kernel for it
        return self.version >= (9,) or self.is_rtx or name != "fp8"

    @property
    def targets(self) -> tuple[int, ...] | None:
        """The compute capabilities that can be targets, or None where only the GPU of this machine can."""
        if not hasattr(self.module, "ComputeCapability"):
            return None
        names = (name for name in dir(self.module.ComputeCapability) if name.startswith("SM"))
        return tuple(sorted(int(name[2:]) for name in names))

    def set_targets(self, config, capabilities: Iterable[int]) -> None:
        """Build for these compute capabilities (RTX only)."""
        capabilities = tuple(capabilities)
        config.num_compute_capabilities = len(capabilities)
        for index, sm in enumerate(capabilities):
            config.set_compute_capability(getattr(self.module.ComputeCapability, f"SM{sm}"), index)

    def allow_types(self, network, config, recipe: Recipe) -> None:
        """Let a weakly typed network use the types of its file: set builder flags, edit its Q/DQ."""
        if self.strongly_typed:
            return
        editor = WeakTyping(self.module, network)
        editor.skip_casts_of_dequantized()
        editor.skip_repeated_rounding()
        for flag, name in ((self.module.BuilderFlag.FP16, "fp16"), (self.module.BuilderFlag.INT8, "int8")):
            if name in recipe.product_types:
                config.set_flag(flag)

    def share_profiles(self, config) -> None:
        """Let several contexts use one optimization profile: a preview feature of 8.6, later always on."""
        feature = getattr(self.module.PreviewFeature, "PROFILE_SHARING_0806", None)
        if feature is not None:
            config.set_preview_feature(feature, True)

    def context_of(self, engine, options: Mapping, cache: Path):
        """An execution context and, on RTX, its compiled kernels; ``cache`` is the file with earlier ones."""
        if not hasattr(engine, "create_runtime_config"):
            return engine.create_execution_context(), None
        config = engine.create_runtime_config()
        if not hasattr(config, "create_runtime_cache"):  # TensorRT 10 and 11 have nothing to compile any more
            return engine.create_execution_context(), None
        trt, compiled = self.module, config.create_runtime_cache()
        if cache.is_file():
            compiled.deserialize(cache.read_bytes())  # one from another GPU or driver is refused
        config.set_runtime_cache(compiled)
        graphs = "WHOLE_GRAPH_CAPTURE" if options.get("cuda_graph", True) else "DISABLED"
        config.cuda_graph_strategy = getattr(trt.CudaGraphStrategy, graphs)
        strategy = options.get("specialization", "lazy").upper()
        strategies = trt.DynamicShapesKernelSpecializationStrategy
        config.dynamic_shapes_kernel_specialization_strategy = getattr(strategies, strategy)
        return engine.create_execution_context(config), compiled

    def watch(self, config, monitor_methods) -> bool:
        """Let an object with IProgressMonitor's methods follow the build; False where the class is missing."""
        base = getattr(self.module, "IProgressMonitor", None)
        if base is None:
            return False

        class Monitor(base):
            def __init__(self):
                base.__init__(self)

            def phase_start(self, name, parent, steps):
                monitor_methods.phase_start(name, parent, steps)

            def phase_finish(self, name):
                monitor_methods.phase_finish(name)

            def step_complete(self, name, step):
                return monitor_methods.step_complete(name, step)

        config.progress_monitor = Monitor()
        return True

    @property
    def keeps_timings(self) -> bool:
        """Whether a timing cache saves work: RTX measures nothing while it builds."""
        return not self.is_rtx


def refused_node(error) -> tuple[str, str]:
    """Name and operator of the node in a parser's error; both empty on 8.6, which names them only in its log."""
    if not hasattr(error, "node_name"):  # it came with 10
        return "", ""
    return error.node_name(), error.node_operator()
