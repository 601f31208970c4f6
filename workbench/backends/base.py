"""The interface of every runtime: a backend compiles a variant into an engine and opens it as sessions.

A new runtime is one module with a ``Backend`` and one line in ``registry.REGISTRY``.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..errors import Refusal, WorkbenchError, refuse_unless
from ..progress import Progress, silent
from ..records import Batches, Engine, Variant


class Tensor(NamedTuple):
    """The type and shape of a session's input; a dimension of None takes any length above zero."""

    dtype: np.dtype
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        return f"{self.dtype} {tuple('any' if n is None else n for n in self.shape)}".replace("'", "")


def check_feeds(feeds: Mapping[str, np.ndarray], inputs: Mapping[str, Tensor]) -> None:
    """Refuse feeds that do not fit a session's inputs, or that hold NaN or infinity.

    Raises:
        WorkbenchError: it names the input, what it takes and what was given.
    """
    refuse_unless(
        set(feeds) == set(inputs),
        "The feeds do not name the session's inputs",
        why=f"it takes {sorted(inputs)}, given were {sorted(feeds)}",
        remedy="give one array per input, under its own name",
    )
    for name, tensor in inputs.items():
        _check_feed(name, feeds[name], tensor)


def _check_feed(name: str, value, tensor: Tensor) -> None:
    found = f"{value.dtype} {value.shape}" if isinstance(value, np.ndarray) else type(value).__name__
    refuse_unless(
        isinstance(value, np.ndarray) and value.dtype == tensor.dtype,
        f"The input {name!r} has the wrong type",
        why=f"it takes an array of {tensor}, given was {found}",
        remedy="pixels become a model's input through workbench.normalise; other arrays through .astype",
    )
    fits = len(value.shape) == len(tensor.shape) and all(
        length == expected or (expected is None and length > 0)
        for length, expected in zip(value.shape, tensor.shape)
    )
    refuse_unless(
        fits,
        f"The input {name!r} has the wrong shape",
        why=f"it takes {tensor}, given was {found}",
        remedy="resize the images or export the model at their size; a static batch takes exactly that many",
    )
    if not _is_finite(value):
        raise WorkbenchError(
            f"The input {name!r} holds NaN or infinity",
            why=f"{int((~np.isfinite(value)).sum())} of its {value.size} numbers are not finite",
            remedy="look for a division by zero in the preprocessing, or an image that was read wrongly",
        )


def _is_finite(value: np.ndarray) -> bool:
    """Whether no number is NaN or infinite. Every call pays for this, so numbers are read once: their sum tells."""
    if np.issubdtype(value.dtype, np.integer):
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(value.sum()) or np.isfinite(value).all())


#: Why a closed session computes nothing.
CLOSED = Refusal(
    "close() was called on it or on the first of its streams", "use it inside the with block, or open it again"
)


