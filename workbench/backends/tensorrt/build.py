"""From an ONNX file to a serialized engine: parser, optimization profiles, options, timing cache."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ...errors import WorkbenchError, refuse_unless
from ...files import new_file
from ...records import Variant
from ..base import BuildRequest
from .engine import runtime_of
from .layers import LAYERS
from .log import BuildLog, BuildWatch
from .refusals import builder_error, one_line, parser_error
from .versions import VersionAdapter


def build_plan(
    adapter: VersionAdapter, request: BuildRequest, targets: Sequence[int], log: BuildLog, watch: BuildWatch
) -> bytes:
    """Build a serialized engine; the list of its layers is written into the request's folder.

    Args:
        adapter: the version of TensorRT.
        request: the file, the batch sizes of the optimization profile, and options that were checked.
        targets: compute capabilities to build for; none means the GPU of this machine.
        log: the builder writes its messages there.
        watch: follows the build and may stop it.

    Raises:
        WorkbenchError: the parser or the builder refuses the file.
        Cancelled: ``watch`` stopped the build.
    """
    trt, options = adapter.module, request.options
    builder = _builder(adapter, log)
    network = builder.create_network(adapter.network_flags)
    parser = _parse(trt, network, request.variant, log)
    config = _configured(adapter, builder, network, request, targets)
    if not adapter.watch(config, watch):
        log.follow(watch)
    timings = Path(options.get("timings", request.folder.parent)) / f"timings-{trt.__version__}.cache"
    cache = _TimingCache(config, timings) if adapter.keeps_timings else None
    plan = builder.build_serialized_network(network, config)
    del parser
    watch.raise_if_stopped()
    if plan is None:
        raise builder_error(request.variant, log.errors)
    if cache:
        cache.save()
    plan = bytes(plan)
    if not adapter.is_rtx:  # RTX lists its layers in the log, where no GPU is needed to read them
        (request.folder / LAYERS).write_text(_layers_of(adapter, plan, options, log))
    return plan


def _builder(adapter: VersionAdapter, log: BuildLog):
    try:
        return adapter.module.Builder(log.logger)
    except TypeError as error:  # its factory returned nothing
        raise WorkbenchError(
            f"{adapter.title} does not start here",
            why=one_line(" ".join(log.errors)) or str(error),
            remedy="`workbench doctor` shows whether driver, CUDA, GPU and TensorRT fit each other",
        ) from error


def _parse(trt, network, variant: Variant, log: BuildLog):
    """Read the file into the network; the parser holds the weights and must outlive the build."""
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse_from_file(str(variant.path)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise parser_error(variant, errors, log.errors)
    return parser


def _layers_of(adapter: VersionAdapter, plan: bytes, options: Mapping, log: BuildLog) -> str:
    """The engine's layers as its inspector writes them, JSON.

    With a dynamic batch the inspector gives types only for known shapes; it gets the ones that the engine is tuned
    for.
    """
    engine = runtime_of(adapter, options, log.logger).deserialize_cuda_engine(plan)
    refuse_unless(
        engine is not None,
        f"{adapter.title} does not load what it has just built",
        why=one_line(" ".join(log.errors)) or "it gives no reason",
        remedy="free the GPU's memory, or build with fewer options",
    )
    inspector = engine.create_engine_inspector()
    # 8.6 shows nearly everything as one region, with or without shapes
    context = engine.create_execution_context() if adapter.strongly_typed else None
    if context is not None:  # there may be no memory for one
        for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
            is_input = engine.get_tensor_mode(name) == adapter.module.TensorIOMode.INPUT
            if is_input and -1 in tuple(engine.get_tensor_shape(name)):
                context.set_input_shape(name, engine.get_tensor_profile_shape(name, 0)[1])
        inspector.execution_context = context
    return inspector.get_engine_information(adapter.module.LayerInformationFormat.JSON)


def _configured(adapter: VersionAdapter, builder, network, request: BuildRequest, targets: Sequence[int]):
    """A builder's configuration for this network: options, types, targets and optimization profiles."""
    trt, config = adapter.module, builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    _apply_options(trt, config, request.options)
    adapter.allow_types(network, config, request.variant.recipe)
    adapter.share_profiles(config)
    if targets:
        adapter.set_targets(config, targets)
    _add_profiles(builder, network, config, request)
    return config


def _apply_options(trt, config, options: Mapping) -> None:
    if "workspace_gib" in options:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(options["workspace_gib"] * (1 << 30)))
    if "optimization_level" in options:
        config.builder_optimization_level = options["optimization_level"]
    if options.get("version_compatible"):
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.get("hardware_compatible"):
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS


def _add_profiles(builder, network, config, request: BuildRequest) -> None:
    """Optimization profiles: one for each exact batch, then the range, and all of them for each image size.

    A call takes the first profile that fits. Image sizes differ only where height and width are symbolic.
    """
    image_sizes, batches = tuple(request.options.get("image_sizes", ())), request.batches
    tensors = [network.get_input(index) for index in range(network.num_inputs)]
    refuse_unless(
        bool(tensors),
        "There is nothing to build",
        why="the ONNX file holds a network without inputs",
        remedy="give a file that export_onnx, import_onnx or apply_recipe made",
    )
    symbolic_size = any(-1 in tuple(tensor.shape)[1:] for tensor in tensors)
    refuse_unless(
        symbolic_size or not image_sizes,
        "The model takes one image size only",
        why=f"its input is {tuple(tensors[0].shape)}; image_sizes asks for {image_sizes}",
        remedy="leave image_sizes out, or export the model with symbolic height and width",
    )
    if all(-1 not in tuple(tensor.shape) for tensor in tensors):
        return
    ranges = [(n, n, n) for n in batches.exact] + [(batches.min, batches.opt, batches.max)]
    open_batch = any(tensor.shape[0] == -1 for tensor in tensors)
    sizes = image_sizes or (request.variant.graph.preprocessing.size,)
    for size, batch in itertools.product(sizes, ranges if open_batch else ranges[-1:]):
        profile = builder.create_optimization_profile()
        for tensor in tensors:
            lengths = [size if length == -1 else length for length in tuple(tensor.shape)[1:]]
            _set_shapes(profile, tensor.name, [(n, *lengths) for n in batch])
        config.add_optimization_profile(profile)


def _set_shapes(profile, name: str, shapes: Iterable[tuple[int, ...]]) -> None:
    try:
        profile.set_shape(name, *shapes)
    except RuntimeError as error:
        raise WorkbenchError(
            f"The input {name!r} cannot have the shapes {list(shapes)}", why=str(error), remedy="lower batches.max"
        ) from error


class _TimingCache:
    """Kernel timings that the builder took before on this machine, shared by the builds of one folder."""

    def __init__(self, config, path: Path):
        self._config, self._path = config, path
        known = path.read_bytes() if path.exists() else b""
        # A cache from another GPU or driver is refused; then this build times every kernel again.
        if not config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False):
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)

    def save(self) -> None:
        """Write the timings known now; in one step, because builds in other processes read the file."""
        timings = bytes(self._config.get_timing_cache().serialize())
        with contextlib.suppress(WorkbenchError), new_file(self._path) as draft:
            draft.write_bytes(timings)  # they save time only: no engine is lost over them
