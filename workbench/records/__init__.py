"""The nouns of the workbench, as frozen values that are valid from the moment they exist.

``ModelSpec -> Graph -> Variant -> Engine -> Measurement`` is the pipeline; ``Recipe`` says what turns a graph
into a variant. Only the standard library is imported here: these records travel to GPU hosts that have
nothing else of ours.
"""

from __future__ import annotations

from .checks import whole
from .encoding import RenamedFieldWarning, decode, encode
from .measurement import EXECUTIONS, Measurement, quantile, wilson
from .models import CLASSIFIERS, ModelSpec, Preprocessing
from .pipeline import Batches, Engine, Graph, Parity, Variant
from .recipes import CORRUPTIONS, HIGH_PRECISIONS, LAYOUTS, METHODS, PRECISIONS, ROLES, SCOPES, Calibration, Recipe

#: The type of output under which a notebook's last cell leaves its scalars for whoever ran the notebook.
SCALARS_MIMETYPE = "application/vnd.workbench.scalars+json"

__all__ = [
    "CLASSIFIERS",
    "CORRUPTIONS",
    "EXECUTIONS",
    "HIGH_PRECISIONS",
    "LAYOUTS",
    "METHODS",
    "PRECISIONS",
    "ROLES",
    "SCALARS_MIMETYPE",
    "SCOPES",
    "Batches",
    "Calibration",
    "Engine",
    "Graph",
    "Measurement",
    "ModelSpec",
    "Parity",
    "Preprocessing",
    "Recipe",
    "RenamedFieldWarning",
    "Variant",
    "decode",
    "encode",
    "quantile",
    "whole",
    "wilson",
]
