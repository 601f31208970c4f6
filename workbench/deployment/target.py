"""An engine that its target must build itself: for what it is built, and the exact commands that build it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..backends import backend
from ..errors import WorkbenchError, one_of
from ..records import Batches, Engine, Variant

#: The backends whose engines belong to one machine.
BUILT_ON_TARGET = ("tensorrt", "tensorrt-rtx")
#: The run id of an engine that nobody has built yet.
UNBUILT = "unbuilt"
#: Option of ``build_engine`` -> how trtexec says it. The others change nothing in the plan.
_TRTEXEC = {
    "workspace_gib": lambda value: f"--memPoolSize=workspace:{round(1024 * value)}M",
    "optimization_level": lambda value: f"--builderOptimizationLevel={value}",
    "version_compatible": lambda value: "--versionCompatible" if value else "",
    "hardware_compatible": lambda value: "--hardwareCompatibilityLevel=ampere+" if value else "",
}


@dataclass(frozen=True)
class Target:
    """Where a variant will be built, and how, as ``build_engine`` takes it.

    Attributes:
        backend: ``tensorrt`` or ``tensorrt-rtx``.
        batches: the batch sizes that the engine must take.
        options: the backend's own options.
    """

    backend: str = "tensorrt"
    batches: Batches = field(default_factory=Batches)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self):
        one_of("backend of a target", self.backend, BUILT_ON_TARGET)

    def engine(self, variant: Variant) -> Engine:
        """The engine as it will be, without a file of its own: its path is the variant's.

        Raises:
            WorkbenchError: the backend does not take the variant.
        """
        if refusal := backend(self.backend).refuses(variant, None):
            raise refusal.error(f"{self.backend} will not build {variant.recipe.label}")
        return Engine(self.backend, variant.path, variant, self.batches, UNBUILT, options=dict(self.options))


def is_built(engine: Engine) -> bool:
    """Whether an engine was built, or is the variant that a target has yet to build."""
    return engine.run_id != UNBUILT


def build_command(folder, out="BUILT") -> str:
    """The command that builds a bundle's engine on the target and writes a bundle that holds it."""
    return shlex.join(["workbench", "bundle", "build", str(folder), str(out)])


def trtexec_command(engine: Engine, model: str, plan: str) -> str:
    """The command of TensorRT's own builder for the plan that ``build_engine`` would build.

    TensorRT 10 or later is meant, which takes the precision from the file (``--stronglyTyped``).

    Args:
        engine: unbuilt, or built for another machine.
        model: the path of the variant there.
        plan: the path of the plan.
    """
    options = [_TRTEXEC[name](value) for name, value in engine.options.items() if name in _TRTEXEC]
    words = ["trtexec", f"--onnx={model}", f"--saveEngine={plan}", "--stronglyTyped"]
    return shlex.join([*words, *_shapes(engine), *filter(None, options)])


def _shapes(engine: Engine) -> Iterator[str]:
    """A profile for each exact batch, then the range, as ``build_engine`` orders them; none for a static batch."""
    graph, batches = engine.variant.graph, engine.batches
    if graph.batch is not None:
        return
    profiles = [*((exact,) * 3 for exact in batches.exact), (batches.min, batches.opt, batches.max)]
    for index, profile in enumerate(profiles):
        if len(profiles) > 1:
            yield f"--profile={index}"
        for name, batch in zip(("min", "opt", "max"), profile):
            yield f"--{name}Shapes={graph.input_name}:{'x'.join(map(str, (batch, *graph.image_shape)))}"


class EngineUnbuilt(WorkbenchError):
    """The engine of a bundle was not built yet."""


def refuse_unbuilt(engine: Engine, folder) -> None:
    """Refuse to run an engine that was not built yet.

    Raises:
        EngineUnbuilt: with the command that builds it.
    """
    if not is_built(engine):
        raise EngineUnbuilt(
            f"{engine.label} is not built",
            why=f"this machine builds its own: {build_command(folder)}",
            remedy="build it, then serve that bundle",
        )
