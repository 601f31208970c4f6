"""Records as JSON values and back."""

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from workbench.errors import WorkbenchError
from workbench.records import (
    Batches,
    Calibration,
    Engine,
    Graph,
    Measurement,
    ModelSpec,
    Parity,
    Preprocessing,
    Recipe,
    RenamedFieldWarning,
    UnknownFieldWarning,
    Variant,
    Window,
    decode,
    encode,
)

SPEC = ModelSpec("S/16", 224, 16, width=384, depth=12, heads=6, mlp=1536, classes=1000, representation=384)


def every_record():
    described = {"spec": SPEC, "parity": Parity(1e-5, 1.0, 64, (1, 7)), "notes": ("a note",)}
    preprocessing = Preprocessing(96, resize=128, classes=("cat", "dog"))
    graph = Graph(Path("/w/graph.onnx"), "d", 20, preprocessing, **described)
    recipe = Recipe("int8", exclude=("block03/fc2",), smooth=0.5, calibration=Calibration(samples=7))
    variant = Variant(Path("/w/variant.onnx"), "d", graph, recipe, 20, ("onnxruntime", "tensorrt"))
    built = {"card": "T4", "options": {"workspace_gib": 2}, "environment": {"cpu": "x", "load_average": 0.5}}
    engine = Engine(
        "tensorrt", Path("/w/engine"), variant, Batches(1, 2, 4), "run", log_path=Path("/w/log"), **built
    )
    counted = {"end_to_end": Window((1, 1), (0.1, 0.3)), "compute": Window((2,), (0.1,))}
    facts = {"labels": (1, 1), "environment": {"a": {"b": [1]}}, "notes": ("n",)}
    measured = Measurement("tensorrt", "m", recipe, 8, "d", (0.1, 0.2), **counted, **facts)
    plain = Batches(np.int64(1), np.uint8(4), np.int32(8))  # NumPy's whole numbers
    return [SPEC, graph, variant, engine, replace(engine, log_path=None), measured, recipe, Batches(), plain]


@pytest.mark.parametrize("record", every_record(), ids=lambda record: type(record).__name__)
def test_a_record_survives_json_and_pickle(record):
    assert decode(type(record), json.loads(json.dumps(encode(record)))) == record
    assert pickle.loads(pickle.dumps(record)) == record


def test_a_field_of_the_future_is_left_out_and_a_new_field_takes_its_default():
    data = encode(Batches(1, 2, 3))
    del data["max"]
    with pytest.warns(UnknownFieldWarning, match="'of the future'.*a newer version of the workbench wrote it"):
        assert decode(Batches, {**data, "of the future": 1}) == Batches(1, 2, 32)


def test_a_field_of_an_earlier_version_is_read_under_its_name_of_today():
    stored = {**encode(Recipe("int8")), "rest": "bf16", "keep": ["block00"]}
    del stored["high_precision"], stored["exclude"]
    with pytest.warns(RenamedFieldWarning) as caught:
        assert decode(Recipe, stored) == Recipe("int8", high_precision="bf16", exclude=("block00",))
    assert ["'rest'" in str(caught[0].message), "'exclude'" in str(caught[1].message)] == [True, True]


def test_a_record_is_checked_again_when_it_is_read():
    with pytest.raises(WorkbenchError, match="min <= opt <= max"):
        decode(Batches, {"min": 5, "opt": 2, "max": 3})
