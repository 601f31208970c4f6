"""ONNX Runtime on the CPU: the embedded default.

Options of ``build_engine(..., "onnxruntime", options={...})``:
    threads: threads that share one operator's work; one per physical core when left out.
    inter_op: operators that run at the same time, 1 when left out; a ViT is a chain and gains nothing from more.
    optimization: ``all`` (default); ``qdq-as-written`` computes Q/DQ pairs as they stand, without 8-bit kernels;
        ``none`` fuses nothing, to see the error of quantization alone: fused kernels compute with other roundings.
"""

from __future__ import annotations

import dataclasses
import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ..dtypes import PRODUCT_TYPES, TYPES, of_onnx
from ..errors import Refusal, WorkbenchError, one_of, refuse_unless, shown
from ..files import scratch_folder
from ..progress import Progress, silent
from ..records import Engine, Variant
from .base import CLOSED, Backend, BuildRequest, Session, Tensor, check_feeds
from .external_data import copy_model, external_files
from .hardware.cpu import cores, environment
from .hardware.energy import cpu_joules
from .hardware.memory import MemoryMeter

OPTIONS = ("threads", "inter_op", "optimization")
#: The optimization that fuses float operators alone.
AS_WRITTEN = "qdq-as-written"
PROVIDERS = ["CPUExecutionProvider"]
#: More threads than any machine has cores; starting a thousand million of them never ends.
MOST_THREADS = 1024
#: The types that ONNX Runtime neither multiplies nor expands on a CPU: why they are refused, and what to do.
NO_KERNELS = {
    "bf16": Refusal(
        "ONNX Runtime has no BF16 kernels for the CPU",
        "build it with tensorrt or tensorrt-rtx; its accuracy can be emulated here, rounding after each operator",
    ),
    "fp4": Refusal(
        "ONNX Runtime has no FP4 kernels for the CPU, and lacks the operators that quantize in blocks",
        "build it with tensorrt or tensorrt-rtx for SM100 and up; its accuracy can be emulated here",
    ),
    "fp8": Refusal(
        "ONNX Runtime has no FP8 kernels for the CPU",
        "build it with tensorrt or tensorrt-rtx for SM89 and up; its accuracy can be emulated here",
    ),
}


