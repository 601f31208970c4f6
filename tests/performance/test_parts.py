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


def layer(name, seconds, **more):
    return {"name": name, "type": "", "seconds": seconds, **more}


def test_layers_are_summed_up_by_the_role_in_their_name():
    rows = [
        layer("embedding/patches", 1),
        layer("block00/attention/qkv", 2),
        layer("block00/attention/scores/MatMulScaleFusion/", 3),
        layer("block01/mlp/fc1", 4),
        layer("block01/residual2", 5),
        layer("head", 6),
    ]
    made = split_layers(rows, whole_s=22)
    assert made.seconds == {"attention": 5, "mlp": 4, "rest": 12}
    assert made.difference_s == 1
    assert made.adds_up
    assert [row["part"] for row in made.rows()] == ["attention", "mlp", "rest", "difference", "whole"]
    assert sum(row["share"] for row in made.rows()[:-1]) == pytest.approx(1)


def test_parts_that_differ_from_the_whole_do_not_add_up():
    assert not split_layers([layer("block00/mlp/fc1", 1)], whole_s=2).adds_up


def test_a_layer_that_the_runtime_named_counts_by_its_operator_or_by_its_neighbour():
    rows = [
        layer("block00/mlp/fc1", 1),
        layer("FastGelu_token_3", 2, type="FastGelu"),
        layer("block00/attention/qkv", 4),
        layer("Transpose_token_8", 8, type="Transpose"),
        layer("SkipLayerNormalization", 16, type="SkipLayerNormalization"),
    ]
    assert split_layers(rows, 31).seconds == {"attention": 12, "mlp": 3, "rest": 16}


def test_a_row_that_says_its_roles_counts_by_the_first():
    rows = [layer("__myl_FcAddTanh", 1, role="fc1 gelu"), layer("_gemm_mha_v2", 2, role="scores softmax")]
    assert split_layers(rows, 3).seconds == {"attention": 2, "mlp": 1, "rest": 0}


def test_an_engine_of_onnx_runtime_is_split_with_nothing_left_out(tmp_path):
    variant = apply_recipe(draw(tmp_path), Recipe(), tmp_path)
    with open_engine(build_engine(variant, "onnxruntime", tmp_path, batches=Batches(1, 4, 4))) as session:
        feeds = {"images": np.zeros((4, 16, 16, 3), np.float32)}
        made = split(session, feeds)
        layers = session.layers(feeds)
    assert all(seconds > 0 for seconds in made.seconds.values())
    parts = sum(split_layers(layers, 1).seconds.values())
    assert parts == pytest.approx(sum(row["seconds"] for row in layers))


class Silent(Session):
    def run(self, feeds):
        return {}

    def time(self, feeds, repeats):
        return [1.0] * repeats

    def memory(self):
        return 0


def test_a_runtime_that_does_not_time_layers_is_refused():
    with pytest.raises(WorkbenchError, match="not known"):
        split(Silent(), {})
