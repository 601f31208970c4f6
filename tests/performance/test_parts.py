"""Layer times summed up as attention, MLP and rest."""

from __future__ import annotations

import numpy as np
import pytest

from tests.graphs.drawn import draw
from workbench.backends import build_engine, open_engine
from workbench.backends.base import Session
from workbench.errors import WorkbenchError
from workbench.graphs.quantization.recipe import apply_recipe
from workbench.performance.parts import split, split_layers
from workbench.records import Batches, Recipe


def layers(*rows):
    return [{"name": name, "seconds": seconds, "type": "", **dict(more)} for name, seconds, *more in rows]


#: Attention, MLP and rest as powers of two: a layer in the wrong part gives another sum.
OWN_NAMES = layers(
    ("embedding/patches", 1),
    ("block00/attention/qkv", 2),
    ("block00/attention/scores/MatMulScaleFusion/", 4),
    ("block01/mlp/fc1", 8),
    ("block01/residual2", 16),
    ("head", 32),
)
RUNTIMES_NAMES = layers(
    ("block00/mlp/fc1", 1),
    ("FastGelu_token_3", 2, ("type", "FastGelu")),  # by its operator
    ("block00/attention/qkv", 4),
    ("Transpose_token_8", 8, ("type", "Transpose")),  # by its neighbour
    ("SkipLayerNormalization", 16, ("type", "SkipLayerNormalization")),
    ("__myl_FcAddTanh", 32, ("role", "fc1 gelu")),  # by the first of its roles
    ("_gemm_mha_v2", 64, ("role", "scores softmax")),
)


@pytest.mark.parametrize(("rows", "seconds"), [(OWN_NAMES, (6, 8, 49)), (RUNTIMES_NAMES, (76, 35, 16))])
def test_layers_are_summed_up_by_name_operator_neighbour_or_role(rows, seconds):
    made = split_layers(rows, whole_s=1.04 * sum(seconds))
    assert tuple(made.seconds[part] for part in ("attention", "mlp", "rest")) == seconds
    assert made.difference_s == pytest.approx(0.04 * sum(seconds))
    assert made.adds_up
    assert not split_layers(rows, whole_s=1.06 * sum(seconds)).adds_up
    assert [row["part"] for row in made.rows()] == ["attention", "mlp", "rest", "difference", "whole"]
    assert sum(row["share"] for row in made.rows()[:-1]) == pytest.approx(1)


def test_an_engine_of_onnx_runtime_is_split_with_nothing_left_out(tmp_path):
    variant = apply_recipe(draw(tmp_path), Recipe(), tmp_path)
    with open_engine(build_engine(variant, "onnxruntime", tmp_path, batches=Batches(1, 4, 4))) as session:
        feeds = {"images": np.zeros((4, 16, 16, 3), np.float32)}
        made = split(session, feeds)
        timed = session.layers(feeds)
    assert all(seconds > 0 for seconds in made.seconds.values())
    parts = sum(split_layers(timed, 1).seconds.values())
    assert parts == pytest.approx(sum(row["seconds"] for row in timed))


class Silent(Session):
    run = memory = None

    def time(self, feeds, repeats):
        return [1.0] * repeats


def test_a_runtime_that_does_not_time_layers_is_refused():
    with pytest.raises(WorkbenchError, match="not known"):
        split(Silent(), {})
