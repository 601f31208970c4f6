"""Choose a size of ViT and an image size, and see how the counted cost of attention and MLP grows."""

from __future__ import annotations

import dataclasses

import ipywidgets as widgets
import pandas as pd

from ..models.sizes import SIZES, model_spec
from ..performance.cost import cost
from ..performance.crossover import attention_overtakes_mlp, tokens_at
from ..performance.parts import PARTS, part_of
from ..progress import Progress
from ..records import ModelSpec
from ..reporting import figures
from . import controls
from .choices import Resolution
from .panel import Panel

#: The slider's ends, in patches along an edge: 32 to 768 pixels with patches of 16.
FEWEST_PATCHES, MOST_PATCHES = 2, 48
#: Image sizes at which the curves are counted, about.
POINTS = 24


def resolution_panel(chosen: Resolution | None = None) -> Panel:
    """Choose a model and an image size; the curves and the mark move with them.

    ``panel.result()`` is the count at that size: ``part``, ``GMAC`` for one image, and ``share`` of all.

    Args:
        chosen: what the panel starts from.

    Raises:
        WorkbenchError: the model's patch does not divide the image size.
    """
    seed = chosen or Resolution()
    most = MOST_PATCHES * seed.spec.patch
    rows = {
        "model": controls.dropdown("model", "Model", [(name, name) for name in SIZES], seed.model),
        "size": controls.whole_slider("image-size", "Edge of the image (pixels)", seed.image_size, 0, most),
    }
    chart = controls.with_class(controls.Chart(), "chart")
    sentence = controls.with_class(widgets.HTML(), "sentence")

    def follow(change=None) -> None:
        """Let the slider move by whole patches of the chosen model."""
        patch, slider = model_spec(rows["model"].value).patch, rows["size"]
        with slider.hold_trait_notifications():
            size = min(max(round(slider.value / patch), FEWEST_PATCHES), MOST_PATCHES) * patch
            slider.min, slider.max, slider.step = 0, MOST_PATCHES * patch, patch
            slider.value, slider.min = size, FEWEST_PATCHES * patch

    follow()
    rows["model"].observe(follow, names="value")

    def read() -> Resolution:
        patch = model_spec(rows["model"].value).patch
        return Resolution(rows["model"].value, rows["size"].value // patch * patch)

    def advise(chosen: Resolution) -> tuple[()]:
        chart.draw(_figure(chosen))
        sentence.value = controls.paragraph(said(chosen))
        return ()

    def count(chosen: Resolution, progress: Progress) -> pd.DataFrame:
        return counted(chosen.spec)

    return Panel(
        "resolution",
        list(rows.values()),
        read,
        count,
        view=(chart, sentence),
        verb="Count this size",
        advise=advise,
        show=lambda frame: widgets.HTML(controls.table(frame)),
    )


def counted(spec: ModelSpec) -> pd.DataFrame:
    """MAC of one image by part: ``part``, ``GMAC`` (10⁹) and ``share`` of all, 0...1."""
    frame = cost(spec).frame()
    macs = frame["macs"].groupby(frame["role"].map(part_of)).sum().reindex(PARTS)
    return pd.DataFrame(
        {"part": macs.index, "GMAC": macs.to_numpy() / 1e9, "share": (macs / macs.sum()).to_numpy()}
    )


def said(chosen: Resolution) -> str:
    """The chosen size in pixels and tokens, what attention takes there, and where it overtakes the MLP."""
    spec, share = chosen.spec, counted(chosen.spec).set_index("part")["share"]
    crossover = attention_overtakes_mlp(spec)
    return (
        f"{chosen.image_size:,} pixels make {tokens_at(spec, chosen.image_size):,} tokens: attention needs "
        f"{share['attention']:.0%} of all MAC, the MLP {share['mlp']:.0%}. In {spec.name}, attention overtakes the "
        f"MLP beyond {crossover.tokens:,.0f} tokens, an image of {crossover.image_size:,.0f} pixels."
    )


def _figure(chosen: Resolution):
    spec = chosen.spec
    crossover = attention_overtakes_mlp(spec).image_size
    edge = max(int(1.2 * crossover), chosen.image_size) // spec.patch
    sizes = range(FEWEST_PATCHES * spec.patch, (edge + 1) * spec.patch, max(1, edge // POINTS) * spec.patch)
    curves = pd.concat(
        counted(dataclasses.replace(spec, image_size=size)).assign(image_size=size, kind="predicted")
        for size in sizes
    )
    figure = figures.attention_cost(curves, "GMAC", crossover, f"{spec.name}: counted cost of one image")
    return figures.marked_size(figure, chosen.image_size, tokens_at(spec, chosen.image_size))