class OnnxRuntime(Backend):
    """ONNX Runtime's CPU provider: an engine is a copy of the variant, optimized each time it is opened."""

    name = "onnxruntime"
    copies_variant = True

    def missing(self) -> Refusal | None:
        """Why ONNX Runtime cannot be imported, or None when it can."""
        try:
            import onnxruntime  # noqa: F401
        except ImportError as error:
            return Refusal(f"onnxruntime cannot be imported: {error}", "pip install onnxruntime")
        return None

    def refuses(self, variant: Variant, card: str | None = None) -> Refusal | None:
        """Refuse every card, and every variant that was written for other runtimes."""
        if card is not None:
            return Refusal(
                f"a card was named ({card}), and ONNX Runtime computes on the CPU here",
                "leave card out, or build with tensorrt or tensorrt-rtx",
            )
        if self.name in variant.runtimes:
            return None
        written_for = ", ".join(variant.runtimes) or "no runtime"
        other = Refusal(
            f"the variant was written for {written_for}",
            "choose layout='cpu' or another precision in the recipe, or build with one of those runtimes",
        )
        return next((why for kind, why in NO_KERNELS.items() if kind in variant.recipe.types), other)

    def compile(self, request: BuildRequest, progress: Progress = silent) -> Engine:
        """Copy the variant into the request's folder and prove that ONNX Runtime loads it.

        The log lists the nodes that run after ONNX Runtime's own optimization, in order, and the provider of each;
        they come from the profile of one call.

        Raises:
            WorkbenchError: the file is no ONNX model, holds an operator without a kernel, or fails in the call.
        """
        options = _checked_options(request.options)
        progress("build", 0, 2)
        path = copy_model(request.variant.path, request.folder)
        progress("build", 1, 2)
        with scratch_folder() as folder:
            begin = time.perf_counter()
            native = _load(path, options, profile=str(folder / "profile"))
            seconds = time.perf_counter() - begin
            events = _profile_of(native, _noise(native, request), 1)
        log = request.folder / "nodes.json"
        nodes = [{name: row[name] for name in ("name", "type", "provider")} for row in _layer_rows(events, skip=0)]
        log.write_text(json.dumps(nodes, indent=1))
        progress("build", 2, 2)
        return Engine(
            backend=self.name,
            path=path,
            variant=request.variant,
            batches=request.batches,
            run_id=request.run_id,
            options=options,
            build_seconds=seconds,
            log_path=log,
            environment={**environment(), **_runtime_facts(options)},
        )

    def checked_options(self, options: Mapping) -> dict:
        """The options that the module's docstring lists."""
        return _checked_options(options)

    def open(self, engine: Engine, streams: int = 1) -> tuple[Session, ...]:
        """Sessions on one InferenceSession, which is safe to call from several threads at once."""
        shared = _Shared(engine.path, _checked_options(engine.options))
        return tuple(OrtSession(shared, owner=index == 0) for index in range(streams))

    def refused_nodes(self, model: Path) -> tuple[Refusal, ...]:
        """The first node that ONNX Runtime refuses, or none."""
        try:
            inference_session(model)
        except WorkbenchError as error:
            why = " ".join(error.why.split())[:400]
            found = re.search(r"node with name '([^']*)'|Node[: ]*\(([^)]*)\)", why)
            node = next(filter(None, found.groups()), "") if found else ""
            remedy = "choose another precision or opset, or export again if the file is damaged"
            return (Refusal(why, remedy, node),)
        return ()

    def emulated_types(self, variant: Variant) -> tuple[str, ...]:
        """FP16, BF16 and FP8, whose products the CPU provider computes in FP32."""
        types = variant.recipe.product_types
        return tuple(name for name in PRODUCT_TYPES if name in types and TYPES[name].is_float and name != "fp32")

    def computes_as_written(self, variant: Variant) -> bool:
        """Not with 16-bit floats, nor where its 8-bit kernels saturate on some CPUs, as in TensorRT's layout.

        Without VNNI an x86 CPU adds two products of 8 bits in 16 bits. The cpu layout keeps its weights small
        enough for that; TensorRT's needs all of ±127.
        """
        recipe = variant.recipe
        saturates = recipe.precision == "int8" and recipe.resolved_layout == "tensorrt"
        return not saturates and super().computes_as_written(variant)

    def as_written(self, engine: Engine) -> Engine:
        """The file that rounds after every operator, its Q/DQ pairs computed as they stand, without 8-bit kernels.

        Raises:
            WorkbenchError: a variant with 16-bit types has no such file.
        """
        variant, path = engine.variant, engine.path
        if self.computes_as_written(variant):
            return engine
        if self.emulated_types(variant):
            path = variant.emulation
        if path is None or not path.is_file():
            raise WorkbenchError(
                f"The accuracy of {engine.label} cannot be measured on ONNX Runtime",
                why=f"it computes {', '.join(self.emulated_types(variant))} in float32, and the variant has no "
                f"file that rounds as that type does{f': {path} is gone' if path else ''}",
                remedy="make the variant again with apply_recipe and build it again, or pass "
                "graphs.quantization.emulation.emulated(variant, workspace) to build_engine",
            )
        own = {} if path != engine.path else engine.checksums
        return dataclasses.replace(
            engine, path=path, checksums=own, options={**engine.options, "optimization": AS_WRITTEN}
        )

    def files(self, engine: Engine) -> tuple[Path, ...]:
        """The model and its files of external weights."""
        return (engine.path, *external_files(engine.path))


class _Shared:
    """The part of an engine that its streams share: one InferenceSession."""

    def __init__(self, path: Path, options: Mapping):
        self.path, self.options, self.meter = path, options, MemoryMeter()
        self.native = _load(path, options)
        self.inputs = {
            node.name: Tensor(
                _numpy_type(node.type),
                tuple(n if isinstance(n, int) else None for n in node.shape),
            )
            for node in self.native.get_inputs()
        }
        self.outputs = [node.name for node in self.native.get_outputs()]


def _numpy_type(name: str) -> np.dtype:
    """The NumPy type of ONNX Runtime's ``tensor(float)``; object for one that NumPy lacks."""
    kind = of_onnx(name)
    try:
        return np.dtype(kind.numpy if kind else object)
    except TypeError:
        return np.dtype(object)


