"""Errors say what, why and the remedy."""

import pickle

import pytest

import workbench as wb
from workbench import records
from workbench.errors import Cancelled, WorkbenchError, one_of
from workbench.workspace import Workspace


def test_an_error_says_what_why_and_the_remedy_and_survives_pickling():
    error = WorkbenchError("It broke", why="it was thin", remedy="use a thicker one")
    assert str(error) == "It broke.\n  why: it was thin\n  remedy: use a thicker one"
    for one in (error, Cancelled()):
        copied = pickle.loads(pickle.dumps(one))
        assert (type(copied), str(copied), copied.remedy) == (type(one), str(one), one.remedy)


def test_an_unknown_word_is_answered_with_the_nearest_known_one():
    one_of("precision", "fp16", records.PRECISIONS)
    with pytest.raises(WorkbenchError, match="did you mean 'fp16'"):
        one_of("precision", "pf16", records.PRECISIONS)
    with pytest.raises(WorkbenchError, match="did you mean 20"):
        one_of("opset", "20", (17, 20))
    with pytest.raises(WorkbenchError, match="known are 17, 20"):
        one_of("opset", 20.0, (17, 20))
    with pytest.raises(WorkbenchError, match="known are 'a', 'b'"):
        one_of("letter", 5, ("a", "b"))


@pytest.mark.parametrize("path", [None, 5, ["workspace"]])
@pytest.mark.parametrize("call", [Workspace, wb.load_checkpoint, lambda path: wb.import_onnx(path, "workspace")])
def test_what_is_no_path_is_refused(call, path):
    with pytest.raises(WorkbenchError, match="is given by its path"):
        call(path)
