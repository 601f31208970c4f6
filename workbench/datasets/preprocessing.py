"""From an image to a model's input: resize, crop and normalise, by a ``Preprocessing`` record."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..errors import one_of, refuse_unless
from ..records import Preprocessing
from .model_input import in_layout

#: What Pillow may decode of an image that a caller opened: formats of pixels, none that can start a program.
RASTER_FORMATS = ("JPEG", "MPO", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")
#: A resized image has at most this many pixels before its centre is cut out (Pillow's own limit for a file).
MOST_PIXELS = 89_478_485


def normalise(pixels: np.ndarray, preprocessing: Preprocessing | None = None) -> np.ndarray:
    """Pixels as a model takes them: ``(pixel - mean) / std`` in the record's layout, or as they are.

    Args:
        pixels: (N, H, W, 3) uint8.
        preprocessing: mean, std and layout; None is vit_jax's (x - 127.5) / 127.5 in NHWC.

    Returns:
        float32, or uint8 where the graph normalises; (N, H, W, 3), or (N, 3, H, W) where the layout is NCHW.

    Raises:
        WorkbenchError: the pixels have another type, shape or size, or there are none.
    """
    check_pixels(pixels)
    if preprocessing is None:
        return (pixels.astype(np.float32) - np.float32(127.5)) / np.float32(127.5)
    height, width = pixels.shape[1:3]
    refuse_unless(
        height == width == preprocessing.size,
        "The images do not have the size that the model takes",
        why=f"they are {width} x {height} pixels and the preprocessing has {preprocessing.size}",
        remedy="prepare them with datasets.preprocessing.prepare, or give a preprocessing of their size",
    )
    if preprocessing.input == "uint8":
        return in_layout(pixels, preprocessing.layout)
    mean, std = (np.asarray(values, np.float32) for values in (preprocessing.mean, preprocessing.std))
    x = (pixels.astype(np.float32) - mean) / std
    return in_layout(x, preprocessing.layout)


def as_float(images: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """A graph's images as the model itself takes them: pixels are normalised, float32 images stay as they are.

    Args:
        images: (N, H, W, 3), uint8 or normalised float32.
        preprocessing: mean and std of the pixels; its layout does not matter.
    """
    if images.dtype != np.uint8:
        return images
    return normalise(images, replace(preprocessing, input="float32", layout="NHWC"))


def check_pixels(pixels: np.ndarray) -> None:
    """Raise a ``WorkbenchError`` unless ``pixels`` are one or more RGB images: (N, H, W, 3) uint8."""
    found = f"{type(pixels).__name__} of shape {np.shape(pixels)} and type {getattr(pixels, 'dtype', None)}"
    refuse_unless(
        isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8,
        "Pixels must be a NumPy array of uint8",
        why=f"they are a {found}",
        remedy="give 0...255 values as uint8; float images in 0...1 are multiplied by 255 and rounded first",
    )
    refuse_unless(
        pixels.ndim == 4 and pixels.shape[-1] == 3 and pixels.shape[1] > 0 and pixels.shape[2] > 0,
        "Pixels must have the shape (images, height, width, 3)",
        why=f"they are a {found}",
        remedy="put a single image into a batch with pixels[None]; turn grey images into RGB first",
    )
    refuse_unless(len(pixels) > 0, "There are no images", why=f"they are a {found}", remedy="give one or more")


def prepare(image, preprocessing: Preprocessing) -> np.ndarray:
    """Resize an image and cut out its centre, as torchvision's ``Resize`` and ``CenterCrop`` do on Pillow images.

    When an image is made smaller, Pillow's filters average over more pixels (antialiasing). TensorFlow's filters in
    vit_jax's pipeline do not: ``antialias=False`` resizes as they do.

    Args:
        image: a Pillow image, or pixels (H, W, 3) uint8. A Pillow image is first rotated by its EXIF orientation.
        preprocessing: resize, keep_aspect, interpolation, antialias and size.

    Returns:
        Pixels (size, size, 3) uint8, to be normalised.

    Raises:
        WorkbenchError: the pixels are of another type or shape, the image is of a format that can hold a program,
            or it is so narrow that the resized image would not fit in memory.
    """
    from PIL import Image, ImageOps

    if isinstance(image, Image.Image):
        one_of("format of an image", getattr(image, "format", None), (None, *RASTER_FORMATS))
        image = _rgb(ImageOps.exif_transpose(image))
    else:
        check_pixels(np.asarray(image)[None])
        image = Image.fromarray(image)
    edge, size = preprocessing.resize or preprocessing.size, preprocessing.size
    shape = _fit(image.size, edge) if preprocessing.keep_aspect else (edge, edge)
    refuse_unless(
        shape[0] * shape[1] <= MOST_PIXELS,
        "The image is too large for this preprocessing",
        why=f"its {image.size[0]} x {image.size[1]} pixels would become {shape[0]} x {shape[1]}",
        remedy="leave it out, or cut it; a smaller resize or keep_aspect=False needs less memory",
    )
    if shape != image.size:
        image = _resized(image, shape, preprocessing)
    left, top = (round((length - size) / 2) for length in shape)
    return np.asarray(image.crop((left, top, left + size, top + size)))


def _resized(image, shape: tuple[int, int], preprocessing: Preprocessing):
    """A Pillow image at another width and height."""
    from PIL import Image

    if preprocessing.antialias:
        return image.resize(shape, Image.Resampling[preprocessing.interpolation.upper()])
    along = _nearest if preprocessing.interpolation == "nearest" else _between
    pixels = along(along(np.asarray(image), shape[1], axis=0), shape[0], axis=1)
    return Image.fromarray(np.rint(pixels).astype(np.uint8))


def _nearest(pixels: np.ndarray, length: int, axis: int) -> np.ndarray:
    """One axis by the nearest pixel, as ``tf.image.resize(method="nearest")`` chooses it."""
    there = pixels.shape[axis]
    return pixels.take(((np.arange(length) + 0.5) * there / length).astype(np.int64), axis)


def _between(pixels: np.ndarray, length: int, axis: int) -> np.ndarray:
    """One axis by linear interpolation between two neighbours, as ``tf.image.resize`` does."""
    there = pixels.shape[axis]
    place = (np.arange(length) + 0.5) * there / length - 0.5
    low = np.floor(place).astype(np.int64)
    share = (place - low).astype(np.float32).reshape(-1, *[1] * (pixels.ndim - axis - 1))
    first, second = (pixels.take(index.clip(0, there - 1), axis).astype(np.float32) for index in (low, low + 1))
    return first + share * (second - first)


def _fit(shape: tuple[int, int], edge: int) -> tuple[int, int]:
    """Width and height with the shorter edge at ``edge``; the longer one is rounded down, as torchvision does."""
    short = min(shape)
    width, height = (edge if length == short else int(edge * length / short) for length in shape)
    return width, height


def _rgb(image):
    """The image with three channels of 8 bits. Pillow's own conversion clips 16-bit grey at 255; this scales it."""
    if image.mode.startswith("I;16"):
        from PIL import Image

        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


