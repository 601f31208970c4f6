"""What is asked of an engine just built, on a stand-in; real builds are in test_backend.py and tests/gpu."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from workbench.backends.tensorrt.build import _layers_of
from workbench.errors import WorkbenchError


class Engine:
    """Takes batches of 1 to 32, tuned for 8; has room for a context or not."""

    num_io_tensors = 2

    def __init__(self, room: bool):
        self._room, self.shapes, self.inspector = room, {}, SimpleNamespace(execution_context=None)
        self.inspector.get_engine_information = lambda form: (form, self.inspector.execution_context, self.shapes)

    def get_tensor_name(self, index):
        return ("images", "logits")[index]

    def get_tensor_mode(self, name):
        return {"images": "in", "logits": "out"}[name]

    def get_tensor_shape(self, name):
        return (-1, 4)

    def get_tensor_profile_shape(self, name, index):
        assert name == "images"  # outputs have no profile
        return [(1, 4), (8, 4), (32, 4)]

    def create_engine_inspector(self):
        return self.inspector

    def create_execution_context(self):
        return SimpleNamespace(set_input_shape=self.shapes.__setitem__) if self._room else None


def layers_of(engine, strongly_typed=True):
    module = SimpleNamespace(
        Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda plan: engine),
        LayerInformationFormat=SimpleNamespace(JSON="json"),
        TensorIOMode=SimpleNamespace(INPUT="in"),
    )
    log = SimpleNamespace(logger=None, errors=["out of memory"])
    return _layers_of(
        SimpleNamespace(module=module, title="stand-in", strongly_typed=strongly_typed), b"plan", {}, log
    )


def test_layers_are_listed_at_the_shapes_that_the_engine_is_tuned_for():
    form, context, shapes = layers_of(Engine(room=True))
    assert (form, shapes) == ("json", {"images": (8, 4)})
    assert context is not None


def test_without_room_for_a_context_layers_are_listed_without_shapes():
    assert layers_of(Engine(room=False)) == ("json", None, {})


def test_86_is_asked_without_a_context():
    assert layers_of(Engine(room=True), strongly_typed=False) == ("json", None, {})


def test_an_engine_that_does_not_load_is_an_error_in_the_runtimes_words():
    with pytest.raises(WorkbenchError, match="does not load what it has just built") as error:
        layers_of(None)
    assert error.value.why == "out of memory"
