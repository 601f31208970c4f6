import builtins
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
BOTH = pytest.mark.parametrize("open_session", OPEN.values(), ids=OPEN)


def loaded(model="token"):
    with np.load(FILES / f"vit_tiny_{model}_ref.npz") as expected:
        return *wb.load_checkpoint(FILES / f"vit_tiny_{model}.npz"), dict(expected)


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


@BOTH
def test_each_call_is_timed(open_session):
    spec, params, expected = loaded()
    with open_session(spec, params) as session:
        seconds = session.time({"images": expected["input"]}, repeats=3)
        assert len(seconds) == 3
        assert min(seconds) > 0
        assert session.memory() >= 0
        session.close()


@BOTH
def test_unfit_feeds_are_refused(open_session):
    spec, params, expected = loaded()
    with open_session(spec, params) as session:
        for feeds in ({"pixels": expected["input"]}, {"images": expected["input"][:, :8]}):
            with pytest.raises(wb.WorkbenchError):
                session.run(feeds)


@BOTH
def test_an_unknown_type_is_refused(open_session):
    spec, params, _ = loaded()
    with pytest.raises(wb.WorkbenchError, match="int8"):
        open_session(spec, params, dtype="int8")


@BOTH
def test_a_closed_session_says_so(open_session):
    spec, params, expected = loaded()
    session = open_session(spec, params)
    session.close()
    with pytest.raises(wb.WorkbenchError, match="closed"):
        session.run({"images": expected["input"]})


def test_without_torch_the_refusal_says_how_to_get_it(monkeypatch):
    spec, params, _ = loaded()
    real = builtins.__import__

    def without_torch(name, *arguments, **more):
        if name == "torch":
            raise ImportError("No module named 'torch'")
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    with pytest.raises(wb.WorkbenchError, match="PyTorch") as error:
        baselines.open_torch(spec, params)
    assert "pip install torch" in error.value.remedy
