"""The Flax ViT: its sizes, parameters, checkpoints and training.

Only this folder, ``graphs.export`` and ``graphs.trace`` use JAX. A published size or a vit_jax checkpoint comes in.
A ModelSpec with its parameters, logits, and sessions of the model itself in JAX and PyTorch go out; the sessions
are the baselines of every speed-up.
"""
