"""What an engine requires of the machine that runs it."""

from __future__ import annotations

from ..backends import backend
from ..backends.hardware.cards import sm_name
from ..backends.hardware.gpu import gpus
from ..errors import Refusal
from ..records import Engine

_REBUILD = "build the engine again on this machine, or install what the bundle names; the original serves meanwhile"


def unmet_requirement(engine: Engine) -> Refusal | None:
    """Why an engine must not be loaded here, or None. Nothing of the engine is read for this.

    A TensorRT plan is code for one version of TensorRT and one kind of GPU, unless it was built with
    ``version_compatible`` or ``hardware_compatible``. ONNX Runtime optimizes its model anew wherever it opens it.
    """
    runtime = backend(engine.backend)
    if refusal := runtime.missing():
        return refusal
    if not runtime.isolated:
        return None
    built, here = engine.environment.get("runtime"), runtime.description().partition(":")[0]
    if built != here and not engine.options.get("version_compatible"):
        return Refusal(f"the engine was built by {built}, and here is {here}", _REBUILD)
    targets, found = engine.environment.get("targets") or [], gpus()
    if not found:
        return Refusal("the engine needs an NVIDIA GPU, and nvidia-smi shows none here", _REBUILD)
    own = sm_name(found[0].sm)
    if own not in targets and not engine.options.get("hardware_compatible"):
        return Refusal(f"the engine was built for {', '.join(map(str, targets))}, and this GPU is {own}", _REBUILD)
    return None
