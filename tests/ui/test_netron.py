import json
import re
import subprocess
import sys
import urllib.error
import urllib.request

import pytest

from tests.graphs.drawn import draw
from workbench import apply_recipe
from workbench.errors import WorkbenchError
from workbench.records import Recipe
from workbench.ui import view
from workbench.ui.netron import address


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.headers, answer.read()


def status(url):
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, timeout=10)
    refused.value.close()
    return refused.value.code


def meta(page):
    return dict(re.findall(r'<meta name="(\w+)" content="([^"]*)"', page.decode()))


@pytest.fixture
def models(tmp_path):
    (tmp_path / "a & b").mkdir()
    return draw(tmp_path / "a & b").path, draw(tmp_path, seed=1).path


def test_two_models_are_served_at_the_same_time_each_with_its_own_bytes(models):
    for model in models:
        url = address(model)
        named = meta(get(url)[1])
        assert get(url + named["file"])[1] == model.read_bytes()
        assert named["identifier"] == model.name


def test_the_page_reports_to_nobody_asks_nothing_and_is_never_too_old(models):
    headers, page = get(address(models[0]))
    named = meta(page)
    assert named["version"] == "0.0.0"
    assert named["date"] > "2026"
    assert page.decode().count('name="date"') == 1
    assert "connect-src 'self'" in headers["Content-Security-Policy"]
    assert b"consent=1" in get(address(models[0]) + "consent.js")[1]


def test_only_the_published_model_and_netrons_own_files_are_served(models, tmp_path):
    url = address(models[0])
    (tmp_path / "secret.txt").write_text("secret")
    assert get(url + "view.js")[0]["Content-Type"].startswith("text/javascript")
    for name in ("data/..%2Fsecret.txt", "data/../secret.txt", "..%2F..%2Fsecret.txt", "nothing.js", "%2e%2e/x"):
        assert status(url + name) == 404
    assert status(re.sub(r"/[^/]+/$", "/guess/", url)) == 404


def test_it_listens_on_the_loopback_alone_and_behind_a_hub_goes_through_the_proxy(models, monkeypatch):
    direct = address(models[0])
    port, key = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/([\w-]+)/", direct).groups()
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ada/")
    assert address(models[0]) == f"/user/ada/proxy/{port}/{key}/"


@pytest.mark.parametrize("base", ["/", "/lab server/x/"])
def test_a_reader_elsewhere_is_led_through_the_notebook_server_without_a_hub(models, monkeypatch, tmp_path, base):
    """In a container or behind ``ssh -L`` the kernel's 127.0.0.1 is not the reader's; the server notes its path."""
    monkeypatch.delenv("JUPYTERHUB_SERVICE_PREFIX", raising=False)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("JPY_PARENT_PID", "77")
    if base != "/":
        (tmp_path / "jpserver-77.json").write_text(json.dumps({"base_url": base}))
    direct = address(models[0])
    port, key = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/([\w-]+)/", direct).groups()
    through = f"{base.replace(' ', '%20')}proxy/{port}/{key}/"
    shown = view(models[0]).data
    assert f'href="{through}"' in shown
    assert f"fetch('{direct}'" in shown  # the frame goes there where this address is out of reach
    assert f"src = '{through}'" in shown


def test_a_variant_is_called_by_its_recipe_a_graph_by_its_name_and_a_file_by_its_own(tmp_path, models):
    graph = draw(tmp_path)
    shown = view(graph, apply_recipe(graph, Recipe(), tmp_path), models[0]).data
    assert shown.count("<iframe") == shown.count('title="The graph of') == 3
    assert all(f'src="{address(model)}"' in shown for model in (graph.path, models[0]))
    assert re.findall(r"<figcaption>(.*?) \(", shown) == ["drawn", "drawn, fp32", models[0].name]


def test_what_is_no_file_is_refused(tmp_path):
    with pytest.raises(WorkbenchError, match="There is no model at"):
        view(tmp_path / "none.onnx")
    with pytest.raises(WorkbenchError, match="nothing to show"):
        view()


def test_the_server_ends_with_its_process(models):
    code = "import sys; from workbench.ui.netron import address; print(address(sys.argv[1]), flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code, models[0]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        url = process.stdout.readline().strip()
        assert meta(get(url)[1])["version"] == "0.0.0"
        process.communicate("\n", timeout=20)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(url, timeout=5)
