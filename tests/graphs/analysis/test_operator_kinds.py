import numpy as np
import pytest

import workbench as wb
from tests.graphs.drawn import draw, outlier, scaled
from tests.graphs.onnx_file import logits
from workbench.errors import WorkbenchError
from workbench.graphs.analysis.operator_kinds import KINDS, operator_losses

MINMAX = wb.Recipe("int8", calibration=wb.Calibration(method="minmax"))


@pytest.fixture(scope="module")
def many():
    rng = np.random.default_rng(7)
    return (rng.uniform(-0.6, 0.6, (64, 1, 1, 1)) + rng.uniform(-0.4, 0.4, (64, 16, 16, 3))).astype(np.float32)


def losses(graph, pictures, many, folder, **given):
    return operator_losses(graph, MINMAX, folder, images=many, calibration=pictures, **given)


def test_every_kind_of_operator_has_a_row_with_the_interval_of_its_agreement(drawn, pictures, many, shelf):
    labels = logits(drawn.path, many).argmax(axis=1)
    found = losses(drawn, pictures, many, shelf, labels=labels)
    frame = found.frame()
    assert list(frame.operators) == list(KINDS)
    assert found.top1 == 1
    assert (frame.images == len(many)).all()
    assert (frame.agreement_low <= frame.agreement).all()
    assert (frame.agreement <= frame.agreement_high).all()
    assert (frame.logit_error > 0).all()  # something was rounded in each
    assert list(frame.points_lost) == pytest.approx(list(100 * (1 - frame.agreement)))  # FP32 is always right here


def test_only_the_kind_that_reads_the_outliers_is_to_blame(pictures, many, tmp_path):
    factors = {}
    for block in ("block00", "block01", "block02"):
        factors |= outlier(f"{block}/norm1", f"{block}/attention/qkv", 3000)
        factors |= outlier(f"{block}/norm2", f"{block}/mlp/fc1", 3000)
    graph = draw(tmp_path, edit=scaled(factors, at=3))
    found = losses(graph, pictures, many, tmp_path)
    errors = found.frame().set_index("operators").logit_error
    assert errors.idxmax() == "linear layers"
    assert found.to_blame == ("linear layers",)


def test_a_second_look_computes_nothing(drawn, pictures, many, shelf, monkeypatch):
    first = losses(drawn, pictures, many, shelf)
    monkeypatch.setattr("workbench.graphs.analysis.sensitivity.logits_of", None)  # calling it would fail
    assert losses(drawn, pictures, many, shelf).rows == first.rows


def test_a_precision_without_places_is_refused(drawn, pictures, many, shelf):
    with pytest.raises(WorkbenchError, match="has no places to try"):
        operator_losses(drawn, wb.Recipe("fp16"), shelf, images=many, calibration=pictures)
