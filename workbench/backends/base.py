"""The seam between runtimes: a backend compiles a variant into an engine and opens it as sessions.

A new runtime is one module with a ``Backend`` and one line in ``workbench.backends.REGISTRY``.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from ..errors import Refusal
from ..records import Batches, Engine, Variant

#: ``progress(stage, done, total)`` is called often; it may raise ``Cancelled`` to stop the work.
Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """A progress callback that does nothing."""


class Session(abc.ABC):
    """An open engine: arrays in, arrays out. A context manager that frees everything on exit."""

    @abc.abstractmethod
    def run(self, feeds: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Compute all outputs for one batch; feeds and outputs are named as in the graph."""

    @abc.abstractmethod
    def time(self, feeds: Mapping[str, np.ndarray], repeats: int) -> list[float]:
        """Seconds of each of ``repeats`` calls, one after the other, copies to and from a device included."""

    def device_time(self, feeds: Mapping[str, np.ndarray], repeats: int) -> list[float] | None:
        """Seconds of compute alone by the device's own clock, or None where there is no such clock."""
        return None

    def layers(self, feeds: Mapping[str, np.ndarray]) -> list[dict] | None:
        """One row per executed layer (``name``, ``type``, ``seconds``), or None where the runtime tells nothing."""
        return None

    @abc.abstractmethod
    def memory(self) -> int:
        """Bytes that the session has taken so far: on the device where there is one, else in this process."""

    def close(self) -> None:  # noqa: B027 -- many sessions have nothing to free
        """Free what the session holds; calling it again does nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        self.close()


class Backend(abc.ABC):
    """A runtime. Stateless: engines and sessions carry everything."""

    name: str
    #: Whether sessions must live in a process of their own, because a driver's crash would take the kernel along.
    isolated: bool = False

    @abc.abstractmethod
    def missing(self) -> Refusal | None:
        """Why the runtime cannot be used on this machine, or None when it can."""

    @abc.abstractmethod
    def refuses(self, variant: Variant, card: str | None = None) -> Refusal | None:
        """Why this variant cannot be built for ``card``, or None when it can. Costs no build."""

    @abc.abstractmethod
    def compile(
        self,
        variant: Variant,
        batches: Batches,
        folder: Path,
        run_id: str,
        card: str | None = None,
        options: Mapping | None = None,
        progress: Progress = silent,
    ) -> Engine:
        """Build the engine's files in ``folder``.

        Raises:
            WorkbenchError: the runtime refuses the variant; it says which node and what to do.
        """

    @abc.abstractmethod
    def open(self, engine: Engine, streams: int = 1) -> tuple[Session, ...]:
        """Sessions that share the weights, one per stream. Closing the first closes what they share."""
