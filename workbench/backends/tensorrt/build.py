"""From an ONNX file to a serialized engine: parser, profiles, options, timing cache."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from ...errors import WorkbenchError, refuse_unless
from ...records import Batches, Variant
from .engine import runtime_of
from .layers import LAYERS
from .log import BuildLog, BuildWatch, parser_error, refused_build
from .versions import Flavour


def build_plan(
    flavour: Flavour,
    variant: Variant,
    batches: Batches,
    targets: Iterable[int],
    options: Mapping,
    folder: Path,
    log: BuildLog,
    watch: BuildWatch,
) -> bytes:
    """Build a serialized engine.

    Args:
        flavour: with which TensorRT.
        variant: from which file.
        batches: the batch sizes of the optimization profile.
        targets: compute capabilities to build for; none is the GPU at hand.
        options: see ``tensorrt_options``.
        folder: where the list of layers is put.
        log: what the builder writes to.
        watch: what follows and may stop it.

    Raises:
        WorkbenchError: the parser or the builder refuses the file.
        Cancelled: ``watch`` stopped the build.
    """
    trt = flavour.module
    builder = _builder(flavour, log)
    network = builder.create_network(flavour.network_flags)
    parser = _parse(trt, network, variant, log)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    _apply_options(trt, config, options)
    flavour.allow_types(network, config, variant.recipe)
    flavour.share_profiles(config)
    if targets:
        flavour.set_targets(config, targets)
    _add_profiles(builder, network, config, variant, batches, options.get("image_sizes", ()))
    if not flavour.watch(config, watch):
        log.follow(watch)
    kept = Path(options.get("timings", folder.parent)) / f"timings-{trt.__version__}.cache"
    cache = _TimingCache(config, kept) if flavour.keeps_timings else None
    plan = builder.build_serialized_network(network, config)
    del parser
    watch.raise_if_stopped()
    if plan is None:
        raise refused_build(variant, log.errors)
    if cache:
        cache.keep()
    plan = bytes(plan)
    if not flavour.is_rtx:  # RTX lists its layers in the log, where no GPU is needed to read them
        (folder / LAYERS).write_text(_layers_of(flavour, plan, options, log))
    return plan


def _builder(flavour: Flavour, log: BuildLog):
    try:
        return flavour.module.Builder(log.logger)
    except TypeError as error:  # its factory returned nothing
        raise WorkbenchError(
            f"{flavour.title} does not start here",
            why=" ".join(" ".join(log.errors).split())[:400] or str(error),
            remedy="`workbench doctor` says whether driver, CUDA, GPU and TensorRT go together",
        ) from error


def _parse(trt, network, variant: Variant, log: BuildLog):
    """Read the file into the network; the parser holds the weights and must outlive the build."""
    refuse_unless(
        variant.path.is_file(),
        f"The variant's file {variant.path} is missing",
        why="it was moved or deleted after the variant was made",
        remedy="make the variant again with apply_recipe",
    )
    parser = trt.OnnxParser(network, log.logger)
    if not parser.parse_from_file(str(variant.path)):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        raise parser_error(variant, errors, log.errors)
    return parser


def _layers_of(flavour: Flavour, plan: bytes, options: Mapping, log: BuildLog) -> str:
    """The engine's layers as its inspector writes them, JSON.

    Behind a dynamic batch it tells no types until it knows shapes: it gets those that the engine is tuned for.
    """
    engine = runtime_of(flavour, options, log.logger).deserialize_cuda_engine(plan)
    refuse_unless(
        engine is not None,
        f"{flavour.title} does not load what it has just built",
        why=" ".join(" ".join(log.errors).split())[:400] or "it gives no reason",
        remedy="free the GPU's memory, or build with fewer options",
    )
    inspector = engine.create_engine_inspector()
    # 8.6 hides nearly all in one region, whatever it knows
    context = engine.create_execution_context() if flavour.strongly_typed else None
    if context is not None:  # there may be no memory for one
        for name in map(engine.get_tensor_name, range(engine.num_io_tensors)):
            if -1 in tuple(engine.get_tensor_shape(name)) and _is_input(flavour.module, engine, name):
                context.set_input_shape(name, engine.get_tensor_profile_shape(name, 0)[1])
        inspector.execution_context = context
    return inspector.get_engine_information(flavour.module.LayerInformationFormat.JSON)


def _is_input(trt, engine, name: str) -> bool:
    return engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT


def _apply_options(trt, config, options: Mapping) -> None:
    if "workspace_gib" in options:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(options["workspace_gib"] * (1 << 30)))
    if "optimization_level" in options:
        config.builder_optimization_level = options["optimization_level"]
    if options.get("version_compatible"):
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.get("hardware_compatible"):
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS


def _add_profiles(builder, network, config, variant: Variant, batches: Batches, image_sizes) -> None:
    """One optimization profile, or one for each image size where height and width are symbolic."""
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
        why=f"its input is {tuple(tensors[0].shape)}; image_sizes asks for {tuple(image_sizes)}",
        remedy="leave image_sizes out, or export the model with symbolic height and width",
    )
    if all(-1 not in tuple(tensor.shape) for tensor in tensors):
        return
    for size in tuple(image_sizes) or (variant.graph.preprocessing.size,):
        profile = builder.create_optimization_profile()
        for tensor in tensors:
            lengths = [size if length == -1 else length for length in tuple(tensor.shape)[1:]]
            _set_shapes(profile, tensor.name, [(n, *lengths) for n in (batches.min, batches.opt, batches.max)])
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
        # A cache from another GPU or driver is turned down; then this build times everything anew.
        if not config.set_timing_cache(config.create_timing_cache(known), ignore_mismatch=False):
            config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)

    def keep(self) -> None:
        """Write what is known now; whole or not at all, because builds in other processes read it."""
        draft = self._path.with_name(f".{self._path.name}-{os.getpid()}")
        with contextlib.suppress(OSError):  # timings save time only: an engine that was built is not lost over them
            self._path.parent.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(bytes(self._config.get_timing_cache().serialize()))
            os.replace(draft, self._path)
