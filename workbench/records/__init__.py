"""The nouns of the workbench as frozen dataclasses, which check their values when they are made.

``ModelSpec -> Graph -> Variant -> Engine -> Measurement`` is the pipeline, and a ``Recipe`` turns a graph into a
variant. Plain values come in; records go out, or JSON values for the stores and for hosts. This folder imports the
standard library alone, because records travel to GPU hosts on which nothing of ours is installed.
"""

from __future__ import annotations

from .checks import whole
from .encoding import (
    CaveatWarning,
    RenamedFieldWarning,
    UnknownFieldWarning,
    decode,
    decode_strictly,
    encode,
)
from .measurement import Measurement, quantile, wilson
from .models import ModelSpec, Preprocessing
from .pipeline import Batches, Engine, Graph, Parity, Variant
from .recipes import CORRUPTIONS, DYNAMIC, GIVEN, LAYOUTS, METHODS, PRECISIONS, ROLES, SCOPES, Calibration, Recipe
from .throughput import Window

#: The MIME type of the output with which a notebook's last cell records its scalars for papermill and for tests.
SCALARS_MIMETYPE = "application/vnd.workbench.scalars+json"

__all__ = [
    "CORRUPTIONS",
    "DYNAMIC",
    "GIVEN",
    "LAYOUTS",
    "METHODS",
    "PRECISIONS",
    "ROLES",
    "SCALARS_MIMETYPE",
    "SCOPES",
    "Batches",
    "Calibration",
    "CaveatWarning",
    "Engine",
    "Graph",
    "Measurement",
    "ModelSpec",
    "Parity",
    "Preprocessing",
    "Recipe",
    "RenamedFieldWarning",
    "UnknownFieldWarning",
    "Variant",
    "Window",
    "decode",
    "decode_strictly",
    "encode",
    "quantile",
    "whole",
    "wilson",
]
