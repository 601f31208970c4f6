"""Position embeddings for another number of tokens: what lets a checkpoint take images of another size."""

from __future__ import annotations

import numpy as np
import scipy.ndimage


def resize_positions(embedding: np.ndarray, tokens: int) -> np.ndarray:
    """Resize position embeddings as vit_jax does: linear ``scipy.ndimage.zoom`` on the grid, the cls row unchanged.

    Args:
        embedding: (1, S, D); a square grid, after one row for the class token where there is one.
        tokens: the length wanted, of the same kind.

    Returns:
        (1, tokens, D) float32.
    """
    rows = embedding.shape[1]
    first = rows - int(rows**0.5 + 1e-9) ** 2  # 1 where there is a class token, else 0
    old, new = int((rows - first) ** 0.5 + 0.5), int((tokens - first) ** 0.5 + 0.5)
    grid = embedding[0, first:].reshape(old, old, -1)
    zoomed = scipy.ndimage.zoom(grid, (new / old, new / old, 1), order=1).reshape(1, new * new, -1)
    return np.concatenate([embedding[:, :first], zoomed], axis=1).astype(np.float32)