# The preprocessing with which published models were evaluated, on the 0...255 scale.

#: 255 x (0.485, 0.456, 0.406) and 255 x (0.229, 0.224, 0.225).
IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
#: 255 x (0.48145466, 0.4578275, 0.40821073) and 255 x (0.26862954, 0.26130258, 0.27577711), rounded to six places.
CLIP_MEAN, CLIP_STD = (122.770938, 116.746013, 104.093736), (68.500533, 66.632158, 70.323163)


def vit_jax(size: int = 224) -> Preprocessing:
    """ViT and AugReg checkpoints as vit_jax evaluates them: a plain resize, (x - 127.5) / 127.5.

    The resize is bilinear without antialiasing, as ``tf.image.resize`` does it. Source:
    ``vit_jax/input_pipeline.py`` in github.com/google-research/vision_transformer.
    """
    return Preprocessing(size=size, antialias=False)


def augreg(size: int = 224) -> Preprocessing:
    """AugReg checkpoints as timm evaluates them: bicubic, a crop of 0.9 (all of it at 384), the same mean and std.

    Source: ``crop_pct`` and ``interpolation`` in timm's ``vision_transformer.py``.
    """
    resize = size if size >= 384 else int(size / 0.9)
    return Preprocessing(size=size, resize=resize, keep_aspect=True, interpolation="bicubic", layout="NCHW")


def deit(size: int = 224) -> Preprocessing:
    """DeiT: the shorter edge to 256/224 of the size, bicubic, a centre crop, ImageNet's mean and std.

    Source: ``build_transform`` in ``datasets.py`` of github.com/facebookresearch/deit.
    """
    resize = int(256 / 224 * size)
    return Preprocessing(size, resize, True, "bicubic", IMAGENET_MEAN, IMAGENET_STD, "NCHW")


def torchvision(size: int = 224, resize: int = 256) -> Preprocessing:
    """torchvision's ViTs (``IMAGENET1K_V1``): the shorter edge to 256, bilinear, a centre crop of 224.

    Source: ``ImageClassification`` in ``torchvision/transforms/_presets.py``.
    """
    return Preprocessing(size, resize, True, "bilinear", IMAGENET_MEAN, IMAGENET_STD, "NCHW")


def clip(size: int = 224) -> Preprocessing:
    """OpenAI's CLIP and its followers: the shorter edge to the size, bicubic, a centre crop, CLIP's mean and std.

    Source: ``_transform`` in ``clip/clip.py`` of github.com/openai/CLIP.
    """
    return Preprocessing(size, size, True, "bicubic", CLIP_MEAN, CLIP_STD, "NCHW")


def siglip(size: int = 224) -> Preprocessing:
    """SigLIP: a plain bicubic resize, (x - 127.5) / 127.5.

    Source: ``preprocessor_config.json`` of google/siglip-base-patch16-224 on Hugging Face.
    """
    return Preprocessing(size, interpolation="bicubic", layout="NCHW")


def dinov2(size: int = 224) -> Preprocessing:
    """DINOv2: the shorter edge to 256/224 of the size, bicubic, a centre crop, ImageNet's mean and std.

    Source: ``make_classification_eval_transform`` in ``dinov2/data/transforms.py`` of
    github.com/facebookresearch/dinov2.
    """
    return Preprocessing(size, int(256 / 224 * size), True, "bicubic", IMAGENET_MEAN, IMAGENET_STD, "NCHW")


#: Name of a preset -> the function of the size that makes it.
PRESETS = {each.__name__: each for each in (vit_jax, augreg, deit, torchvision, clip, siglip, dinov2)}