class OrtSession(Session):
    """One stream of calls to an InferenceSession."""

    def __init__(self, shared: _Shared, *, owner: bool):
        self._shared: _Shared | None = shared
        self._owner = owner
        self.environment = _runtime_facts(shared.options)

    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Compute all outputs for one batch."""
        shared = self._checked(feeds)
        return dict(zip(shared.outputs, shared.native.run(shared.outputs, dict(feeds))))

    def time(self, feeds: Mapping[str, np.ndarray], repeats: int) -> list[float]:
        """Seconds of each call to ``InferenceSession.run``; each call makes new output arrays."""
        shared = self._checked(feeds)
        run, outputs, clock = shared.native.run, shared.outputs, time.perf_counter
        feeds, seconds = dict(feeds), []
        for _ in range(repeats):
            begin = clock()
            run(outputs, feeds)
            seconds.append(clock() - begin)
        return seconds

    def joules(self) -> float | None:
        """Energy of the CPU's packages, through RAPL."""
        return cpu_joules()

    def layers(self, feeds: Mapping[str, np.ndarray], repeats: int = 10) -> list[dict]:
        """Rows ``name``, ``type``, ``seconds``, ``provider`` in the order of execution.

        They come from ONNX Runtime's profiler in a second session, so that profiling slows no measurement; seconds
        are medians over ``repeats`` calls after two that are left out. A node that ONNX Runtime made by fusion has
        the name of one of its parts with a suffix (``block00/mlp/fc1/MatMulAddFusion``).
        """
        shared = self._checked(feeds)
        with scratch_folder() as folder:
            native = _load(shared.path, shared.options, profile=str(folder / "profile"))
            events = _profile_of(native, feeds, 2 + repeats)
        return _layer_rows(events, skip=2)

    def memory(self) -> int:
        """The peak of this process's physical memory since the session was opened, above what it held before.

        ONNX Runtime takes its memory from the process's own heap, so what other threads allocate is counted too.
        """
        return self._open().meter.peak()

    def close(self) -> None:
        """Free the weights when this is the first of its streams."""
        if self._owner and self._shared is not None:
            self._shared.native = None
        self._shared = None

    def _open(self) -> _Shared:
        if self._shared is None or self._shared.native is None:
            raise CLOSED.error("The session is closed")
        return self._shared

    def _checked(self, feeds: Mapping[str, np.ndarray]) -> _Shared:
        shared = self._open()
        check_feeds(feeds, shared.inputs)
        return shared


def _checked_options(options: Mapping) -> dict:
    refuse_unless(
        isinstance(options, Mapping),
        "Options are names with values",
        why=f"given was {shown(options)}",
        remedy="write options={'threads': 2}",
    )
    for name in options:
        one_of("option of onnxruntime", name, OPTIONS)
    one_of("optimization", options.get("optimization", "all"), ("all", "none", AS_WRITTEN))
    for name in ("threads", "inter_op"):
        value = options.get(name, 1)
        refuse_unless(
            isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_THREADS,
            f"The option {name!r} must be a whole number of 1 or more",
            why=f"it is {shown(value)}, and the most is {MOST_THREADS}",
            remedy="leave it out for the default",
        )
    return dict(options)


def inference_session(
    model: Path | bytes,
    *,
    threads: int | None = None,
    inter_op: int = 1,
    optimize: bool = True,
    fuse_qdq: bool = True,
    profile: str = "",
):
    """An ``onnxruntime.InferenceSession`` on the CPU. The whole package opens its sessions of ONNX Runtime here.

    Args:
        model: an ONNX file, or the bytes of one.
        threads: threads that share one operator's work; None takes one per physical core.
        inter_op: operators that run at the same time.
        optimize: False runs the graph as the file has it, without ONNX Runtime's own fusions.
        fuse_qdq: False computes QuantizeLinear and DequantizeLinear as they stand, without 8-bit products.
        profile: how the profile's file name begins; empty takes no profile.

    Raises:
        WorkbenchError: ONNX Runtime refuses the model; ``why`` is its own message.
    """
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.log_severity_level = 4  # errors are raised, and need not be printed as well
    settings.intra_op_num_threads = threads or cores()
    settings.inter_op_num_threads = inter_op
    if inter_op > 1:
        settings.execution_mode = ort.ExecutionMode.ORT_PARALLEL
    if not optimize:
        settings.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if not fuse_qdq:
        settings.add_session_config_entry("session.disable_quant_qdq", "1")
    if profile:
        settings.enable_profiling, settings.profile_file_prefix = True, profile
    source = model if isinstance(model, bytes) else str(model)
    try:
        return ort.InferenceSession(source, settings, providers=PROVIDERS)
    except Exception as error:  # its exception classes have no common base but Exception
        raise WorkbenchError(
            f"ONNX Runtime does not load {'the model' if isinstance(model, bytes) else model}",
            why=str(error),
            remedy="if it is no ONNX model or a damaged one, export it again; if an operator has no kernel on the "
            "CPU, choose another precision or opset, or a GPU runtime",
        ) from error


