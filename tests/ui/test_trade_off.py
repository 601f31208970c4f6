import json
import re

import pandas as pd
import plotly.io
import pytest

from tests.ui import measured
from tests.ui.measured import MEASUREMENTS
from workbench.errors import WorkbenchError
from workbench.studies.choice import choose
from workbench.ui import Limits, Pair, compare_panel, trade_off_panel
from workbench.ui.comparison import block_deltas


@pytest.fixture(scope="module")
def frame():
    return measured.frame()


def drawn(panel):
    """The figure that the panel shows, as Plotly's JSON."""
    chart = next(part for part in panel.children if "wb-chart" in part._dom_classes)
    return plotly.io.from_json(json.dumps(chart.outputs[0]["data"]["application/vnd.plotly.v1+json"]))


def ring(panel):
    """Where the ring around the chosen engine stands, if there is one."""
    traces = [trace for trace in drawn(panel).data if trace.name == "chosen"]
    return [(round(x), round(y, 1)) for trace in traces for x, y in zip(trace.x, trace.y)]


def line(panel):
    figure = drawn(panel)
    return figure.layout.shapes[0].y0, figure.layout.annotations[0].text


def test_a_panel_reads_back_its_limits_and_returns_what_the_study_itself_chooses(frame):
    for limits in (Limits(), Limits(1.5, 60.0), Limits(0.123, 4000.0), Limits(99)):
        assert trade_off_panel(frame, limits).value == limits
    panel = trade_off_panel(frame, Limits(2.5, 60.0))
    assert str(panel.result()) == str(choose(frame, 2.5, 60.0))
    assert panel.result().row["precision"] == "int8"


def test_moving_a_limit_moves_the_ring_to_the_engine_that_is_then_chosen(frame, control):
    panel = trade_off_panel(frame, Limits(0.5))
    assert ring(panel) == [(160, 89.8)]  # fp16: 8 images in 50.02 ms, two images in a thousand lost
    assert "Take fp16" in control(panel, "choice").value
    assert line(panel) == (pytest.approx(89.5), "FP32 − 0.5 points")
    control(panel, "max-drop").value = 2.5
    assert ring(panel) == [(266, 88.0)]
    assert "Take int8 " in control(panel, "choice").value
    assert line(panel) == (pytest.approx(87.5), "FP32 − 2.5 points")
    control(panel, "max-drop").value = 0.5
    assert panel.value == Limits(0.5)
    assert ring(panel) == [(160, 89.8)]


def test_a_limit_that_nothing_meets_hides_the_ring_and_says_what_comes_nearest(frame, control, shown):
    panel = trade_off_panel(frame, Limits(0.5))
    control(panel, "limit-latency").value = True
    control(panel, "max-latency").value = 10.0
    assert ring(panel) == []
    assert "No engine of this study is within the limits" in shown(panel)
    assert "the nearest is" in shown(panel)
    control(panel, "max-latency").value = 0.0
    assert "No call is within the limit on latency" in shown(panel)
    control(panel, "max-latency").value = 60.0
    assert "No call" not in shown(panel)
    assert ring(panel) == [(160, 89.8)]
    assert panel.value == Limits(0.5, 60.0)


def test_energy_is_limited_and_drawn_where_it_was_measured(frame, control, controls):
    assert controls(trade_off_panel(frame), "max-energy") == controls(trade_off_panel(frame), "energy-chart") == []
    panel = trade_off_panel(frame.assign(joules_per_image=[4.0, 3.0, 1.5, 0.5]), Limits(2.5, None, 2.0))
    assert panel.value == Limits(2.5, None, 2.0)
    assert panel.result().row["precision"] == "int8"
    assert "Accuracy against energy" in control(panel, "energy-chart").outputs[0]["data"]["text/plain"]
    control(panel, "max-drop").value = 0.5  # int8 loses more, and fp16 takes 3 J
    assert ring(panel) == []
    control(panel, "limit-energy").value = False
    assert panel.value == Limits(0.5)
    assert control(panel, "max-energy").disabled
    assert ring(panel) == [(160, 89.8)]


def test_the_compare_panel_says_how_a_stands_against_b_and_lists_blocks_by_their_difference(control):
    blocks = [
        pd.DataFrame({"block": ["block00", "block00", "block01"], "ms": [1.0, 2.0, 4.0]}),
        pd.DataFrame({"block": ["block00", "block01"], "ms": [2.5, 9.0]}),
    ]
    names = ["fp16", "fp32"]
    panel = compare_panel(
        {"fp32": MEASUREMENTS[0], "fp16": MEASUREMENTS[1]}, Pair("fp16", "fp32"), blocks=dict(zip(names, blocks))
    )
    assert panel.value == Pair("fp16", "fp32")
    result = panel.result()
    assert result.speed == "faster"
    assert result.speedup == pytest.approx(80.02 / 50.02)
    shown = " ".join(part.value for part in control(panel, "result").children[0].children)
    assert "Speed: faster" in shown
    assert re.search(r"block01.*4.*9.*-5.*block00.*3.*2\.5.*0\.5", shown, re.S)
    control(panel, "a").value = "fp32"
    control(panel, "b").value = "fp16"
    assert panel.result().speed == "slower"


def test_deltas_are_those_of_the_blocks_that_both_have():
    a = pd.DataFrame({"block": ["block00", "block01"], "ms": [1.0, 2.0], "type": ["x", "y"], "only_a": [1, 1]})
    b = pd.DataFrame({"block": ["block01", "block02"], "ms": [5.0, 7.0]})
    found = block_deltas(a, b)
    assert found.to_dict("records") == [{"block": "block01", "ms A": 2.0, "ms B": 5.0, "ms A − B": -3.0}]


@pytest.mark.parametrize(
    "limits", [{"max_drop": -1}, {"max_drop": float("nan")}, {"max_latency_ms": 0.0}, {"max_joules_per_image": 0}]
)
def test_limits_that_nothing_can_keep_are_no_limits(limits):
    with pytest.raises(WorkbenchError, match="limit on"):
        Limits(**limits)
