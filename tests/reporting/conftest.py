"""The study of a linear model that ``tests/studies`` uses."""

from tests.studies.conftest import graph, images, labels, recipes, weights

__all__ = ["graph", "images", "labels", "recipes", "weights"]
