"""Published checkpoints and image sets: their names and addresses, and the folder they are downloaded to."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path

from ..errors import one_of, refuse_unless
from ..progress import Progress, silent
from .download import download

#: The public bucket of vit_jax (https://github.com/google-research/vision_transformer#available-vit-models).
CHECKPOINTS_URL = "https://storage.googleapis.com/vit_models/"
_FINE_TUNED = "--imagenet2012-steps_20k-lr_{}-res_224.npz"
#: Name -> file below CHECKPOINTS_URL. The AugReg files (Steiner et al., 2021, arXiv:2106.10270) are those that timm
#: chose for each size: pretrained on ImageNet-21k, fine-tuned on ImageNet-1k at 224 pixels. The others belong to
#: the first paper (Dosovitskiy et al., 2020, arXiv:2010.11929).
CHECKPOINTS = {
    "Ti/16": "augreg/Ti_16-i21k-300ep-lr_0.001-aug_none-wd_0.03-do_0.0-sd_0.0" + _FINE_TUNED.format("0.03"),
    "S/32": "augreg/S_32-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0" + _FINE_TUNED.format("0.03"),
    "S/16": "augreg/S_16-i21k-300ep-lr_0.001-aug_light1-wd_0.03-do_0.0-sd_0.0" + _FINE_TUNED.format("0.03"),
    "B/32": "augreg/B_32-i21k-300ep-lr_0.001-aug_medium1-wd_0.03-do_0.0-sd_0.0" + _FINE_TUNED.format("0.03"),
    "B/16": "augreg/B_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0" + _FINE_TUNED.format("0.01"),
    "B/8": "augreg/B_8-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.0-sd_0.0" + _FINE_TUNED.format("0.01"),
    "L/16": "augreg/L_16-i21k-300ep-lr_0.001-aug_medium1-wd_0.1-do_0.1-sd_0.1" + _FINE_TUNED.format("0.01"),
    "L/32": "imagenet21k+imagenet2012/ViT-L_32.npz",  # 384 pixels
    "H/14": "imagenet21k/ViT-H_14.npz",  # ImageNet-21k's classes
}
#: Name -> (address, MD5 from the page of the data set).
IMAGES = {
    "cifar10": ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
}


def downloads() -> Path:
    """The folder for downloads when the caller names none: ``vit-workbench`` in the user's cache (XDG)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vit-workbench"


def fetch_checkpoint(
    name: str, folder: Path | str | None = None, progress: Progress = silent, *, base_url: str = CHECKPOINTS_URL
) -> Path:
    """Download a published vit_jax checkpoint, unless the file exists already.

    Args:
        name: a key of ``CHECKPOINTS`` such as ``S/16``, or the path of any .npz file below ``base_url``.
        folder: the folder to download to; None is ``downloads()``.
        progress: counts bytes.
        base_url: the address of the folder that holds the files.

    Returns:
        The path of the .npz file.

    Raises:
        WorkbenchError: an unknown name, no network, no such file on the server, a wrong checksum, a full disk.
    """
    if not name.endswith(".npz"):
        one_of("checkpoint", name, tuple(CHECKPOINTS))
    file = CHECKPOINTS.get(name, name)
    return download(_below(base_url, file), _target(folder, file), None, progress)


def fetch_images(
    name: str, folder: Path | str | None = None, progress: Progress = silent, *, base_url: str | None = None
) -> Path:
    """Download a published image set; ``wb.images(path)`` reads the archive that this returns.

    Args:
        name: ``cifar10``.
        folder: the folder to download to; None is ``downloads()``, where ``wb.images("cifar10")`` looks for it.
        progress: counts bytes.
        base_url: another server that has the same file.

    Returns:
        The path of the archive.

    Raises:
        WorkbenchError: an unknown name, no network, a wrong checksum, a full disk.
    """
    one_of("image set", name, tuple(IMAGES))
    url, md5 = IMAGES[name]
    file = _file_name(url)
    return download(_below(base_url, file) if base_url else url, _target(folder, file), md5, progress)


def is_downloaded(name: str) -> bool:
    """Whether ``fetch_images`` downloaded an image set to ``downloads()``."""
    return (downloads() / _file_name(IMAGES[name][0])).exists()


def downloaded_images(name: str) -> Path:
    """The archive that ``fetch_images`` downloaded to ``downloads()``.

    Raises:
        WorkbenchError: it was not downloaded.
    """
    path = downloads() / _file_name(IMAGES[name][0])
    refuse_unless(
        is_downloaded(name),
        f"{name} is not on this machine",
        why=f"there is no {path}",
        remedy=f"run workbench fetch-images {name} (162 MB), or give the path of the archive or its folder",
    )
    return path


def _file_name(url: str) -> str:
    return url.rsplit("/", 1)[1]


def _below(base_url: str, file: str) -> str:
    return f"{base_url.rstrip('/')}/{urllib.parse.quote(file)}"


def _target(folder: Path | str | None, file: str) -> Path:
    """The path to write. It keeps the server's folders, because several files there have the same name."""
    refuse_unless(
        ".." not in Path(file).parts and not Path(file).is_absolute(),
        f"{file!r} is no file below the address",
        why="this path leaves the folder",
        remedy="give a path without .. that does not begin with a slash",
    )
    return (Path(folder).expanduser() if folder else downloads()) / file
