"""The backend on TensorRT 8.6, 10 and 11 (``tensorrt``) and on TensorRT for RTX (``tensorrt-rtx``).

One class serves both products; it is given the name of the module that it imports. The options of a build are in
``options``.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from ...dtypes import TYPES
from ...errors import Refusal
from ...progress import Progress, silent
from ...records import Engine, Variant
from ..base import Backend, BuildRequest, Session
from ..hardware.cards import capability, sm_name
from ..hardware.cpu import environment
from ..hardware.gpu import gpus, pycuda_missing
from .build import build_plan
from .log import BuildLog, BuildWatch
from .options import checked_options
from .parser import refused_nodes
from .versions import PORTABLE, VersionAdapter

ENGINE, LOG = "engine.plan", "build.log"
#: TensorRT has one logger in a process: builds in one process wait for each other, so that each has its own log.
_ONE_BUILD = threading.Lock()


def tensorrt() -> TensorRT:
    """The backend on the ``tensorrt`` module, which builds for the GPU of its machine."""
    return TensorRT(
        "tensorrt",
        "tensorrt",
        "pip install tensorrt on a machine with an NVIDIA GPU; it fetches its libraries from NVIDIA's own index",
    )


def tensorrt_rtx() -> TensorRT:
    """The backend on the ``tensorrt_rtx`` module, which builds for RTX GPUs on any machine."""
    return TensorRT("tensorrt-rtx", "tensorrt_rtx", "pip install tensorrt-rtx (Linux and Windows on x86-64)")


class TensorRT(Backend):
    """TensorRT or TensorRT for RTX; ``versions`` holds all differences between the two and their versions."""

    isolated = True

    def __init__(self, name: str, module: str, install: str):
        self.name, self._module, self._install = name, module, install

    @functools.cached_property
    def adapter(self) -> VersionAdapter:
        """The imported module and its version; raises ImportError where it is not installed."""
        return VersionAdapter(importlib.import_module(self._module))

    def missing(self) -> Refusal | None:
        """Why no engine can be built here: the module cannot be imported, or it needs a GPU and finds none."""
        try:
            adapter = self.adapter
        except Exception as error:  # a module whose libraries do not fit the driver fails in many ways
            return Refusal(f"{self._module} cannot be imported: {error}", self._install)
        if not adapter.is_rtx and not gpus():
            return Refusal(
                f"{adapter.title} builds on the GPU that will run the engine, and nvidia-smi shows none here",
                "give the job to a host with a GPU, or build with tensorrt-rtx, which needs none",
            )
        return None

    def refuses(self, variant: Variant, card: str | None = None) -> Refusal | None:
        """Why this variant cannot be built for the card: its layout, its opset, its types, or the card itself."""
        if self.name not in variant.runtimes:
            return Refusal(
                f"the variant was written for {', '.join(variant.runtimes) or 'no runtime'}",
                "choose a precision other than int8-dynamic, with layout='tensorrt' in the recipe",
            )
        try:
            return self._refuses_file(variant) or self._refuses_card(variant, card)
        except ImportError:
            return None if card is None else _refuses_types(variant, capability(card))

    def _refuses_file(self, variant: Variant) -> Refusal | None:
        adapter = self.adapter
        if adapter.max_opset and variant.opset > adapter.max_opset:
            return Refusal(
                f"the file is in opset {variant.opset}, and {adapter.title} reads {adapter.max_opset} and below",
                f"export with opset={adapter.max_opset}, or install a newer TensorRT",
            )
        if unknown := variant.recipe.types - set(adapter.types):
            return Refusal(
                f"{adapter.title} has no kernels for {', '.join(sorted(unknown))}",
                "choose fp16 or int8, or install TensorRT 10 or later",
            )
        return None

    def _refuses_card(self, variant: Variant, card: str | None) -> Refusal | None:
        here, targets = gpus(), self.adapter.targets
        sm = capability(card) if card is not None else here[0].sm if here else None
        if sm is None:
            return None
        name = here[0].name if card is None else card
        if targets is None and here and sm != here[0].sm:
            return Refusal(
                f"{self.adapter.title} builds for the {here[0].name} of this machine only, not for {name}",
                f"leave card out, run the job on a host with {name}, or build with tensorrt-rtx",
            )
        turing = targets is not None and sm == 75
        return (
            self.unsupported(name, sm)
            or _refuses_types(variant, sm)
            or (_refuses_turing(variant, name) if turing else None)
        )

    def unsupported(self, name: str, sm: int) -> Refusal | None:
        """Why the product has no code for a GPU of this name and compute capability, or None."""
        targets = self.adapter.targets
        if targets is None or sm in targets:
            return None
        return Refusal(
            f"{self.adapter.title} does not support {name} ({sm_name(sm)})",
            f"use tensorrt on this GPU; tensorrt-rtx supports {', '.join(map(sm_name, targets))}",
        )

    def compile(self, request: BuildRequest, progress: Progress = silent) -> Engine:
        """Build ``engine.plan``, with TensorRT's whole log beside it and, where a GPU is, its list of layers.

        Raises:
            WorkbenchError: the parser or the builder refuses the file; it names node and block where there is one.
        """
        adapter, path, log_path = self.adapter, request.folder / ENGINE, request.folder / LOG
        request = dataclasses.replace(request, options=checked_options(request.options, rtx=adapter.is_rtx))
        targets = self._targets(request.variant, request.card)
        _wait_for(_ONE_BUILD, progress)
        try:
            begin = time.perf_counter()
            with BuildLog.of(adapter).into(log_path) as log:
                watch = BuildWatch(progress, request.options.get("time_limit_s", 3600))
                plan = build_plan(adapter, request, targets if adapter.targets else (), log, watch)
            seconds = time.perf_counter() - begin
        finally:
            _ONE_BUILD.release()
        path.write_bytes(plan)
        return Engine(
            backend=self.name,
            path=path,
            variant=request.variant,
            batches=request.batches,
            run_id=request.run_id,
            card=request.card,
            options=request.options,
            build_seconds=seconds,
            log_path=log_path,
            environment={**environment(), **self._facts(targets)},
        )

    def checked_options(self, options: Mapping) -> dict:
        """The options of this product, see ``options``."""
        return checked_options(options, rtx=self.name == "tensorrt-rtx")

    def _facts(self, targets: tuple[int, ...]) -> dict:
        here = gpus()
        return {
            "runtime": self.adapter.title,
            "targets": [sm_name(sm) for sm in targets],
            "gpu": here[0].name if here else "none",
            "driver": here[0].driver if here else "none",
        }

    def _targets(self, variant: Variant, card: str | None) -> tuple[int, ...]:
        """The compute capabilities to build for: the card's, else the GPU's, else all of ``PORTABLE``."""
        if card is not None:
            return (capability(card),)
        if gpus():
            return (gpus()[0].sm,)
        return tuple(sm for sm in PORTABLE if not _refuses_types(variant, sm))

    def open(self, engine: Engine, streams: int = 1) -> tuple[Session, ...]:
        """Sessions on one deserialized engine: a context, a CUDA stream and buffers each.

        Raises:
            WorkbenchError: there is no GPU, pycuda is missing, or the engine was built for another GPU or version.
        """
        if refusal := self._cannot_run():
            raise refusal.error(f"{engine.label} cannot be opened")
        from .session import open_sessions

        with _ONE_BUILD:
            return open_sessions(self.adapter, engine, streams)

    def refused_nodes(self, model: Path) -> tuple[Refusal, ...]:
        """Every node whose operator the parser lacks, or the first that it refuses for another reason."""
        return refused_nodes(self._module, model)

    def description(self) -> str:
        """Version, opset and types."""
        adapter = self.adapter
        opset = f"opset {adapter.max_opset} and below" if adapter.max_opset else "every opset"
        return f"{adapter.title}: {opset}, {', '.join(adapter.types)}"

    def _cannot_run(self) -> Refusal | None:
        if not gpus():
            return Refusal(
                "running it needs an NVIDIA GPU, and nvidia-smi shows none here",
                "name a host with one in hosts.toml; what was built can be taken there",
            )
        gpu = gpus()[0]
        return self.unsupported(gpu.name, gpu.sm) or pycuda_missing()


def _refuses_types(variant: Variant, sm: int) -> Refusal | None:
    for name in sorted(variant.recipe.types, key=lambda name: name not in variant.recipe.product_types):
        kind = TYPES[name]
        if not kind.runs_on(sm):
            multiplied = name in variant.recipe.product_types
            what = f"tensor cores for {name}; they begin" if multiplied else f"kernels for {name}; these begin"
            return Refusal(
                f"{sm_name(sm)} has no {what} with {sm_name(kind.first_sm)}",
                "choose fp16 or int8, or a newer card",
            )
    return None


def _refuses_turing(variant: Variant, name: str) -> Refusal | None:
    """TensorRT for RTX stops at the first float32 product: "FP32 GEMM is not supported" (1.7.1, SM75)."""
    if "fp32" not in variant.recipe.product_types:
        return None
    return Refusal(
        f"TensorRT for RTX has no FP32 matrix products for {name} (SM75)",
        "choose fp16 with nothing excluded, or int8 with high_precision='fp16', or use tensorrt on that GPU",
    )


def _wait_for(lock: threading.Lock, progress: Progress) -> None:
    while not lock.acquire(timeout=0.2):
        progress("wait for another build", 0, 1)
