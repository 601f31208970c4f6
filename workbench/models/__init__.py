"""The Flax ViT, its checkpoints, its cost. The only place with JAX."""
