"""What is asked of an engine just built, on a stand-in; real builds are in test_backend.py and tests/gpu."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.backends.tensorrt.stand_in import SIZE, Cuda, Native
from workbench.backends.tensorrt.build import _layers_of
from workbench.errors import WorkbenchError


def layers_of(engine, strongly_typed=True):
    """The form in which the inspector was asked, and the shape of the images in its context."""
    inspector = SimpleNamespace(execution_context=None)
    inspector.get_engine_information = lambda form: (form, getattr(inspector.execution_context, "shape", None))
    if engine is not None:
        engine.create_engine_inspector = lambda: inspector
    module = SimpleNamespace(
        Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda plan: engine),
        LayerInformationFormat=SimpleNamespace(JSON="json"),
        TensorIOMode=SimpleNamespace(INPUT="in"),
    )
    adapter = SimpleNamespace(module=module, title="stand-in", strongly_typed=strongly_typed)
    return _layers_of(adapter, b"plan", {}, SimpleNamespace(logger=None, errors=["out of memory"]))


def test_layers_are_listed_at_the_shapes_that_the_engine_is_tuned_for_where_it_can_be_asked():
    assert layers_of(Native(Cuda(), room=1)) == ("json", (8, SIZE))
    assert layers_of(Native(Cuda(), room=0)) == ("json", None)  # no memory for a context
    assert layers_of(Native(Cuda(), room=1), strongly_typed=False) == ("json", None)  # 8.6 is asked without one


def test_an_engine_that_does_not_load_is_an_error_in_the_runtimes_words():
    with pytest.raises(WorkbenchError, match="does not load what it has just built") as error:
        layers_of(None)
    assert error.value.why == "out of memory"
