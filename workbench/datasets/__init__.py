"""Images and labels, and how they become a model's input.

A name (``shapes``, ``cifar10``) or a path (a folder with one folder per class, an .npz or .npy file) comes in. An
``ImageSet`` goes out: uint8 pixels, labels, names of classes, and the preprocessing that normalises the pixels.
``published`` downloads checkpoints and image sets.

Five lines read a folder of your own that has one folder per class::

    import workbench as wb
    from workbench.datasets import preprocessing

    mine = wb.images("photos", count=50, preprocessing=preprocessing.vit_jax(224))
    print(mine.classes, mine.pixels.shape, mine.skipped)
    x = mine.x
"""

from __future__ import annotations

from .image_set import ImageSet
from .loading import images, stream
from .preprocessing import normalise

__all__ = ["ImageSet", "images", "normalise", "stream"]
