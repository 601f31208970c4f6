"""How long a study is expected to take, before any of it was timed: the work of each kind of step.

A ``progress.Meter`` corrects these by what the steps take. They are rather too long than too short, because a share
that was shown never goes back.
"""

from __future__ import annotations

from ..backends.hardware.cpu import cores
from ..errors import WorkbenchError
from ..performance.cost import cost
from ..progress import Work
from ..records import Recipe
from ..remote.host import Host
from .request import Request

#: The kinds of steps: a recipe applied, an engine built and its images classified, a cell timed, a job elsewhere.
VARIANT, ENGINE, TIMING, JOB = "variant", "engine", "timing", "job"
#: Seconds of a recipe and of a build here; a slow core's rate; seconds of a warm-up beside the timed ones.
VARIANT_S, BUILD_S, FLOPS_PER_CORE, WARM_UP_S = 1.0, 1.0, 10e9, 0.5


def expected_work(request: Request) -> dict[str, Work]:
    """The work of each kind of step of a study that has measured nothing yet."""
    here = [host for host in request.hosts if host.interpreter is None]
    recipes, batches = len(request.recipes), len(request.batches)
    engine, timing = BUILD_S + _classifying(request), 1.25 * request.seconds + WARM_UP_S
    return {
        VARIANT: Work(recipes, VARIANT_S),
        ENGINE: Work(1 + sum(engines_weight(request, host) for host in here), engine),
        TIMING: Work(recipes * len(here) * batches, timing),
        JOB: Work(recipes * (len(request.hosts) - len(here)), engine + timing * batches),
    }


def engines_weight(request: Request, host: Host) -> int:
    """The weight of all engines of a host."""
    return sum(engine_weight(recipe, host, len(request.batches)) for recipe in request.recipes)


def engine_weight(recipe: Recipe, host: Host, batches: int) -> int:
    """How often an engine classifies the images, which is nearly all that a step with an engine takes.

    FP32's classes on ONNX Runtime are those of the reference; dynamic quantization has classes for each batch.
    """
    if recipe == Recipe() and host.name == "onnxruntime":
        return 0
    return batches if recipe.depends_on_batch else 1


def _classifying(request: Request) -> float:
    """Seconds in which a processor like this one classifies the images in FP32; 0 where the cost is not known."""
    try:
        flops = cost(request.graph).total_flops
    except WorkbenchError:
        return 0.0
    return flops * len(request.images) / (FLOPS_PER_CORE * cores())
