"""Training of the ViT that is shipped: ``python -m workbench.models.training --help``.

A ``Plan`` comes in; the parameters go out, and from the command a checkpoint with a card that says how it was made
and how accurate it is. ``images`` draws the training set, ``loop`` takes the steps.
"""

from .loop import Plan, train

__all__ = ["Plan", "train"]
