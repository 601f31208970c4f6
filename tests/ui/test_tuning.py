import pytest

import workbench as wb
from tests.tiny import Tiny
from workbench.errors import WorkbenchError
from workbench.ui import Aim, tuning_panel

QUICK = {"max_batch": 4, "max_streams": 2, "seconds": 0.02}


@pytest.fixture(scope="module")
def variant(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuning")
    return wb.apply_recipe(Tiny.of().graph(folder), wb.Recipe(), folder / "workspace")


def drawn(chart):
    """(batch, streams) of every point of the chart."""
    traces = chart.outputs[0]["data"]["application/vnd.plotly.v1+json"]["data"]
    return {(int(batch), trace["name"]) for trace in traces for batch in trace.get("text", ())}


@pytest.mark.parametrize("aim", [Aim(**QUICK), Aim(max_latency_ms=7.5, **QUICK), Aim(load=12.25, **QUICK)])
def test_the_panel_reads_back_the_aim_that_it_was_given(variant, tmp_path, aim):
    assert tuning_panel(variant, tmp_path, aim).value == aim


def test_only_the_limit_of_the_chosen_aim_can_be_changed(variant, tmp_path, control):
    panel = tuning_panel(variant, tmp_path, Aim(max_latency_ms=7.5, **QUICK))
    limit, load, aim = control(panel, "limit"), control(panel, "load"), control(panel, "aim")
    assert (limit.disabled, load.disabled) == (False, True)
    aim.value = "latency"
    assert (limit.disabled, load.disabled) == (True, False)
    assert (panel.value.max_latency_ms, panel.value.load) == (None, load.value)
    aim.value = "throughput"
    assert (limit.disabled, load.disabled) == (True, True)
    assert panel.value == Aim(**QUICK)


def test_every_setting_is_drawn_as_it_is_measured_and_the_best_one_is_said(variant, tmp_path, control):
    panel = tuning_panel(variant, tmp_path, Aim(**QUICK))
    chart, seen = control(panel, "points"), []
    chart.observe(lambda change: seen.append(len(drawn(chart))), "outputs")
    tuned = panel.result()
    assert seen == [*range(1, len(tuned.points) + 1), len(tuned.points)]
    names = {1: "1 stream", 2: "2 streams"}
    assert drawn(chart) == {(p.setting.batch, names[p.setting.streams]) for p in tuned.points}
    assert str(tuned) in repr(panel)  # what is left of the panel without a kernel
    assert "Look for the best throughput" in " ".join(repr(panel).split())


def test_an_aim_that_nothing_reaches_is_refused_in_the_panel(variant, tmp_path, shown):
    panel = tuning_panel(variant, tmp_path, Aim(max_latency_ms=0.001, **QUICK))
    with pytest.raises(WorkbenchError, match="No setting is within"):
        panel.result()
    assert "No setting is within" in shown(panel)


@pytest.mark.parametrize("given", [{"max_latency_ms": 5, "load": 5}, {"seconds": 0}])
def test_what_is_no_aim_is_refused(given):
    with pytest.raises(WorkbenchError):
        Aim(**given)