class TookTooLong(WorkbenchError):
    """A graph was stopped after its limit of time."""


def run_within(session, feeds: Mapping[str, np.ndarray], limit_s: float | None) -> list[np.ndarray]:
    """All outputs of an ``InferenceSession`` for one batch; a graph with a loop may never end and needs a limit.

    Raises:
        TookTooLong: it was stopped after ``limit_s`` seconds.
    """
    import onnxruntime as ort

    if limit_s is None:
        return session.run(None, dict(feeds))
    settings, stopped = ort.RunOptions(), threading.Event()
    settings.log_severity_level = 4

    def stop():
        stopped.set()
        settings.terminate = True

    timer = threading.Timer(limit_s, stop)
    timer.daemon = True
    timer.start()
    try:
        return session.run(None, dict(feeds), settings)
    except Exception:
        if not stopped.is_set():
            raise
    finally:
        timer.cancel()
    raise TookTooLong(
        "The model does not end",
        why=f"it has a loop, and was stopped after {limit_s:g} s",
        remedy="export it without loops, with a fixed image size",
    )


def _load(path: Path, options: Mapping, *, profile: str = ""):
    """A session with the options of an engine."""
    return inference_session(
        path,
        threads=options.get("threads"),
        inter_op=options.get("inter_op", 1),
        optimize=options.get("optimization") != "none",
        fuse_qdq=options.get("optimization") != AS_WRITTEN,
        profile=profile,
    )


def _noise(native, request: BuildRequest) -> dict[str, np.ndarray]:
    """The smallest batch that the engine takes, of noise; axes that the file leaves open are the graph's own."""
    expected, rng = (request.batches.min, *request.variant.graph.image_shape), np.random.default_rng(0)
    feeds = {}
    for node in native.get_inputs():
        own = expected if len(node.shape) == len(expected) else (1,) * len(node.shape)
        shape = tuple(n if isinstance(n, int) else m for n, m in zip(node.shape, own))
        kind = _numpy_type(node.type)
        noise = rng.integers(0, 256, shape) if kind == np.uint8 else rng.standard_normal(shape)
        feeds[node.name] = noise.astype(kind)
    return feeds


def _profile_of(native, feeds: Mapping[str, np.ndarray], calls: int) -> list[dict]:
    """The events of a session that profiles, over some calls."""
    try:
        for _ in range(calls):
            native.run(None, dict(feeds))
    except Exception as error:  # its exception classes have no common base but Exception
        raise WorkbenchError(
            "ONNX Runtime loads the model and cannot run it",
            why=str(error),
            remedy="check the shapes in the model: export it again, or import it with import_onnx",
        ) from error
    text = Path(native.end_profiling()).read_text()
    try:
        return json.loads(text)
    except ValueError as error:  # the profiler does not say that the disk was full
        raise WorkbenchError(
            "The profile of ONNX Runtime is not whole",
            why=f"{len(text):,} characters were written: {error}"[:400],
            remedy="free some space in the temporary folder, or name another in TMPDIR",
        ) from error


def _runtime_facts(options: Mapping) -> dict:
    import onnxruntime as ort

    return {"onnxruntime": ort.__version__, "threads": options.get("threads") or cores()}


def _layer_rows(events: Iterable[Mapping], skip: int) -> list[dict]:
    """One row per node from the profiler's events, its first ``skip`` executions left out."""
    calls: dict[str, list[Mapping]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            calls.setdefault(event["args"]["node_index"], []).append(event)
    return [
        {
            "name": of_node[0]["name"].removesuffix("_kernel_time"),
            "type": of_node[0]["args"]["op_name"],
            "seconds": float(np.median([event["dur"] for event in of_node[skip:]])) * 1e-6,
            "provider": of_node[0]["args"]["provider"],
        }
        for of_node in calls.values()
    ]
