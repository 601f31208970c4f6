"""Options of ``build_engine(..., "tensorrt" | "tensorrt-rtx", options={...})``, checked before a build.

workspace_gib: memory that a kernel may borrow while it runs, in GiB; the runtime's own limit when left out.
optimization_level: 0...5, how long the builder searches; the runtime's default (3) when left out.
image_sizes: for models exported with symbolic height and width, the sizes to tune for, one profile each.
time_limit_s: seconds after which a build is given up, 3600 when left out.
cuda_graph: False to launch kernel by kernel; by default a call is captured as a CUDA graph and replayed.

For ``tensorrt`` alone:

version_compatible: an engine that later minor versions load too, somewhat slower.
hardware_compatible: an engine for every GPU from Ampere on, slower than one for the GPU of this machine.
timings: a folder in which kernel timings are kept between builds; the workspace's ``engines`` when left out.

For ``tensorrt-rtx`` alone:

specialization: ``lazy`` (default), ``eager`` or ``none``: when kernels are compiled for the exact shapes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ...errors import is_path, one_of, refuse_unless, shown

SPECIALIZATIONS = ("lazy", "eager", "none")


def _is_amount(value) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf


def _is_flag(value) -> bool:
    return isinstance(value, bool)


def _is_whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_sizes(value) -> bool:
    return isinstance(value, list | tuple) and len(value) > 0 and all(_is_whole(n) and n > 0 for n in value)


#: Option -> the test of a value, and in words what the value must be.
OPTIONS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "workspace_gib": (_is_amount, "a number above zero"),
    "optimization_level": (lambda value: _is_whole(value) and 0 <= value <= 5, "a whole number from 0 to 5"),
    "image_sizes": (_are_sizes, "a list of edges in pixels"),
    "time_limit_s": (_is_amount, "a number above zero"),
    "cuda_graph": (_is_flag, "True or False"),
    "version_compatible": (_is_flag, "True or False"),
    "hardware_compatible": (_is_flag, "True or False"),
    "timings": (is_path, "a folder"),
    "specialization": (
        lambda value: isinstance(value, str) and value in SPECIALIZATIONS,
        "one of " + ", ".join(SPECIALIZATIONS),
    ),
}
#: Why TensorRT for RTX has no such option ("Engine Compatibility" in its documentation, 1.7).
NOT_RTX = {
    "version_compatible": "its engines belong to the release that built them",
    "hardware_compatible": "its engines run on every GPU from Ampere on unless a card is named",
    "timings": "it measures nothing while it builds",
}
#: Why TensorRT itself has no such option.
ONLY_RTX = {"specialization": "its kernels are compiled when the engine is built"}


def checked_options(options: Mapping, *, rtx: bool) -> dict:
    """The options, after a check that the product has each of them and that each value is of the right kind.

    Raises:
        WorkbenchError: an option is unknown or has a wrong value; the error describes the right values.
    """
    refuse_unless(
        isinstance(options, Mapping),
        "Options are names with values",
        why=f"given was {shown(options)}",
        remedy="write options={'optimization_level': 5}",
    )
    for name, value in options.items():
        one_of("option of TensorRT", name, tuple(OPTIONS))
        reason = (NOT_RTX if rtx else ONLY_RTX).get(name)
        refuse_unless(
            reason is None,
            f"TensorRT{' for RTX' if rtx else ''} has no option {name!r}",
            why=reason or "",
            remedy="leave it out",
        )
        holds, expected = OPTIONS[name]
        refuse_unless(
            holds(value),
            f"The option {name!r} must be {expected}",
            why=f"it is {shown(value)}",
            remedy="leave it out for the default",
        )
    return dict(options)
