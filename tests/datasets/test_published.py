"""Published checkpoints and image sets, from a local server."""

import hashlib

import pytest

from tests.download_server import CONTENT
from workbench.datasets import published
from workbench.errors import WorkbenchError


def test_a_checkpoint_is_downloaded_by_its_name_or_its_path(server, tmp_path):
    path = published.fetch_checkpoint("S/16", tmp_path, base_url=server.url)
    assert path.read_bytes() == CONTENT
    published.fetch_checkpoint("L/32", tmp_path, base_url=server.url.rstrip("/"))
    published.fetch_checkpoint("sam/ViT-B_16.npz", tmp_path, base_url=server.url)
    asked = [path for path, *_ in server.asked]
    assert asked[0].startswith("/augreg/S_16-i21k-300ep-")
    assert asked[1:] == ["/imagenet21k+imagenet2012/ViT-L_32.npz", "/sam/ViT-B_16.npz"]


@pytest.mark.parametrize("name", ["S/15", "../secret.npz", "/etc/secret.npz"])
def test_a_name_that_is_no_checkpoint_is_refused(tmp_path, name):
    with pytest.raises(WorkbenchError, match=name):
        published.fetch_checkpoint(name, tmp_path)


def test_cifar10_is_checked_against_its_published_checksum(server, tmp_path, monkeypatch):
    with pytest.raises(WorkbenchError, match="c32a1d4ab5d03f1284b67883e8d87530"):
        published.fetch_images("cifar10", tmp_path, base_url=server.url)
    assert server.asked[0][0] == "/cifar-10-binary.tar.gz"
    md5 = hashlib.md5(CONTENT).hexdigest()
    monkeypatch.setitem(published.IMAGES, "cifar10", (published.IMAGES["cifar10"][0], md5))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert not published.is_downloaded("cifar10")
    path = published.fetch_images("cifar10", base_url=server.url)
    assert published.is_downloaded("cifar10")
    assert path == tmp_path / "cache" / "vit-workbench" / "cifar-10-binary.tar.gz"
    with pytest.raises(WorkbenchError, match="cifar10"):
        published.fetch_images("cifar11", tmp_path)
