"""Errors and refusals: one says what was asked, the other is a value, and each gives the other."""

import pickle

import pytest

from workbench.errors import Cancelled, Refusal, WorkbenchError, one_of
from workbench.records import decode, encode


def test_an_error_made_of_a_refusal_says_what_was_asked_as_well():
    error = Refusal("there is no GPU", "name a host with one").error("The engine cannot be opened")
    assert str(error) == "The engine cannot be opened.\n  why: there is no GPU\n  remedy: name a host with one"
    assert error.refusal == Refusal("The engine cannot be opened: there is no GPU", "name a host with one")


def test_errors_and_refusals_survive_a_process_and_a_file():
    refusal = Refusal("no kernel", "choose another precision", node="block00/mlp/fc1")
    assert decode(Refusal, encode(refusal)) == refusal
    assert decode(Refusal, {"reason": "no kernel", "remedy": "wait"}) == Refusal("no kernel", "wait")
    for error in (refusal.error("It failed"), Cancelled()):
        again = pickle.loads(pickle.dumps(error))
        assert (type(again), str(again)) == (type(error), str(error))


@pytest.mark.parametrize("value", [20.0, True, "20"])
def test_a_value_of_another_type_is_not_one_of_the_allowed(value):
    one_of("size", 20, (20, 30))
    with pytest.raises(WorkbenchError, match="Unknown size"):
        one_of("size", value, (20, 30))


def test_an_unknown_name_is_refused_with_the_nearest_known_one():
    with pytest.raises(WorkbenchError, match="did you mean 'tensorrt'") as error:
        one_of("backend", "tensort", ("onnxruntime", "tensorrt"))
    assert "'onnxruntime', 'tensorrt'" in error.value.why
