"""The preprocessing of a model by name, from the config that it was published with, or written out key by key."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import WorkbenchError, one_of, path_of, refuse_unless, shown
from ..records import Preprocessing, decode_strictly
from ..records.values import conform
from .preprocessing import PRESETS

#: The files of a model's folder that are looked for, in this order.
NAMES = ("preprocessor_config.json", "config.json")
#: PIL's numbers of filters, which Hugging Face stores.
RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
_SCALE = 255.0
#: Keys of which Hugging Face's config has one.
_HUGGING_FACE = {"image_mean", "size", "do_resize"}
_FIELDS = {field.name for field in fields(Preprocessing)}


def read_preprocessing(source, size: int | None = None) -> Preprocessing:
    """Read how images become a model's input: the one way in which notebooks, commands and study files say it.

    Args:
        source: the name of a preset (``PRESETS``: vit_jax, augreg, deit, torchvision, clip, siglip, dinov2); or the
            path of ``preprocessor_config.json`` (Hugging Face) or ``config.json`` (timm), or of the folder that
            holds one; or what is in it as a mapping, such as timm's ``model.pretrained_cfg``; or the fields of a
            ``Preprocessing`` as a mapping, ``{"mean": [...], "std": [...], "resize": 256}``, those left out with
            their defaults; or a ``Preprocessing``.
        size: pixels along an edge that the model takes, for what does not say it; 224 when left out.

    Returns:
        The preprocessing, mean and std on the 0...255 scale; of a config in torch's layout, NCHW.

    Raises:
        WorkbenchError: there is no such preset or file, a key or value is not allowed, or it asks for what a
            ``Preprocessing`` cannot do: images that are not square, or padding.
    """
    if isinstance(source, Preprocessing):
        return source
    own = isinstance(source, Mapping) and bool(source) and set(source) <= _FIELDS
    if own and not isinstance(source.get("size"), Mapping):  # Hugging Face's size may be a table
        return decode_strictly(
            Preprocessing, {"size": 224 if size is None else size, **source}, "The preprocessing"
        )
    if isinstance(source, str) and source in PRESETS:
        return PRESETS[source](224 if size is None else size)
    given = isinstance(source, Mapping)
    config, name = (source, "The preprocessing") if given else _read(path_of("A config", source))
    inner = config.get("pretrained_cfg", config)
    if isinstance(inner, Mapping) and "input_size" in inner:
        return _of_timm(inner, name)
    if _HUGGING_FACE & set(config):
        return _of_hugging_face(config, name)
    raise WorkbenchError(
        f"{name} does not say how images are prepared",
        why=f"it has {shown(sorted(map(str, config))[:8])}, and neither input_size (timm) nor image_mean",
        remedy="give preprocessor_config.json (Hugging Face) or timm's config.json, or write a Preprocessing",
    )


def from_text(text: str) -> str | Mapping | None:
    """What a person wrote for ``read_preprocessing``: nothing, a name or a path, or a table as JSON.

    Raises:
        WorkbenchError: it begins as a table and is no JSON.
    """
    text = text.strip()
    if not text.startswith("{"):
        return text or None
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WorkbenchError(
            "The preprocessing begins as a table, and is none",
            why=str(error),
            remedy='write a preset, a path, or JSON such as {"mean": [124, 116, 104], "std": [58, 57, 57]}',
        ) from error


def _read(path: Path) -> tuple[Mapping, str]:
    file = next((path / name for name in NAMES if (path / name).is_file()), path) if path.is_dir() else path
    try:
        config = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None
    except (OSError, ValueError, RecursionError) as error:
        raise WorkbenchError(f"{file} cannot be read", why=str(error)[:400], remedy="get it again") from error
    if not isinstance(config, Mapping):
        raise WorkbenchError(
            f"{path} holds no preprocessing",
            why="there is no such file" if config is None else f"it is {shown(config)}",
            remedy=f"give the path of {' or '.join(NAMES)}, or a preset: {', '.join(PRESETS)}",
        )
    return config, str(file)


def _value(config: Mapping, key: str, kind, default: Any, name: str):
    value = config.get(key, default)
    return default if value is None else conform(kind, value, f"{key} in {name}")


def _channels(config: Mapping, key: str, default: float, scale: float, name: str) -> tuple[float, float, float]:
    """Mean or std of the three channels on the 0...255 scale."""
    red, green, blue = _value(config, key, tuple[float, float, float], (default,) * 3, name)
    return round(red * scale, 6), round(green * scale, 6), round(blue * scale, 6)


def _of_timm(config: Mapping, name: str) -> Preprocessing:
    """As ``timm.data.transforms_factory.transforms_imagenet_eval`` reads it."""
    channels, height, width = conform(tuple[int, int, int], config["input_size"], f"input_size in {name}")
    mode = _value(config, "crop_mode", str, "center", name) or "center"
    one_of(f"crop_mode in {name}", mode, ("center", "squash"))
    share = _value(config, "crop_pct", float, 0.875, name)
    refuse_unless(
        channels == 3 and height == width and 0 < share <= 1,
        f"{name} asks for what cannot be prepared",
        why=f"input_size is {[channels, height, width]} and crop_pct {share}",
        remedy="only square images of three channels can be prepared, with a crop_pct of 1 or less",
    )
    mean, std = (_channels(config, key, default, _SCALE, name) for key, default in (("mean", 0.0), ("std", 1.0)))
    filter_ = _value(config, "interpolation", str, "bilinear", name)
    return Preprocessing(height, math.floor(height / share), mode == "center", filter_, mean, std, "NCHW")


def _of_hugging_face(config: Mapping, name: str) -> Preprocessing:
    """As the image processors of ``transformers`` read it."""
    for key in ("do_pad", "rescale_offset"):
        refuse_unless(
            not config.get(key),
            f"{name} asks for what cannot be prepared",
            why=f"it has {key}",
            remedy="prepare the images with the model's own processor, and give arrays",
        )
    resize, keep_aspect = _size(config, "size", name)
    crop, _ = _size(config, "crop_size", name) if _value(config, "do_center_crop", bool, False, name) else (None, 0)
    size = crop or resize
    refuse_unless(
        size is not None,
        f"{name} does not say the size of the images",
        why="it has neither size nor crop_size",
        remedy="write a Preprocessing",
    )
    resized = resize if _value(config, "do_resize", bool, True, name) else None
    factor = _value(config, "rescale_factor", float, 1 / _SCALE, name)
    scale = 1 / factor if _value(config, "do_rescale", bool, True, name) and factor > 0 else 1.0
    normalise = config if _value(config, "do_normalize", bool, True, name) else {}
    mean = _channels(normalise, "image_mean", 0.0, scale, name)
    std = _channels(normalise, "image_std", 1.0, scale, name)
    number = _value(config, "resample", int, 2, name)
    one_of(f"resample in {name}", number, tuple(RESAMPLE))
    whole = None if resized == size and not keep_aspect else resized
    return Preprocessing(size or 0, whole, keep_aspect, RESAMPLE[number], mean, std, "NCHW")


def _size(config: Mapping, key: str, name: str) -> tuple[int | None, bool]:
    """The edge, and whether it is that of the shorter side alone."""
    value = config.get(key)
    if isinstance(value, Mapping) and "shortest_edge" in value:
        return conform(int, value["shortest_edge"], f"shortest_edge in {name}"), True
    if isinstance(value, Mapping):
        height, width = (
            conform(int, value.get(edge), f"{edge} of {key} in {name}") for edge in ("height", "width")
        )
        refuse_unless(
            height == width,
            f"{name} asks for images that are not square",
            why=f"{key} is {width} x {height}",
            remedy="export the model for square images",
        )
        return height, False
    if value is None:
        return None, False
    shorter = "CLIP" in str(config.get("feature_extractor_type", config.get("image_processor_type", "")))
    return conform(int, value, f"{key} in {name}"), shorter and key == "size"
