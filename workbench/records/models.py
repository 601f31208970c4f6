"""The shape of a model, and how images become its input."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import one_of, refuse_unless, shown
from .checks import positive
from .values import check_fields

CLASSIFIERS = ("token", "gap")
#: Limits that no model comes near; beyond them memory or time run out before an error can say why.
MOST_BLOCKS, MOST_TOKENS, MOST_CHANNELS, MOST_PIXELS_AN_EDGE = 4096, (1 << 18) + 1, 1 << 24, 1 << 16
#: What a graph takes: normalised images, or pixels that it normalises itself.
INPUTS = ("float32", "uint8")


@dataclass(frozen=True)
class ModelSpec:
    """The shape of a Vision Transformer, which vit_jax calls a config.

    Attributes:
        image_size: pixels along an edge.
        patch: pixels along an edge of a patch.
        width: channels of a token.
        depth: encoder blocks.
        mlp: channels between the two layers of the MLP.
        classifier: ``token`` reads the class token, ``gap`` the mean of all tokens.
        representation: the width of the tanh layer before the head; None without such a layer.
        extra_tokens: learnt tokens beside the class token and the patches: registers (arXiv:2309.16588), or the
            distillation token. Imported models have them; the JAX model has none.
    """

    name: str
    image_size: int
    patch: int
    width: int
    depth: int
    heads: int
    mlp: int
    classes: int
    classifier: str = "token"
    representation: int | None = None
    extra_tokens: int = 0

    def __post_init__(self):
        positive(self, "image_size", "patch", most=MOST_PIXELS_AN_EDGE)
        positive(self, "depth", most=MOST_BLOCKS)
        positive(self, "width", "heads", "mlp", "classes", most=MOST_CHANNELS)
        if self.representation is not None:
            positive(self, "representation", most=MOST_CHANNELS)
        check_fields(self)
        one_of("classifier", self.classifier, CLASSIFIERS)
        refuse_unless(
            self.image_size % self.patch == 0,
            f"{self.name} cannot cut its images into patches",
            why=f"{self.image_size} pixels are no multiple of the patch of {self.patch}",
            remedy="choose an image size that the patch divides",
        )
        refuse_unless(
            self.width % self.heads == 0,
            f"{self.name} cannot share its width among its heads",
            why=f"a width of {self.width} is no multiple of {self.heads} heads",
            remedy="choose a number of heads that divides the width",
        )
        refuse_unless(
            self.extra_tokens >= 0,
            "extra_tokens must be 0 or more",
            why=f"it is {self.extra_tokens}",
            remedy="give the number of registers and distillation tokens",
        )
        refuse_unless(
            self.tokens <= MOST_TOKENS,
            f"{self.name} would have too many tokens",
            why=f"{self.image_size} pixels in patches of {self.patch} are {self.tokens:,} tokens",
            remedy=f"choose a smaller image or a larger patch: at most {MOST_TOKENS:,} tokens",
        )

    @property
    def grid(self) -> int:
        """Patches along one edge of the image."""
        return self.image_size // self.patch

    @property
    def tokens(self) -> int:
        """Length of the sequence that the encoder sees, the class token and extra tokens included."""
        return self.grid**2 + (self.classifier == "token") + self.extra_tokens

    @property
    def head_size(self) -> int:
        """Channels per attention head."""
        return self.width // self.heads


@dataclass(frozen=True)
class Preprocessing:
    """How an image file becomes a model's input. It is part of every graph.

    The image is resized so that its shorter edge (``keep_aspect``) or both edges have ``resize`` pixels, the
    centre ``size`` x ``size`` is cut out, and ``(pixel - mean) / std`` is computed on 0...255 values.
    The defaults are a plain resize and (x - 127.5) / 127.5. ``antialias=False`` resizes as TensorFlow and vit_jax
    do: bilinear between two neighbours, also where an image is made smaller. Where ``input`` is ``uint8``, the
    graph itself normalises, and its input is the pixels.
    """

    size: int
    resize: int | None = None
    keep_aspect: bool = False
    interpolation: str = "bilinear"
    mean: tuple[float, float, float] = (127.5, 127.5, 127.5)
    std: tuple[float, float, float] = (127.5, 127.5, 127.5)
    layout: str = "NHWC"
    classes: tuple[str, ...] = ()
    input: str = "float32"
    antialias: bool = True

    def __post_init__(self):
        positive(self, "size", most=MOST_PIXELS_AN_EDGE)
        if self.resize is not None:
            positive(self, "resize", most=MOST_PIXELS_AN_EDGE)
        for name in ("mean", "std"):
            values = getattr(self, name)
            refuse_unless(
                isinstance(values, tuple | list) and len(values) == 3,
                "Mean and std must be three numbers each, std above zero",
                why=f"{name} is {shown(values)}",
                remedy="give them on the 0...255 scale",
            )
        check_fields(self)
        one_of("input", self.input, INPUTS)
        one_of("interpolation", self.interpolation, ("nearest", "bilinear", "bicubic", "lanczos"))
        one_of("layout", self.layout, ("NHWC", "NCHW"))
        refuse_unless(
            self.resize is None or self.resize >= self.size,
            "The crop must fit in the resized image",
            why=f"the image is resized to {self.resize} and cropped to {self.size}",
            remedy="give a resize of at least the crop size, or None",
        )
        refuse_unless(
            all(s > 0 for s in self.std),
            "Mean and std must be three numbers each, std above zero",
            why=f"they are {self.mean} and {self.std}",
            remedy="give them on the 0...255 scale",
        )
        refuse_unless(
            self.antialias or self.interpolation in ("nearest", "bilinear"),
            "Only nearest and bilinear resize without antialiasing",
            why=f"interpolation is {self.interpolation!r}",
            remedy="leave antialias out, or choose bilinear as vit_jax does",
        )
