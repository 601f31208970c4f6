"""Training of small ViTs, of which one is shipped: ``python -m workbench.models.training --help``.

A ``Plan`` comes in; the parameters go out, and from the command a checkpoint with a card that says how it was made
and how accurate it is. ``plan`` has a recipe for each data set, ``images`` reads or draws the training set,
``augmentation`` changes it from step to step, ``loop`` takes the steps.
"""

from .loop import train
from .plan import RECIPES, Plan

__all__ = ["RECIPES", "Plan", "train"]