class Session(abc.ABC):
    """An open engine: arrays in, arrays out. A context manager that frees everything on exit."""

    #: Facts for the record of a measurement: the runtime's version, threads, the device.
    environment: Mapping = {}

    @abc.abstractmethod
    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Compute all outputs for one batch; feeds and outputs are named as in the graph.

        Raises:
            WorkbenchError: a feed is missing, has the wrong type or shape, or is not finite.
        """

    @abc.abstractmethod
    def time(self, feeds: Mapping[str, np.ndarray], repeats: int) -> list[float]:
        """Seconds of each of ``repeats`` calls, one after the other, from the caller's arrays to outputs there."""

    def device_time(self, feeds: Mapping[str, np.ndarray], repeats: int) -> list[float] | None:
        """Seconds of compute alone by the device's own clock, or None where there is no such clock."""
        return None

    def run_all(self, batches: Iterable[Mapping[str, np.ndarray]]) -> Iterator[dict[str, np.ndarray]]:
        """The outputs of many batches, in their order; a runtime may take the next ones while it computes.

        An array of ``batches`` must stay as it is until its outputs have come.
        """
        for feeds in batches:
            yield self.run(feeds)

    def compute(self, feeds: Mapping[str, np.ndarray], more: Callable[[], bool]) -> list[float] | None:
        """Compute one batch that lies on the device already, again and again for as long as ``more()`` is True.

        Returns:
            When the first call began, and when each call was completed, by ``time.perf_counter``; or None where the
            runtime computes in the caller's memory, so that nothing has to be copied.
        """
        return None

    def layers(self, feeds: Mapping[str, np.ndarray]) -> list[dict] | None:
        """One row per executed layer (``name``, ``type``, ``seconds``), or None where the runtime lists none."""
        return None

    def kernels(self, feeds: Mapping[str, np.ndarray]) -> list[dict] | None:
        """One row per GPU kernel of one call, in the order of launch; None without a GPU or a tool to list them.

        A row has ``name``; ``seconds``; ``type``, in which it multiplies matrices (``int8``, ``fp8``, ``fp16``,
        ``bf16``, ``tf32``, ``fp32``; None where it multiplies none or its name does not tell); ``attention``,
        whether it is a whole fused attention; and ``grid``, its thread blocks.
        ``hardware.kernel_trace.tracer_missing`` has the remedy where the tool is missing.
        """
        return None

    @abc.abstractmethod
    def memory(self) -> int:
        """Peak bytes of the session so far, weights included: on the device, or in this process without one."""

    def close(self) -> None:  # noqa: B027 -- many sessions have nothing to free
        """Free what the session holds; calling it again does nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        self.close()


@dataclass(frozen=True)
class BuildRequest:
    """What a backend is asked to build.

    Attributes:
        variant: the ONNX file and the recipe that made it.
        batches: the batch sizes that the engine must take.
        folder: where the engine's files are written; it is empty.
        run_id: the entry in the workspace's ledger that the engine gets.
        card: the GPU to build for, by name or architecture (``T4``, ``SM86``); None is the one of this machine.
        options: the backend's own options, see its module.
    """

    variant: Variant
    batches: Batches
    folder: Path
    run_id: str
    card: str | None = None
    options: Mapping = field(default_factory=dict)


class Backend(abc.ABC):
    """A runtime. It has no state: engines and sessions hold everything."""

    name: str
    #: Whether sessions must live in a process of their own, because a crash of the driver would end the caller too.
    isolated: bool = False

    @abc.abstractmethod
    def missing(self) -> Refusal | None:
        """Why the runtime cannot be used on this machine, or None when it can."""

    @abc.abstractmethod
    def refuses(self, variant: Variant, card: str | None = None) -> Refusal | None:
        """Why this variant cannot be built for ``card``, or None when it can. Costs no build."""

    @abc.abstractmethod
    def compile(self, request: BuildRequest, progress: Progress = silent) -> Engine:
        """Build the engine's files in the request's folder.

        Raises:
            WorkbenchError: the runtime refuses the variant or an option; the error names the node and a remedy.
        """

    @abc.abstractmethod
    def open(self, engine: Engine, streams: int = 1) -> tuple[Session, ...]:
        """Sessions that share the weights, one per stream. Closing the first closes what they share."""

    @abc.abstractmethod
    def refused_nodes(self, model: Path) -> tuple[Refusal, ...]:
        """The nodes of an ONNX file that the runtime refuses; a refusal without a node is about the whole file."""

    def description(self) -> str:
        """The runtime's version, opset and types in a few words, for ``workbench doctor``."""
        return "builds and runs"

    def emulated_types(self, variant: Variant) -> tuple[str, ...]:
        """The variant's types that this runtime computes in another type; empty where it has kernels for all."""
        return ()

    def files(self, engine: Engine) -> tuple[Path, ...]:
        """Every file that the engine needs to run, all in one folder."""
        return (engine.path,)
