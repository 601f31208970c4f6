import sys
from pathlib import Path

import numpy as np
import pytest

import workbench as wb
from workbench.backends.base import Session
from workbench.models import baselines

FILES = Path(__file__).parents[1] / "reference"
MODELS = ["token", "gap", "prelogits"]


def opened_torch(spec, params, **options):
    pytest.importorskip("torch", reason="the PyTorch baseline needs torch: pip install torch")
    return baselines.open_torch(spec, params, **options)


OPEN = {"jax": baselines.open_jax, "torch": opened_torch}


def loaded(model="token"):
    with np.load(FILES / f"vit_tiny_{model}_ref.npz") as expected:
        return *wb.load_checkpoint(FILES / f"vit_tiny_{model}.npz"), dict(expected)


def test_a_compiled_torch_computes_the_same():
    spec, params, expected = loaded()
    with opened_torch(spec, params, compiled=True) as session:
        y = session.run({"images": expected["input"]})["logits"]
    np.testing.assert_allclose(y, expected["logits"], atol=1e-4, rtol=0)


# JAX compiles the model that test_checkpoint compares in all its forms.
@pytest.mark.parametrize(("name", "model"), [("jax", "gap"), *(("torch", model) for model in MODELS)])
def test_both_compute_what_vit_jax_computes(name, model):
    spec, params, expected = loaded(model)
    with OPEN[name](spec, params) as session:
        assert isinstance(session, Session)
        y = session.run({"images": expected["input"]})["logits"]
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, expected["logits"], atol=1e-4, rtol=0)


@pytest.mark.parametrize(("name", "dtype"), [("jax", "bfloat16"), ("torch", "bfloat16"), ("torch", "float16")])
def test_half_types_move_the_logits_by_their_rounding(name, dtype):
    spec, params, expected = loaded()
    with OPEN[name](spec, params, dtype=dtype) as session:
        y = session.run({"images": expected["input"]})["logits"]
    assert y.dtype == np.float32
    error = np.abs(y - expected["logits"]).max()
    assert 1e-4 < error < {"float16": 0.02, "bfloat16": 0.15}[dtype]


@pytest.mark.parametrize("open_session", OPEN.values(), ids=OPEN)
def test_each_call_is_timed_and_unknown_types_unfit_feeds_and_calls_after_closing_are_refused(open_session):
    spec, params, expected = loaded()
    images = {"images": expected["input"]}
    with pytest.raises(wb.WorkbenchError, match="int8"):
        open_session(spec, params, dtype="int8")
    with open_session(spec, params) as session:
        assert session.environment["runtime"].startswith(("JAX ", "PyTorch "))  # and the version, for the record
        assert session.environment["device"]
        seconds = session.time(images, repeats=3)
        assert len(seconds) == 3
        assert min(seconds) > 0
        more = iter([True] * 2)
        moments = session.compute(images, lambda: next(more, False))
        assert len(moments) == 1 + 2
        assert moments == sorted(moments)
        assert session.memory() >= 0
        for feeds in ({"pixels": expected["input"]}, {"images": expected["input"][:, :8]}):
            with pytest.raises(wb.WorkbenchError):
                session.run(feeds)
    session.close()  # a second time
    with pytest.raises(wb.WorkbenchError, match="closed"):
        session.run(images)


def test_without_torch_the_refusal_says_how_to_get_it(monkeypatch):
    spec, params, _ = loaded()
    monkeypatch.setitem(sys.modules, "torch", None)  # then importing it raises an ImportError
    with pytest.raises(wb.WorkbenchError, match="PyTorch") as error:
        baselines.open_torch(spec, params)
    assert "pip install torch" in error.value.remedy
