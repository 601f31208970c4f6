import pytest

from tests.deployment.bundles import tiny_engine
from tests.tiny import some_images
from workbench.deployment.bundle import UNKNOWN_LICENCE
from workbench.deployment.manifest import bundle_digest, read_manifest
from workbench.deployment.registry import Registry
from workbench.ui import Panel, bundle_panel
from workbench.ui.bundle import Packing


@pytest.fixture
def engine(tmp_path):
    return tiny_engine(tmp_path)


def test_packing_twice_gives_the_same_bundle_which_is_not_current(engine, tmp_path):
    panel = bundle_panel(engine, tmp_path / "registry", images=some_images(20), packing=Packing("CC0"))
    folder = panel.result()
    again = bundle_panel(engine, Registry(tmp_path / "registry"), images=some_images(20), packing=Packing("CC0"))
    assert again.result() == folder
    assert bundle_digest(folder) == folder.name
    assert read_manifest(folder).licence == "CC0"
    assert Registry(tmp_path / "registry").current is None
    assert folder.name in panel._outcome.children[0].value


def test_it_packs_what_the_panel_before_it_chose(engine, tmp_path, number):
    before = Panel("choice", [number], lambda: number.value, lambda chosen, progress: engine)
    panel = bundle_panel(before, tmp_path / "registry", images=some_images(20))
    first = panel.result()
    number.value += 1  # the choice before it changed, so that the result is made again
    assert panel.result() == first
    assert read_manifest(first).licence == UNKNOWN_LICENCE


def test_what_is_no_engine_is_refused_in_the_panels_words(tmp_path):
    panel = bundle_panel("an engine", tmp_path / "registry", images=some_images(2))
    panel.run()
    with pytest.raises(Exception, match="A bundle is made of an engine"):
        panel.result()
    assert "A bundle is made of an engine" in panel._message.value
