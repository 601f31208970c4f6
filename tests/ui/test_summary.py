"""What an executed notebook keeps of a panel: its choices and result, without a kernel."""

import ipywidgets as widgets
import pytest
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output

from workbench.ui import Resolution, resolution_panel
from workbench.ui import panel as panels
from workbench.ui.panel import Panel


class Shown:
    """Stands for the outputs of a notebook: keeps the bundle that was displayed last under an id."""

    def __init__(self, bundle):
        self.bundle = bundle

    def update(self, bundle, raw):
        assert raw
        self.bundle = bundle


@pytest.fixture
def displayed(monkeypatch):
    """Display a panel as IPython does, and get the output that the notebook would keep."""
    outputs = []

    def display(bundle, raw, display_id):
        assert raw
        assert display_id is True
        outputs.append(Shown(bundle))
        return outputs[-1]

    monkeypatch.setattr(panels, "display", display)

    def show(panel):
        panel._ipython_display_()
        return outputs[-1]

    return show


def test_the_choices_stand_in_full_beside_the_widget(displayed):
    bundle = displayed(resolution_panel(Resolution("H/14", 448))).bundle
    assert "application/vnd.jupyter.widget-view+json" in bundle
    for text in (bundle["text/html"], bundle["text/plain"]):
        assert "H/14" in text
        assert "448 pixels make 1,025 tokens" in text
        assert "…" not in text


def test_the_result_of_a_run_is_written_where_the_panel_stands(displayed):
    panel = resolution_panel(Resolution("B/16", 224))
    output = displayed(panel)
    assert "attention</td>" not in output.bundle["text/html"]
    panel.result()
    assert "attention</td>" in output.bundle["text/html"]
    assert "attention" in output.bundle["text/plain"].partition("Done in")[2]


def test_what_was_made_for_other_choices_is_not_in_the_summary(displayed, control):
    panel = resolution_panel(Resolution("B/16", 224))
    panel.result()
    control(panel, "image-size").value = 384
    assert "attention</td>" not in displayed(panel).bundle["text/html"]


def test_an_error_stays_in_the_notebook_with_its_remedy(displayed, panel, work, number):
    output = displayed(panel)
    number.value = 13
    work.go.set()
    panel.run()
    panel._run.watcher.join()
    assert "There is no 13th" in output.bundle["text/plain"]
    assert "take 14" in output.bundle["text/plain"]


def test_labels_of_every_kind_of_control_name_their_value():
    controls = [
        widgets.Checkbox(value=True, description="Smooth"),
        widgets.HBox([widgets.Label("Precision"), widgets.ToggleButtons(options=["fp16", "int8"], value="int8")]),
        widgets.SelectMultiple(options=["a", "b"], value=("a", "b"), description="Batches"),
        widgets.Dropdown(options=[("this machine", None)], value=None, description="Card"),
    ]
    text = repr(Panel("some", controls, lambda: 1, lambda value, progress: value))
    for line in ("Smooth     yes", "Precision  int8", "Batches    a, b", "Card       this machine"):
        assert line in text


def test_ipython_itself_shows_the_panel_by_its_own_display():
    shell = InteractiveShell.instance()
    panel = resolution_panel()
    with capture_output() as captured:
        assert shell.display_formatter.format(panel) == ({}, {})
    (output,) = captured.outputs
    assert "224 pixels make 197 tokens" in output.data["text/html"]
    InteractiveShell.clear_instance()
