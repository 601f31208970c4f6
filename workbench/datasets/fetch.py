"""Published checkpoints and image sets by name, and where they go."""

from __future__ import annotations

import os
import urllib.parse
from pathlib import Path

from ..errors import one_of, refuse_unless
from ..progress import Progress, silent
from . import cifar10
from .transfer import download

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
#: Name -> (address, MD5).
IMAGES = {"cifar10": (cifar10.URL, cifar10.MD5)}


def downloads() -> Path:
    """Where downloads go when no folder is named: ``vit-workbench`` in the user's cache (XDG base directories)."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vit-workbench"


def fetch_checkpoint(
    name: str, folder: Path | str | None = None, progress: Progress = silent, *, base_url: str = CHECKPOINTS_URL
) -> Path:
    """Download a published vit_jax checkpoint; one that is there already is not asked for again.

    Args:
        name: a key of ``CHECKPOINTS`` such as ``S/16``, or the path of any .npz file below ``base_url``.
        folder: where it goes; None is ``downloads()``.
        progress: called with bytes.
        base_url: where the files lie.

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
    """Download a published image set as it is; ``wb.images(path)`` reads it.

    Args:
        name: ``cifar10``.
        folder: where it goes; None is ``downloads()``, where ``wb.images("cifar10")`` finds it.
        progress: called with bytes.
        base_url: another server that has the same file.

    Returns:
        The path of the archive.

    Raises:
        WorkbenchError: an unknown name, no network, a wrong checksum, a full disk.
    """
    one_of("image set", name, tuple(IMAGES))
    url, md5 = IMAGES[name]
    file = url.rsplit("/", 1)[1]
    return download(_below(base_url, file) if base_url else url, _target(folder, file), md5, progress)


def _below(base_url: str, file: str) -> str:
    return f"{base_url.rstrip('/')}/{urllib.parse.quote(file)}"


def _target(folder: Path | str | None, file: str) -> Path:
    """The same folders as on the server, where several files have the same name."""
    refuse_unless(
        ".." not in Path(file).parts and not Path(file).is_absolute(),
        f"{file!r} is no file below the address",
        why="it leads out of the folder",
        remedy="give a path without .. that does not begin with a slash",
    )
    return (Path(folder).expanduser() if folder else downloads()) / file
