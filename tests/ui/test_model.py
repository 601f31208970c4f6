import datetime

import numpy as np
import pytest
from PIL import Image

from tests.graphs.references import checkpoint
from workbench.errors import WorkbenchError
from workbench.models.checkpoint import save_checkpoint
from workbench.ui import Source, model_panel


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return save_checkpoint(tmp_path_factory.mktemp("weights") / "own.npz", *checkpoint("token"))


@pytest.fixture
def panel(weights, tmp_path):
    return model_panel(tmp_path / "workspace", Source(str(weights), "shapes", 4))


def sent(name, content):
    """A file as the browser sends it."""
    when = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    return {"name": name, "content": memoryview(content), "size": len(content), "type": "", "last_modified": when}


def upload(control, *files):
    control.value = tuple(sent(path.name, path.read_bytes()) for path in files)


def test_the_result_is_the_model_and_images_of_its_size(panel):
    loaded = panel.result()
    assert loaded.spec.image_size == 32
    assert loaded.images.pixels.shape == (4, 32, 32, 3)
    assert "4 images of shapes/evaluation" in str(loaded)


def test_an_uploaded_checkpoint_is_kept_and_loaded(panel, weights, control):
    upload(control(panel, "upload-checkpoint"), weights)
    assert panel.value.checkpoint != str(weights)
    assert panel.value.checkpoint.endswith("own.npz")
    assert panel.result().spec.width == checkpoint("token")[0].width


def test_uploaded_pictures_are_shown_whole_and_have_no_labels(panel, control, tmp_path):
    files = [tmp_path / f"{name}.png" for name in ("b", "a")]
    for shade, path in enumerate(files):
        Image.fromarray(np.full((40, 50, 3), 100 * shade, np.uint8)).save(path)
    upload(control(panel, "upload-images"), *files)
    loaded = panel.result()
    assert not loaded.labelled
    assert list(loaded.images.pixels[:, 0, 0, 0]) == [100, 0]  # by name
    assert len(loaded.class_names) == loaded.spec.classes
    assert loaded.class_names[7] == "class 7"


def test_what_is_no_checkpoint_is_refused_where_it_was_uploaded(panel, control, shown, tmp_path):
    (tmp_path / "notes.txt").write_text("no weights")
    upload(control(panel, "upload-checkpoint"), tmp_path / "notes.txt")
    assert "That is no checkpoint" in shown(panel)
    with pytest.raises(WorkbenchError, match="no checkpoint"):
        panel.result()


def test_a_name_with_folders_in_it_stays_in_the_workspace(panel, weights, control, tmp_path):
    control(panel, "upload-checkpoint").value = (sent("../../../outside.npz", weights.read_bytes()),)
    assert str(tmp_path / "workspace" / "uploads") in panel.value.checkpoint
    assert panel.value.checkpoint.endswith("/outside.npz")
    assert ".." not in panel.value.checkpoint


def test_an_empty_line_is_refused_with_what_to_do(panel, control, shown):
    control(panel, "checkpoint").value = " "
    assert "No checkpoint is named" in shown(panel)
