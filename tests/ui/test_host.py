import sys

import pytest

from workbench.backends import backend
from workbench.errors import WorkbenchError
from workbench.remote.host import Host
from workbench.ui import Place, Places, host_panel

T4 = '[t4]\nbackend = "tensorrt"\ncommand = ["ssh", "t4", "python3"]\ncard = "T4"\n'
FOUND = (
    {"item": "Python", "found": "3.10.12", "status": "ok", "remedy": ""},
    {"item": "GPU 0", "found": "Tesla T4, SM75, 15.0 GiB", "status": "ok", "remedy": ""},
    {"item": "backend tensorrt", "found": "TensorRT 10.3", "status": "ok", "remedy": ""},
    {"item": "pycuda", "found": "not installed", "status": "missing", "remedy": "pip install pycuda"},
)


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    (tmp_path / "hosts.toml").write_text(T4)
    monkeypatch.setattr(Host, "doctor", lambda self: list(FOUND))
    return tmp_path


def test_a_backend_of_this_machine_is_a_place_whose_doctor_speaks_of_it_alone(tmp_path):
    place = host_panel(tmp_path).result()
    assert (place.host.name, place.here, place.ready) == ("onnxruntime", True, True)
    assert [row["item"] for row in place.rows] == ["backend onnxruntime"]
    assert str(place) == "onnxruntime (onnxruntime) is ready."


def test_a_backend_that_is_missing_is_not_ready_and_says_what_to_do(tmp_path, monkeypatch):
    from workbench.errors import Refusal

    monkeypatch.setattr(type(backend("tensorrt-rtx")), "missing", lambda self: Refusal("no GPU", "buy one"))
    place = host_panel(tmp_path, "tensorrt-rtx").result()
    assert not place.ready
    assert "no GPU; buy one" in str(place)


def test_a_host_is_a_choice_and_its_doctor_answers_beside_it(workspace, control):
    panel = host_panel(workspace)
    control(panel, "place").value = "t4"
    assert panel.value == Places(("t4",))
    place = panel.result()
    assert (place.host, place.here, place.ready) == (
        Host("t4", "tensorrt", ("ssh", "t4", "python3"), "T4"),
        False,
        True,
    )
    beside = panel._outcome.children[0].value
    assert "Tesla T4" in beside
    assert "pip install pycuda" in beside
    assert "3.10.12" not in beside  # what is in order and not about engines is left out


def test_several_places_can_be_chosen_and_a_card_belongs_to_a_backend_of_this_machine(workspace, control):
    panel = host_panel(workspace, ["onnxruntime"], cards={"tensorrt-rtx": "SM86"})
    assert [place.host.name for place in panel.result()] == ["onnxruntime"]
    control(panel, "places").value = tuple(control(panel, "places").options)
    hosts = {place.host.name: place.host for place in panel.result()}
    assert set(hosts) == {"onnxruntime", "tensorrt", "tensorrt-rtx", "t4"}
    assert hosts["tensorrt-rtx"].card == "SM86"
    control(panel, "places").value = ()
    with pytest.raises(WorkbenchError, match="no place to build"):
        panel.result()


def test_a_place_that_nobody_knows_is_refused(workspace):
    with pytest.raises(WorkbenchError, match="t5"):
        host_panel(workspace, "t5")


@pytest.mark.slow
def test_the_doctor_of_another_interpreter_answers(tmp_path, control):
    (tmp_path / "hosts.toml").write_text(f'[other]\nbackend = "onnxruntime"\ncommand = ["{sys.executable}"]\n')
    place = host_panel(tmp_path, "other").result()
    assert isinstance(place, Place)
    assert place.ready
    assert len(place.rows) > 5
