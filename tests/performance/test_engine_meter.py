"""An engine as the meter of a sweep over resolution."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.backends.onnxruntime import OrtSession
from workbench.errors import WorkbenchError
from workbench.performance.engine_meter import EngineMeter
from workbench.records import ModelSpec

TINY = ModelSpec("tiny", image_size=16, patch=4, width=32, depth=2, heads=2, mlp=64, classes=4)


def test_an_engine_is_a_meter_for_a_sweep_over_resolution(tmp_path):
    meter = EngineMeter("onnxruntime", tmp_path, batch=2)
    times = meter(TINY)
    assert set(times) == {"attention", "mlp", "rest", "whole"}
    assert all(min(each) > 0 for each in times.values())
    assert len(times["whole"]) == 10
    assert np.isfinite(meter(TINY)["whole"]).all()  # the second time the engine is there


def test_an_encoder_in_one_layer_is_refused_and_not_taken_for_a_model_without_attention(tmp_path, monkeypatch):
    region = {"name": "{ForeignNode[block00/norm1/scale...head/bias]}", "role": "block00 to head", "block": None}
    monkeypatch.setattr(OrtSession, "layers", lambda self, feeds: [{**region, "type": "Myelin", "seconds": 1e-3}])
    with pytest.raises(WorkbenchError, match="do not show what is attention") as error:
        EngineMeter("onnxruntime", tmp_path)(TINY)
    assert "block00 to head" in error.value.why
