"""Every notebook as it stands, and again for another backend and in another precision."""

import resource
from pathlib import Path

import pytest

from workbench.tutorial import notebook_parameters

ROOT = Path(__file__).parents[2] / "notebooks"
pytestmark = [pytest.mark.notebooks, pytest.mark.slow, pytest.mark.timeout(1200)]
#: The design's budget, the first time.
CORES, SECONDS = 2, 90

#: Notebook, parameters, and what it must record.
BACKENDS = [
    ("03_inspect_graph", {"card": "T4"}, {"blocks": 6}),
    (
        "05_build_engines",
        {"backend": "tensorrt-rtx", "precision": "fp16", "card": "RTX 4090"},
        {"backend": "tensorrt-rtx", "precision": "fp16", "fused_share": 1},
    ),
    (
        "07_trade_offs",
        {
            "backends": ["onnxruntime", "tensorrt-rtx"],
            "precisions": ["fp32", "int8-dynamic"],
            "images": 200,
            "name": "two",
        },
        {"cells": 8, "backend": "onnxruntime"},  # the engine for the card is built, and not chosen
    ),
]
PRECISIONS = [
    ("03_inspect_graph", {"precision": "fp16"}, {"blocks": 6}),
    ("04_choose_precision", {"method": "mse", "bad_set": "dark", "images": 64}, {"images": 64}),
    (
        "05_build_engines",
        {"precision": "int8", "scope": "attention"},
        {"backend": "onnxruntime", "precision": "int8", "fused_share": 1},
    ),
    ("06_benchmark", {"precision": "int8"}, {"images": 256}),
    ("07_trade_offs", {"precisions": ["fp32", "int8"], "images": 200, "name": "static"}, {"cells": 4}),
]


@pytest.mark.parametrize("name", sorted(path.stem for path in ROOT.glob("*.ipynb")))
def test_a_notebook_runs_alone_with_its_own_parameters_within_its_budget(run, name, tmp_path):
    own = {"workspace": str(tmp_path / "own")} if "workspace" in notebook_parameters(ROOT / f"{name}.ipynb") else {}
    before = processor_seconds()
    assert run(name, **own)
    assert 1 < processor_seconds() - before < CORES * SECONDS


def processor_seconds() -> float:
    """Seconds that processors spent in kernels of this process; other work on the machine does not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize(("name", "given", "expected"), BACKENDS + PRECISIONS)
def test_a_notebook_serves_another_backend_and_another_precision(run, name, given, expected):
    found = run(name, **given)
    assert {key: found[key] for key in expected} == expected
