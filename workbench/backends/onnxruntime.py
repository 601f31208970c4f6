"""ONNX Runtime on the CPU: the embedded default.

Options of ``build_engine(..., "onnxruntime", options={...})``:
    threads: threads that share one operator's work; one per physical core when left out.
    inter_op: operators that run at the same time, 1 when left out; a ViT is a chain and gains nothing from more.
    optimization: ``all`` (default), or ``none`` to see the error of quantization alone: fused kernels compute
        with other roundings.
"""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ..dtypes import PRODUCT_TYPES, TYPES, of_onnx
from ..errors import Refusal, WorkbenchError, one_of, refuse_unless
from ..progress import Progress, silent
from ..records import Engine, Variant
from .base import CLOSED, Backend, BuildRequest, Session, Tensor, check_feeds
from .external_data import copy_model, external_files
from .hardware.cpu import cores, environment
from .hardware.energy import cpu_joules
from .hardware.memory import MemoryMeter

OPTIONS = ("threads", "inter_op", "optimization")
PROVIDERS = ["CPUExecutionProvider"]
#: The types that ONNX Runtime cannot multiply on a CPU: why such a precision is refused, and what to do.
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
        return next((why for kind, why in NO_KERNELS.items() if kind in variant.recipe.product_types), other)

    def compile(self, request: BuildRequest, progress: Progress = silent) -> Engine:
        """Copy the variant into the request's folder and prove that ONNX Runtime loads it.

        The log lists the nodes that remain after ONNX Runtime's own optimization and which provider takes them.

        Raises:
            WorkbenchError: the file is no ONNX model, or holds an operator without a kernel.
        """
        options = _checked_options(request.options)
        progress("build", 0, 2)
        path = copy_model(request.variant.path, request.folder)
        progress("build", 1, 2)
        begin = time.perf_counter()
        native = _load(path, options)
        seconds = time.perf_counter() - begin
        log = request.folder / "nodes.json"
        log.write_text(json.dumps(_assigned_nodes(native), indent=1))
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
        with tempfile.TemporaryDirectory() as folder:
            native = _load(shared.path, shared.options, profile=str(Path(folder) / "profile"))
            for _ in range(2 + repeats):
                native.run(shared.outputs, dict(feeds))
            events = json.loads(Path(native.end_profiling()).read_text())
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
    for name in options:
        one_of("option of onnxruntime", name, OPTIONS)
    one_of("optimization", options.get("optimization", "all"), ("all", "none"))
    for name in ("threads", "inter_op"):
        value = options.get(name, 1)
        refuse_unless(
            isinstance(value, int) and not isinstance(value, bool) and value >= 1,
            f"The option {name!r} must be a whole number of 1 or more",
            why=f"it is {value!r}",
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
    settings.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
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


def _load(path: Path, options: Mapping, *, profile: str = ""):
    """A session with the options of an engine."""
    return inference_session(
        path,
        threads=options.get("threads"),
        inter_op=options.get("inter_op", 1),
        optimize=options.get("optimization") != "none",
        profile=profile,
    )


def _assigned_nodes(native) -> list[dict]:
    """Each node of the optimized graph with its provider; empty where the runtime is too old to list them."""
    if not hasattr(native, "get_provider_graph_assignment_info"):
        return []
    return [
        {"name": node.name, "type": node.op_type, "domain": node.domain, "provider": part.ep_name}
        for part in native.get_provider_graph_assignment_info()
        for node in part.get_nodes()
    ]


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
