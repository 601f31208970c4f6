"""Hostile files of images and of parameters: damaged, misnamed, doubled, of sizes that no machine holds."""

from __future__ import annotations

import dataclasses
import io
import os
import random
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from flax import traverse_util
from PIL import Image

import workbench as wb
from tests.hostile.outcomes import Case
from tests.hostile.pools import damaged
from workbench.datasets import folders, preprocessing
from workbench.datasets.source import Unreadable
from workbench.models import vit

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
SPEC = wb.ModelSpec("t", 16, 8, 16, 2, 2, 16, 3)


def _pictures() -> list[bytes]:
    pixels, found = np.random.default_rng(0).integers(0, 256, (24, 30, 3), np.uint8), []
    for kind in ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "ICO", "PDF", "EPS"):
        out = io.BytesIO()
        Image.fromarray(pixels).save(out, kind)
        found.append(out.getvalue())
    return [*found, EPS, b"", b"RIFF", b"\xff\xd8\xff", b"%PDF-1.4", os.urandom(99)]


def pictures(rng: random.Random, count: int, folder: Path) -> Iterator[Case]:
    """A picture of any format, damaged or whole, under the name of another; pipes and devices beside it."""
    whole, wanted = _pictures(), preprocessing.torchvision(16, 20)
    (folder / "a").mkdir()
    os.mkfifo(folder / "a" / "pipe.png")
    (folder / "a" / "zeros.jpg").symlink_to("/dev/zero")
    for number in range(count):
        content = rng.choice(whole)
        content = damaged(content, rng) if content and number % 3 else content
        path = folder / "a" / f"{rng.randrange(20)}{rng.choice(('.png', '.jpg', '.webp', '.JPEG'))}"
        path.write_bytes(content)
        allowed = content.startswith((b"\x89PNG", b"\xff\xd8", b"RIFF"))
        yield Case(
            f"picture {content[:40]!r}",
            lambda path=path: _read(path, folder, wanted),
            lambda found, allowed=allowed: (
                isinstance(found, Unreadable) or (allowed and found.shape == (16, 16, 3))
            ),
        )


def _read(path: Path, folder: Path, wanted):
    assert len(folders.open_folder(folder).labels) == len(list(folder.glob("a/[0-9]*")))
    return folders.read_image(path, folder, wanted)


def _npy(array, **header) -> bytes:
    """An .npy member, its header with other entries than the array's."""
    fields = {"descr": array.dtype.str, "fortran_order": False, "shape": array.shape} | header
    text = (repr(fields) + "\n").encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + array.tobytes()


HEADERS = [
    *({"shape": shape} for shape in [(2**62,), (-1,), (2**40, 2**40), "x", (1.5,), (), (True,), [3], (10**30,)]),
    *({"descr": kind} for kind in ["O", "|V2", "|V1", "<i8", "<f8", "|S3", "x", [("a", "<f4")], "<U9", "<c8", ""]),
    {"fortran_order": 7},
]


def checkpoints(rng: random.Random, count: int, folder: Path) -> Iterator[Case]:
    """A checkpoint with a member damaged, doubled, renamed or of another header; or the whole file damaged."""
    flat = wb.save_checkpoint(folder / "right.npz", SPEC, vit.init(SPEC, 0))
    with np.load(flat) as file:
        right = dict(file)
    expected = wb.load_checkpoint(flat)[1]
    for number in range(count):
        path = folder / f"{number}.npz"
        path.write_bytes(_changed(right, flat.read_bytes(), rng))
        size = rng.choice((None, None, None, 24, 10**9, 0, -8, "16", 16.0, 2**62, 17))
        yield Case(
            f"checkpoint {number}, image_size={size}",
            lambda path=path, size=size: wb.load_checkpoint(path, image_size=size),
            lambda found, size=size: _is_the_same(found, expected, size),
        )


def _changed(right: dict, whole: bytes, rng: random.Random) -> bytes:
    if rng.random() < 0.4:
        return damaged(whole, rng)
    members = {f"{name}.npy": _npy(array) for name, array in right.items()}
    extra, name = [], rng.choice(list(members))
    act = rng.randrange(6)
    if act == 0:
        members[name] = _npy(right[name.removesuffix(".npy")], **rng.choice(HEADERS))
    elif act == 1:
        extra = [(name, _npy(right[name.removesuffix(".npy")] + 1))]
    elif act == 2:
        end = rng.choice(("/x", "/", "", "//x", "/encoderblock_99999/x", ".npy"))
        members[f"{name.removesuffix('.npy')}{end}.npy"] = members[name]
    elif act == 3:
        members[name] = rng.choice((b"", b"no magic", members[name][10:], damaged(members[name], rng)))
    elif act == 4:
        members["Transformer/encoderblock_99999/LayerNorm_0/bias.npy"] = members[name]
    out = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(out, "w") as archive:
        warnings.simplefilter("ignore")  # of a member that is there twice
        for member, content in [*members.items(), *extra]:
            archive.writestr(member, content)
    return out.getvalue()


def _is_the_same(found, expected: dict, size) -> bool:
    """What was loaded has the parameters that were saved, every one of them finite; positions may be resized."""
    spec, params = found
    if size is not None:
        return (spec.image_size, type(size)) == (size, int)
    flat, right = (traverse_util.flatten_dict(tree, sep="/") for tree in (params, expected))
    return dataclasses.replace(spec, name=SPEC.name) == SPEC and all(
        np.array_equal(flat[name], right[name]) for name in vit.parameter_shapes(SPEC)
    )
